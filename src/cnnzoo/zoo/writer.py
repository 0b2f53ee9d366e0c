"""Assemble: from cohort shards to a collection in the published format.

A pure function of recipes, shards and seed: the same bytes every time. Memory is bounded by one shard: the networks of
a shard are scattered across the matrix, so each network's block of rows is written to its place in the file. (A memory
map would do the same, but its dirty pages count as the process's own memory, and the matrix takes gigabytes.)

Shape letters: N networks of a shard, E checkpoint epochs, R rows of the matrix, P parameters, K networks kept.
"""

import csv
import errno
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.atomic import atomic_file, atomic_folder, write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import layout_of
from cnnzoo.zoo import format as published
from cnnzoo.zoo.card import describe
from cnnzoo.zoo.manifest import trainings_of
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import Shard, serving

_REMEDY = "Run `dvc repro train`: it trains what is missing and keeps the rest."


@dataclass(frozen=True)
class Assembled:
    """What went where: the first row of each network in the matrix, and which networks have none."""

    rows_per_network: int
    first_row: Mapping[int, int]
    """Network id -> its first row; its rows are `first_row ... first_row + rows_per_network - 1`."""
    diverged: Mapping[int, int]
    """Network id -> the epoch at which it diverged."""


@dataclass(frozen=True)
class _Source:
    """Where one wanted network comes from: the shard, and its place there."""

    recipe: Recipe
    shard: Shard
    index: int

    @property
    def diverged_epoch(self) -> int:
        return int(self.shard.diverged_epoch[self.index])


def assemble(shards: Sequence[Shard], recipes: Sequence[Recipe], collection: str, folder: Path, seed: int) -> Assembled:
    """Write the networks of `recipes` as a collection to `folder`, which appears whole or stays as it was.

    Networks in the shards that are not in `recipes` are ignored. Diverged networks get no rows; they are listed in
    diverged.csv. Raises `CnnzooError` if a wanted network is in no shard or was trained with another recipe, if all
    diverged, if a shard is damaged, or if the disk is full.
    """
    sources = _find(shards, recipes)
    epochs = _common_epochs(sources)
    finite = [source for source in sources if source.diverged_epoch < 0]
    diverged = [source for source in sources if source.diverged_epoch >= 0]
    if not finite:
        raise CnnzooError(
            f"all {len(diverged)} networks of `{collection}` diverged: a collection would have no rows. "
            "Lower the upper bound of `recipes.learning_rate` in params.yaml."
        )
    first_row = _first_rows(finite, len(epochs))
    try:
        with atomic_folder(folder) as temporary:
            _write_weights(temporary, finite, first_row, epochs)
            _write_metrics(temporary, finite, collection, epochs)
            write_text(temporary / published.LAYOUT, layout_of(finite[0].recipe.architecture).to_csv())
            write_text(temporary / published.DIVERGED, _diverged_text(diverged))
            networks = np.repeat(np.arange(len(finite), dtype=np.int64), len(epochs))
            published.write_split(temporary, networks, seed, collection, _groups(finite, len(epochs)))
            describe(temporary, collection, trainings_of(source.shard.origin for source in sources))
    except OSError as error:
        raise CnnzooError(
            f"{folder}: cannot be written ({error.strerror or error}); what was there before is untouched. "
            f"{_write_remedy(error, _matrix_bytes(finite, epochs))}"
        ) from error
    return Assembled(len(epochs), first_row, {source.recipe.network: source.diverged_epoch for source in diverged})


def _groups(finite: Sequence[_Source], rows_per_network: int) -> NDArray[np.int64] | None:
    """Return the group of each row (R,), None where networks do not come in groups."""
    groups = [source.recipe.group for source in finite]
    if None in groups:
        return None
    return np.repeat(np.array(groups, dtype=np.int64), rows_per_network)


def first_rows(shards: Sequence[Shard], recipes: Sequence[Recipe]) -> dict[int, int]:
    """Return where `assemble` puts each network: network id -> its first row. Diverged networks have none."""
    sources = _find(shards, recipes)
    finite = [source for source in sources if source.diverged_epoch < 0]
    return _first_rows(finite, len(_common_epochs(sources)))


def _first_rows(finite: Sequence[_Source], rows_per_network: int) -> dict[int, int]:
    return {source.recipe.network: position * rows_per_network for position, source in enumerate(finite)}


def _find(shards: Sequence[Shard], recipes: Sequence[Recipe]) -> list[_Source]:
    """Return the source of each wanted network, in network order."""
    if not recipes:
        raise CnnzooError("there are no recipes: nothing to assemble; run `dvc repro recipes`")
    served = serving(shards, recipes)
    sources: list[_Source] = []
    for recipe in sorted(recipes, key=lambda recipe: recipe.network):
        if sources and sources[-1].recipe.network == recipe.network:
            raise CnnzooError(f"network {recipe.network} occurs twice in the recipes; run `dvc repro recipes` again")
        if recipe not in served:
            raise CnnzooError(f"network {recipe.network} {_absence(recipe, shards)}. {_REMEDY}")
        sources.append(_Source(recipe, *served[recipe]))
    return sources


def _absence(recipe: Recipe, shards: Sequence[Shard]) -> str:
    """Say why no shard provides a network."""
    held = [other for shard in shards for other in shard.recipes if other.network == recipe.network]
    if not held:
        return "is in no shard"
    wanted, got = asdict(recipe), asdict(held[0])
    name = next(name for name in wanted if wanted[name] != got[name])
    return f"was trained with another recipe (`{name}` is {got[name]!r} in its shard, {wanted[name]!r} is wanted)"


def _common_epochs(sources: Sequence[_Source]) -> tuple[int, ...]:
    """Return the checkpoint epochs of all networks; raises `CnnzooError` if the networks do not fit one matrix."""
    first = sources[0].recipe
    for source in sources:
        recipe = source.recipe
        for name in ("num_units", "num_layers", "epochs", "epochs_between_checkpoints", "checkpoint_epochs"):
            if getattr(recipe, name) != getattr(first, name):
                raise CnnzooError(
                    f"network {recipe.network} has {name}={getattr(recipe, name)}, network {first.network} has "
                    f"{getattr(first, name)}: networks of a collection must share it. Run `dvc repro recipes` again."
                )
    return first.checkpoints


def _write_remedy(error: OSError, matrix_bytes: int) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The weights alone need {matrix_bytes / 1e9:.2f} GB: free some space or use another disk."
    return "Make sure that its parent is a folder that you may write to."


def _matrix_bytes(finite: Sequence[_Source], epochs: tuple[int, ...]) -> int:
    return len(finite) * len(epochs) * layout_of(finite[0].recipe.architecture).size * 4


def _write_weights(
    folder: Path, finite: Sequence[_Source], first_row: Mapping[int, int], epochs: tuple[int, ...]
) -> None:
    """Write weights.npy, shard after shard, each network's rows (E, P) at their place."""
    parameters = layout_of(finite[0].recipe.architecture).size
    shape = (len(finite) * len(epochs), parameters)
    order = published.row_order(epochs)
    with atomic_file(folder / published.WEIGHTS) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        start = file.tell()
        for sources in _by_shard(finite):
            weights = _read_weights(sources[0].shard, parameters)
            for source in sources:
                rows = weights[source.index, order]  # (E, P), a copy
                _check_finite(rows, source)
                file.seek(start + first_row[source.recipe.network] * parameters * 4)
                file.write(rows.astype("<f4", copy=False).data)
            del weights  # before the next shard is read: two at once would double the peak


def _by_shard(finite: Sequence[_Source]) -> Iterator[list[_Source]]:
    groups: dict[Path, list[_Source]] = {}
    for source in finite:
        groups.setdefault(source.shard.path, []).append(source)
    yield from groups.values()


def _read_weights(shard: Shard, parameters: int) -> NDArray[np.float32]:
    weights = shard.weights()
    expected = (len(shard.recipes), len(shard.epochs), parameters)
    if weights.shape != expected or weights.dtype != np.float32:
        raise CnnzooError(
            f"{shard.path}: its weights are {weights.dtype} {weights.shape}, expected float32 {expected}. "
            "Delete this file and run `dvc repro train`: only its networks are trained again."
        )
    return weights


def _check_finite(rows: NDArray[np.float32], source: _Source) -> None:
    if not np.isfinite(rows).all():
        raise CnnzooError(
            f"{source.shard.path}: network {source.recipe.network} has weights that are not finite, but is not marked "
            "as diverged. Delete this file and run `dvc repro train`: only its networks are trained again."
        )


def _write_metrics(folder: Path, finite: Sequence[_Source], collection: str, epochs: tuple[int, ...]) -> None:
    """Write metrics.csv.gz; no name and no time in the gzip header, so that equal content gives equal bytes."""
    with (
        atomic_file(folder / published.METRICS) as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        _write_metrics_text(text, finite, collection, epochs)


def _write_metrics_text(text: IO[str], finite: Sequence[_Source], collection: str, epochs: tuple[int, ...]) -> None:
    """Write the rows of metrics.csv.gz; floats keep all their digits."""
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("", *published.METRICS_COLUMNS, *published.optional_config(finite[0].recipe)))
    order = published.row_order(epochs)
    for source in finite:
        name = published.modeldir(collection, source.recipe.network)
        optional = published.optional_config(source.recipe)
        config = [value for column, value in source.recipe.config().items() if column not in optional]
        scores = [source.shard.metrics[column][source.index].tolist() for column in published.SCORE_COLUMNS]
        for position in order:
            epoch = epochs[position]
            row = (*config, name, epoch, *(score[position] for score in scores), epoch == epochs[-1])
            writer.writerow((published.checkpoint_name(name, epoch), *row, *optional.values()))


def _diverged_text(diverged: Sequence[_Source]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    optional = published.optional_config(diverged[0].recipe) if diverged else {}
    writer.writerow((*published.DIVERGED_COLUMNS, *optional))
    for source in diverged:
        config = source.recipe.config()
        values: list[Any] = [value for column, value in config.items() if column not in optional]
        writer.writerow((source.recipe.network, *values, source.diverged_epoch, *(config[name] for name in optional)))
    return text.getvalue()
