"""Check a collection folder, ours or a published one, and report everything that is wrong, and where.

Published folders hold weights, layout and metrics. Ours, recognised by what else they hold, guarantee more:
a split without leakage, a list of the diverged networks, no time in the gzip header, finite weights in every row.

The matrix is streamed; the metrics are held in memory. Line numbers count from 1 and include the header, rows from 0.

Shape letters: R rows of the matrix, P parameters, K networks.
"""

import csv
import gzip
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.numbers import whole_number
from cnnzoo.network.hyperparameters import VALUES
from cnnzoo.network.layout import Layout
from cnnzoo.zoo import format as published
from cnnzoo.zoo.check_report import Report
from cnnzoo.zoo.lenient import Readable
from cnnzoo.zoo.manifest import check_manifest, has_manifest
from cnnzoo.zoo.recipes import checkpoint_epochs

BLOCK_BYTES = 16 * 2**20
SIZES = ("config.num_layers", "config.num_units", "config.epochs", "config.epochs_between_checkpoints")
WHOLE = (*SIZES, "config.random_seed", "step")
REAL = ("config.dropout", "config.init_std", "config.l2reg", "config.learning_rate", "config.train_fraction")
NUMBERS = (*WHOLE, *REAL, *published.SCORE_COLUMNS)
OPTIONAL_NUMBERS = (published.GROUP, "config.label_noise")
ALLOWED = {"config.activation": VALUES["activation"], "laststep": ("True", "False")}
OURS = r"[a-z0-9][a-z0-9_]*/[0-9]{6,18}"
"""The `modeldir` of a collection that `assemble` wrote."""


def check(folder: Path) -> list[str]:
    """Return everything that is wrong with a collection folder, one message per fault; empty if it is sound.

    A message names the file, the place (line, row, column), what is there and what is expected. Never raises for a
    faulty folder, and never unpickles. Memory is bounded by the metrics, not by the matrix.
    """
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    report = Report(folder)
    weights = report.attempt(published.open_weights, published.WEIGHTS)
    layout = report.attempt(published.read_layout, published.LAYOUT)
    text = _read_metrics(report)
    ours = text is not None and claims_our_form(folder) and bool(text["modeldir"].str.fullmatch(OURS).any())
    metrics = _to_numbers(report, text, ours) if text is not None else None
    del text
    pyarrow.default_memory_pool().release_unused()  # pandas keeps strings in Arrow, which would hold on to the memory
    _examine(report, weights, layout, metrics, ours)
    del metrics
    check_manifest(report)
    return report.problems


def check_readable(folder: Path) -> tuple[list[str], list[str]]:
    """Return what keeps a folder from being read as loaders need it, and how it differs from the published form."""
    try:
        found = Readable.of(folder)
    except CnnzooError as error:
        return [str(error)], []
    report = Report(folder)
    _examine(report, None, found.layout, _to_numbers(report, found.metrics, ours=False), ours=False)
    if lost := found.final_rows_not_finite():
        report.add(published.WEIGHTS, f"row {lost[0]}, a final one, has weights that are not finite")
    if has_manifest(folder):
        check_manifest(report)
    return report.problems, found.changes


def claims_our_form(folder: Path) -> bool:
    """Return whether a folder has the file that only `assemble` writes: then every detail of the form is checked."""
    return (folder / published.DIVERGED).exists()


def _examine(
    report: Report, weights: NDArray[np.float32] | None, layout: Layout | None, metrics: pd.DataFrame | None, ours: bool
) -> None:
    """Check that what was read agrees: the files with each other, and the rows of a network."""
    _check_agreement(report, weights, layout, metrics)
    if metrics is not None:
        _check_rows(report, metrics, ours)
        if ours:
            _check_names(report, metrics)
            _check_split(report, metrics)
            _check_diverged(report, metrics)
    if weights is not None and metrics is not None and len(weights) == len(metrics):
        final = (metrics["step"] == metrics["config.epochs"]).to_numpy()
        _check_finite(report, weights, np.ones_like(final) if ours else final)


def _read_metrics(report: Report) -> pd.DataFrame | None:
    """Return metrics.csv.gz as text, the index as column ``, or None if its columns are not the published ones."""
    path = report.folder / published.METRICS
    try:
        text = pd.read_csv(path, compression="gzip", header=None, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        report.add(published.METRICS, "not there; every collection needs it")
        return None
    except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        report.add(published.METRICS, f"not a whole gzip file with a table ({error})")
        return None
    header = text.iloc[0].tolist()
    optional = [name for name in published.OPTIONAL_COLUMNS if name in header]
    expected = ["", *published.METRICS_COLUMNS, *optional]
    if header != expected:
        report.add(published.METRICS, _column_fault(header, expected))
        return None
    if len(text) == 1:
        report.add(published.METRICS, "holds no rows")
        return None
    return text.iloc[1:].set_axis(expected, axis="columns").reset_index(drop=True)


def _column_fault(header: list[str], expected: list[str]) -> str:
    """Say how the columns of a table differ from the expected ones."""
    faults = []
    if missing := [name for name in expected if name not in header]:
        faults.append(f"missing {', '.join(map(repr, missing))}")
    if unknown := [name for name in header if name not in expected]:
        faults.append(f"unknown {', '.join(map(repr, unknown))}")
    if not faults:
        pairs = zip(header, [*expected, *["nothing"] * len(header)], strict=False)
        place, (name, wanted) = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
        faults.append(f"wrong order: column {place} is {name!r}, expected {wanted!r}")
    return f"line 1: the columns are not the published ones: {'; '.join(faults)}"


def _to_numbers(report: Report, text: pd.DataFrame, ours: bool) -> pd.DataFrame | None:
    """Check every value; return the metrics with numbers in place of text, or None if some are not numbers."""
    metrics = text.copy(deep=False)
    sound = True
    for column in [*NUMBERS, *(name for name in OPTIONAL_NUMBERS if name in text)]:
        values = pd.to_numeric(text[column], errors="coerce").to_numpy(dtype=np.float64)
        metrics[column] = values
        kind, bad = _judge(column, values, ours)
        report.add_lines(bad, f"`{column}` is {{!r}}, expected {kind}", text[column])
        sound &= column in published.SCORE_COLUMNS or not bad.any()
    for column, allowed in ALLOWED.items():
        bad = ~text[column].isin(allowed).to_numpy()
        report.add_lines(bad, f"`{column}` is {{!r}}, expected {' or '.join(allowed)}", text[column])
    report.add_lines(text[""].duplicated() | (text[""] == ""), "the index {!r} is empty or occurs twice", text[""])
    return metrics if sound else None


def _judge(column: str, values: NDArray[np.float64], ours: bool) -> tuple[str, NDArray[np.bool_]]:
    """Return what a column must hold, and where it does not. Values that were not numbers are NaN here."""
    if column in SIZES:
        return "a whole number of 1 or more", ~((values >= 1) & (values < 2**31) & (values == np.floor(values)))
    if column == "step":
        return "a whole number", ~((values >= 0) & (values < 2**31) & (values == np.floor(values)))
    if column in (*WHOLE, published.GROUP):
        return "a whole number", ~(np.isfinite(values) & (values == np.floor(values)))
    if column.endswith("_accuracy") or column == "config.label_noise":
        return "a fraction in [0, 1]", ~((values >= 0) & (values <= 1))
    if column.endswith("_loss") and not ours:
        return "a number", np.zeros(len(values), dtype=bool)  # published networks may have lost theirs
    return "a finite number", ~np.isfinite(values)


def _check_agreement(
    report: Report, weights: NDArray[np.float32] | None, layout: Layout | None, metrics: pd.DataFrame | None
) -> None:
    """Check that matrix, layout and metrics belong together."""
    if weights is not None and metrics is not None and len(weights) != len(metrics):
        report.add(published.WEIGHTS, f"{len(weights)} rows, but {published.METRICS} has {len(metrics)}")
    if layout is None:
        return
    if weights is not None and weights.shape[1] != layout.size:
        report.add(
            published.WEIGHTS, f"{weights.shape[1]} columns, but {published.LAYOUT} has {layout.size} parameters"
        )
    try:
        architecture = layout.architecture
    except CnnzooError as error:
        report.add(published.LAYOUT, str(error))
        return
    if metrics is not None:
        for name in ("num_units", "num_layers"):
            found, expected = metrics[f"config.{name}"], getattr(architecture, name)
            message = f"`config.{name}` is {{:.0f}}, but {published.LAYOUT} has {expected}"
            report.add_lines(found != expected, message, found)


def _check_rows(report: Report, metrics: pd.DataFrame, ours: bool) -> None:
    """Check that the rows of a network are consecutive, complete, in order, and share their hyperparameters."""
    names = metrics["modeldir"]
    starts = (names != names.shift()).to_numpy()
    again = starts & names.duplicated().to_numpy()
    report.add_lines(again, "the rows of network {!r} are not consecutive", names)
    if again.any():
        return
    first = np.flatnonzero(starts)  # (K,)
    own = first[np.cumsum(starts) - 1]  # (R,): the first row of each row's network
    for column in [*published.CONFIG_COLUMNS, *(name for name in published.OPTIONAL_COLUMNS if name in metrics)]:
        values = metrics[column].to_numpy()
        message = f"`{column}` is {{!r}}, but {{!r}} in the first row of the same network"
        report.add_lines(values != values[own], message, values, values[own])
    if ours:
        _check_steps(report, metrics, first)
    else:
        again = metrics.duplicated(["modeldir", "step"]).to_numpy()
        report.add_lines(again, "network {!r} has step {:.0f} twice", names, metrics["step"])


def _check_steps(report: Report, metrics: pd.DataFrame, first: NDArray[np.int64]) -> None:
    """Check the steps of each network; `first` (K,) holds its first row."""
    steps = metrics["step"].to_numpy(dtype=np.int64)
    epochs = metrics["config.epochs"].to_numpy(dtype=np.int64)
    between = metrics["config.epochs_between_checkpoints"].to_numpy(dtype=np.int64)
    listed = metrics["config.checkpoint_epochs"].to_numpy() if "config.checkpoint_epochs" in metrics else None
    bad, got, wanted = np.zeros(len(steps), dtype=bool), dict[int, str](), dict[int, str]()
    for start, end in zip(first.tolist(), [*first[1:].tolist(), len(steps)], strict=True):
        found = steps[start:end].tolist()
        if listed is None:
            expected = _expected_steps(int(epochs[start]), int(between[start]), at_most=len(steps))
        else:
            numbers = map(whole_number, listed[start].split())  # what is no number is missed among the steps
            expected = sorted((epoch for epoch in numbers if epoch is not None), key=str)
        if found != expected:
            bad[start] = True
            got.setdefault(start, " ".join(map(str, found)))
            wanted.setdefault(start, " ".join(map(str, expected)) or "more than the file has rows")
    if bad.any():
        start = int(bad.argmax())
        report.add_lines(
            bad,
            f"network {{!r}} has the steps {got[start]}, expected {wanted[start]} (epochs, sorted as strings)",
            metrics["modeldir"],
        )


def _expected_steps(epochs: int, between: int, at_most: int) -> list[int]:
    """Return the steps of a network in stored order; empty if there would be more than `at_most` of them."""
    if epochs // between > at_most:
        return []
    checkpoints = checkpoint_epochs(epochs, between)
    return [checkpoints[position] for position in published.row_order(checkpoints)]


def _check_names(report: Report, metrics: pd.DataFrame) -> None:
    """Check what our own collections promise of `modeldir`, index, `laststep` and gzip header."""
    names, steps = metrics["modeldir"], metrics["step"].astype("int64")
    place, networks = pd.factorize(names)
    each = pd.Series(networks)  # once a network: a row each would take much memory
    collection = each.str.partition("/")[0].mode()[0]
    wrong = ~names.str.fullmatch(OURS) | ~names.str.startswith(f"{collection}/")
    report.add_lines(wrong, f"`modeldir` is {{!r}}, expected `{collection}/<network id, 6 digits>`", names)
    if not wrong.any():
        ids = each.str.rpartition("/")[2].astype("int64").to_numpy()[place]
        back = np.append(False, np.diff(ids) < 0)
        report.add_lines(back, "network {!r} comes after {!r}: not in network order", names, names.shift())
    expected = [published.checkpoint_name(name, step) for name, step in zip(names, steps, strict=True)]
    report.add_lines(metrics[""] != expected, "the index is {!r}, expected {!r}", metrics[""], expected)
    last = np.where(steps == metrics["config.epochs"], "True", "False")
    report.add_lines(metrics["laststep"] != last, "`laststep` is {} at step {}", metrics["laststep"], steps)
    with (report.folder / published.METRICS).open("rb") as file:
        header = file.read(8)
    if header[3:] != bytes(5):
        report.add(published.METRICS, "its gzip header holds a name or a time: equal content would give unequal bytes")


def _check_split(report: Report, metrics: pd.DataFrame) -> None:
    """Check that split.csv is a permutation that puts the same networks into the training half at every epoch."""
    split = report.attempt(lambda path: published.read_split(path, len(metrics)), published.SPLIT)
    if split is None:
        return
    steps, networks = metrics["step"].to_numpy()[split], metrics["modeldir"].to_numpy()[split]
    train: dict[int, set[str]] = {}
    for epoch in np.unique(steps).astype(int).tolist():
        there = networks[steps == epoch]
        train[epoch] = set(there[: len(there) // 2])
    if published.GROUP in metrics:
        _check_groups(report, metrics, split)
    final = max(train)
    for epoch, half in train.items():
        if leaks := half ^ train[final]:
            report.add(
                published.SPLIT,
                f"leakage: network {min(leaks)} is in one half at epoch {epoch} and in the other at epoch {final} "
                f"({len(leaks)} such networks)",
            )


def _check_groups(report: Report, metrics: pd.DataFrame, split: NDArray[np.int64]) -> None:
    """Check that networks of one group stand together in the split, so that at most one group is in both halves."""
    final = split[(metrics["step"] == metrics["config.epochs"]).to_numpy()[split]]
    groups = pd.Series(metrics[published.GROUP].to_numpy()[final])
    apart = groups[(groups != groups.shift()) & groups.duplicated()]
    if len(apart):
        report.add(published.SPLIT, f"the networks of group {apart.iloc[0]:.0f} do not stand together")


def _check_diverged(report: Report, metrics: pd.DataFrame) -> None:
    """Check diverged.csv: its columns, and that no network with rows is listed."""
    try:
        with (report.folder / published.DIVERGED).open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        report.add(published.DIVERGED, f"cannot be read ({error}); it must exist, with its header, even if empty")
        return
    optional = [name for name in published.OPTIONAL_COLUMNS if name in metrics and lines]
    expected = [*published.DIVERGED_COLUMNS, *optional]
    if header != expected:
        report.add(published.DIVERGED, _column_fault(header, expected))
        return
    epoch = header.index("diverged_epoch")
    kept = {str(name).rpartition("/")[2] for name in metrics["modeldir"].unique()}
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header) or whole_number(line[0]) is None or whole_number(line[epoch]) is None:
            report.add(
                published.DIVERGED, f"line {number}: expected {len(header)} values, network and epoch as numbers"
            )
        elif f"{int(line[0]):06d}" in kept:
            report.add(published.DIVERGED, f"line {number}: network {line[0]} is listed as diverged, but has rows")


def _check_finite(report: Report, weights: NDArray[np.float32], required: NDArray[np.bool_]) -> None:
    """Check that the weights are finite in the `required` (R,) rows. Streams the file in blocks.

    The file is read, not mapped: mapped pages count as memory of the process.
    """
    rows, parameters = weights.shape
    bad = np.zeros(rows, dtype=bool)
    block = max(1, BLOCK_BYTES // max(1, parameters * 4))
    with (report.folder / published.WEIGHTS).open("rb") as file:
        file.seek(-weights.nbytes, 2)
        for start in range(0, rows, block):
            count = min(block, rows - start)
            values = np.fromfile(file, dtype="<f4", count=count * parameters).reshape(count, parameters)
            bad[start : start + count] = ~np.isfinite(values).all(axis=1)
    bad &= required
    if bad.any():
        message = f"row {int(bad.argmax())} has weights that are not finite ({int(bad.sum())} such rows)"
        report.add(published.WEIGHTS, f"{message}; loaders assert that the final ones are finite")
