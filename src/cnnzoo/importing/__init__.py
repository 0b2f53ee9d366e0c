"""Import: a published collection, as downloaded or as a folder, becomes a collection of the project.

Files in the published form are taken byte for byte. Others are read leniently and written in that form; what was
changed is said. A split is drawn where none came with it. The collection appears under its name, and params.yaml
defines it, only when everything is there and checked.

Shape letters: R rows of the matrix.
"""

import gzip
import zlib
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.locks import lock_or_fail
from cnnzoo.core.progress import say
from cnnzoo.features.names import check_feature_sets
from cnnzoo.importing.source import CHUNK_BYTES, stem
from cnnzoo.importing.staging import Staging
from cnnzoo.network.layout import Architecture
from cnnzoo.zoo import Collection, check, claims_our_form, write_split
from cnnzoo.zoo import format as published
from cnnzoo.zoo.card import describe
from cnnzoo.zoo.lenient import Readable
from cnnzoo.zoo.manifest import read_name, read_trainings

__all__ = ["Import", "import_zoo"]

SHOWN_PROBLEMS = 10
METRICS_ROW_BYTES, METRICS_MOST_BYTES = 2048, 10**9
"""A row of metrics has some 300 bytes, a published collection 270,000 rows; what unpacks to far more is none."""


@dataclass(frozen=True)
class Import:
    """What has become a collection of the project."""

    name: str
    folder: Path
    dataset: str
    networks: int
    checkpoints: int


def import_zoo(artifacts: Artifacts, source: Path, name: str | None = None, dataset: str | None = None) -> Import:
    """Make an archive (tar, plain or compressed) or a folder in the published format a collection of the project.

    `name` is by default the archive's, `dataset` what params.yaml, the name or the metrics say. An import that was cut
    off goes on from the files that it had finished. Raises `CnnzooError` if the name is taken, or if the source is
    unsafe, damaged or not a collection; params.yaml and all collections are then as before.
    """
    params = config.load(artifacts.params)
    check_feature_sets(params, str(artifacts.params))
    if not source.is_dir() and not source.is_file():
        raise CnnzooError(f"{source}: no such file or folder; expected a published archive such as mnist.tar.xz")
    name = _checked_name(stem(source) if name is None else name)
    if dataset is not None:
        _checked_dataset(dataset, "--dataset")
    with _only_import(artifacts, name):
        _refuse_taken(artifacts, params, name)
        return _import(artifacts, params, source, name, dataset)


def _import(artifacts: Artifacts, params: config.Params, source: Path, name: str, dataset: str | None) -> Import:
    staging = Staging(artifacts.zoo(name))
    try:
        given = staging.fill(source)
        zoo = _checked_collection(staging.folder, source, drawn=(params.seed, name, published.SPLIT not in given))
    except CnnzooError:
        staging.discard()  # the same source would fail again
        raise
    entry = _definition(params, zoo, name, dataset)
    if name not in params.imported:
        config.add_imported(artifacts.params, name, entry, check_feature_sets)
    staging.publish()
    return Import(name, staging.target, entry.dataset, len(zoo.final()), len(zoo.weights))


def _only_import(artifacts: Artifacts, name: str) -> AbstractContextManager[None]:
    """Hold the lock of a collection's import."""
    lock = artifacts.unfinished(name) / "import.lock"
    return lock_or_fail(lock, f"another import of `{name}` is under way", "Wait for it, or end it.")


def _checked_name(name: str) -> str:
    try:
        return TypeAdapter(config.CollectionName).validate_python(name)
    except ValidationError as error:
        raise CnnzooError(
            f"`{name}` cannot name a collection: lower-case letters, digits and `_`, the first no `_`; give --name NAME"
        ) from error


def _refuse_taken(artifacts: Artifacts, params: config.Params, name: str) -> None:
    """Raise `CnnzooError` if the name is in use. One that params.yaml defines as imported may lack its files."""
    if name in params.populations:
        raise CnnzooError(f"`{name}` is one of `populations` in {artifacts.params}; choose another with --name NAME")
    if artifacts.zoo(name).exists():
        raise CnnzooError(
            f"{artifacts.zoo(name)}: there is a collection of that name already. Choose another with --name NAME, or "
            "move that folder away to import again."
        )


def _checked_dataset(dataset: str, origin: str) -> config.Dataset:
    try:
        return TypeAdapter[config.Dataset](config.Dataset).validate_python(dataset)
    except ValidationError as error:
        allowed = ", ".join(get_args(config.Dataset))
        raise CnnzooError(
            f"{origin}: `{dataset}` is no data set of this project. Give --dataset with one of {allowed}."
        ) from error


def _checked_collection(folder: Path, source: Path, drawn: tuple[int, str, bool]) -> Collection:
    """Check all files, draw a split if `drawn` (seed, name, whether) says so, and open the collection."""
    say(f"checking {source.name}")
    _check_unpacked_metrics(folder, source)
    seed, name, wanted = drawn
    _normalise(folder, source)
    if wanted:
        _draw_split(folder, seed, name)
    if problems := check(folder):
        shown = [f"  - {problem.removeprefix(f'{folder}/')}" for problem in problems[:SHOWN_PROBLEMS]]
        more = [f"  and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
        raise CnnzooError(
            "\n".join([f"{source}: not a sound collection in the published format; get another copy", *shown, *more])
        )
    zoo = Collection.open(folder)
    architecture = zoo.layout.architecture
    if architecture != Architecture(architecture.num_units, architecture.num_layers):
        raise CnnzooError(
            f"{source}: networks of {architecture.num_channels} input channels and {architecture.num_classes} classes; "
            "collections of this project have 1 (the mean over colours) and 10"
        )
    if not len(zoo.final("train")):
        raise CnnzooError(
            f"{source}: {len(zoo.final())} network; at least 2 are needed, to train on one and test on one"
        )
    describe(folder, read_name(folder) or name, read_trainings(folder))  # a manifest that came along stays as it is
    return zoo


def _normalise(folder: Path, source: Path) -> None:
    """Write the files in the published form if they are not in it, and say what was changed."""
    if claims_our_form(folder):
        return
    (folder / published.MANIFEST).unlink(missing_ok=True)  # somebody else's, or of files that are now rewritten
    found = Readable.of(folder)
    found.write(folder)
    if found.changes:
        say(
            "\n".join(
                [f"{source.name}: read, and written in the published form:", *(f"  - {c}" for c in found.changes)]
            )
        )


def _check_unpacked_metrics(folder: Path, source: Path) -> None:
    """Raise `CnnzooError` if metrics.csv.gz unpacks to far more than its rows need; the check finds other damage."""
    rows = len(published.map_weights(folder / published.WEIGHTS))
    most, count = min(METRICS_ROW_BYTES * (rows + 1), METRICS_MOST_BYTES), 0
    with suppress(OSError, EOFError, zlib.error), gzip.open(folder / published.METRICS) as file:
        while chunk := file.read(CHUNK_BYTES):
            count += len(chunk)
            if count > most:
                raise CnnzooError(
                    f"{source}: `{published.METRICS}` unpacks to more than {most:,} bytes, too many for {rows} rows of "
                    f"{published.WEIGHTS}"
                )


def _draw_split(folder: Path, seed: int, name: str) -> None:
    """Write split.csv; not for files that do not belong together: `check` reports those."""
    try:
        networks = Collection.open(folder).networks  # (R,)
    except CnnzooError:
        return
    if (np.diff(networks) >= 0).all():
        write_split(folder, networks, seed, name)


def _definition(params: config.Params, zoo: Collection, name: str, dataset: str | None) -> config.Imported:
    """Return the entry of params.yaml; raises `CnnzooError` if one is there that says otherwise."""
    defined = params.imported.get(name)
    entry = config.Imported(
        dataset=_dataset(zoo, name, dataset or (defined.dataset if defined else None)),
        num_units=zoo.layout.architecture.num_units,
        num_layers=zoo.layout.architecture.num_layers,
    )
    if defined not in {None, entry}:
        raise CnnzooError(
            f"`imported.{name}` in params.yaml says {defined}, this collection is {entry}; correct it there, or choose "
            "another name with --name NAME"
        )
    return entry


def _dataset(zoo: Collection, name: str, dataset: str | None) -> config.Dataset:
    if dataset is not None:
        return _checked_dataset(dataset, "--dataset")
    if name in get_args(config.Dataset):
        return _checked_dataset(name, "--name")
    found = [str(value) for value in zoo.metrics["config.dataset"].unique()]
    return _checked_dataset(", ".join(found), f"`config.dataset` in {published.METRICS}")
