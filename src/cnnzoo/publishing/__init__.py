"""A collection as a data set that others can find, cite, check and load: for the Hugging Face Hub, Zenodo or a server.

The folder holds the collection byte for byte, the same rows as Parquet (one row per checkpoint, a file set per half),
a data card with the Hub's metadata, Croissant metadata, a citation, the licence, and the SHA-256 of every file.
`cnnzoo import-zoo` takes such a folder back.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.publishing.card import citation, data_card, licence_text
from cnnzoo.publishing.croissant import croissant
from cnnzoo.publishing.facts import Facts, Release
from cnnzoo.publishing.parquet import write_parquet
from cnnzoo.zoo import Collection, check, check_readable, claims_our_form
from cnnzoo.zoo import format as published
from cnnzoo.zoo.shards import Origin

__all__ = ["Facts", "Published", "Release", "publish"]

REQUIRED = (published.WEIGHTS, published.LAYOUT, published.METRICS, published.SPLIT)
OPTIONAL = (published.DIVERGED,)
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


def publish(collection: Path, folder: Path, release: Release, origins: Sequence[Origin] = ()) -> Published:
    """Write the collection in a folder as a data set to `folder`, which must be new or empty; whole or not at all.

    `origins` are those of its shards, where they are known: the data card says how the networks were trained. Raises
    `CnnzooError` if the collection is missing or damaged, has no split, or if the folder holds something.
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
    facts = Facts.of(zoo, _diverged(collection))
    with atomic_folder(folder) as target:
        for name in (*REQUIRED, *OPTIONAL):
            if (collection / name).is_file():
                shutil.copyfile(collection / name, target / name)
        write_parquet(zoo, target / "data")
        files = {path.relative_to(target).as_posix(): _sha256(path) for path in _files(target)}
        (target / "croissant.json").write_text(croissant(facts, release, files), encoding="utf-8")
        (target / "README.md").write_text(data_card(facts, release, sorted(files), origins), encoding="utf-8")
        (target / "CITATION.cff").write_text(citation(facts, release), encoding="utf-8")
        (target / "LICENSE").write_text(licence_text(release), encoding="utf-8")
        sums = "".join(f"{_sha256(path)}  {path.relative_to(target).as_posix()}\n" for path in _files(target))
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _diverged(collection: Path) -> int | None:
    """Return how many networks diverged, None where the collection does not say."""
    path = collection / published.DIVERGED
    return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.is_file() else None
