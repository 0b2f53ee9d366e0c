"""A collection as a data set that others can find, cite, check and load: for the Hugging Face Hub, Zenodo or a server.

The folder holds the collection byte for byte, the same rows as Parquet (one row per checkpoint, a file set per half),
a data card with the Hub's metadata, Croissant metadata, a citation, the licence, and the SHA-256 of every file.
`cnnzoo import-zoo` takes such a folder back.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.publishing.card import citation, data_card, licence_text
from cnnzoo.publishing.croissant import croissant
from cnnzoo.publishing.parquet import column_kinds, write_parquet
from cnnzoo.publishing.release import Release
from cnnzoo.zoo import Collection, check, check_readable, claims_our_form
from cnnzoo.zoo import format as published
from cnnzoo.zoo.facts import Facts
from cnnzoo.zoo.manifest import digest_of_file, read_trainings

__all__ = ["Published", "Release", "publish"]

REQUIRED = (published.WEIGHTS, published.LAYOUT, published.METRICS, published.SPLIT)
OPTIONAL = (published.DIVERGED, published.MANIFEST)
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Published:
    """What was written."""

    folder: Path
    rows: int
    networks: int
    files: tuple[str, ...]
    size: int
    """Of all files together, in bytes."""


def publish(collection: Path, name: str, folder: Path, release: Release) -> Published:
    """Write the collection `name` as a data set to `folder`, which must be new or empty; whole or not at all.

    `collection` is its folder. The data card says how the networks were trained, where the collection's manifest does.
    Raises `CnnzooError` if the collection is missing or damaged, has no split, or if the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CnnzooError(f"{folder}: must be a new or empty folder; nothing was written")
    if missing := [name for name in REQUIRED if not (collection / name).is_file()]:
        raise CnnzooError(f"{collection}: no {', '.join(missing)}; make the collection with `dvc repro assemble`")
    if problems := check(collection) if claims_our_form(collection) else check_readable(collection)[0]:
        raise CnnzooError(
            f"{collection}: damaged, not published:\n" + "\n".join(f"  - {line}" for line in problems[:10])
        )
    zoo = Collection.open(collection)
    facts = Facts.of(zoo, name)
    with atomic_folder(folder) as target:
        for file in (*REQUIRED, *OPTIONAL):
            if (collection / file).is_file():
                shutil.copyfile(collection / file, target / file)
        write_parquet(zoo, target / "data")
        files = {path.relative_to(target).as_posix(): digest_of_file(path) for path in _files(target)}
        (target / "croissant.json").write_text(croissant(facts, column_kinds(zoo), release, files), encoding="utf-8")
        card = data_card(facts, release, sorted(files), read_trainings(collection))
        (target / published.CARD).write_text(card, encoding="utf-8")
        (target / "CITATION.cff").write_text(citation(facts, release), encoding="utf-8")
        (target / "LICENSE").write_text(licence_text(release), encoding="utf-8")
        sums = "".join(f"{digest_of_file(path)}  {path.relative_to(target).as_posix()}\n" for path in _files(target))
        (target / SUMS).write_text(sums, encoding="utf-8")
    paths = _files(folder)
    return Published(
        folder,
        facts.rows,
        facts.networks,
        tuple(path.relative_to(folder).as_posix() for path in paths),
        sum(path.stat().st_size for path in paths),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
