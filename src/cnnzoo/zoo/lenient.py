"""Collections as people have them: whatever carries the meaning is read, and what differs from our form is said.

Read are columns in any order and more of them than the published ones, an index by another name, twice or not at all,
`laststep` in other words or missing, a byte-order mark, blank lines, weights of any float type and memory order, rows
in another order, and the literature's split files, whose first line is the name "0" of a column. What loaders need must
be there and agree: the rows of both files, the layout by names, `test_accuracy`, `config.activation`, `step`.

Shape letters: R rows of the matrix, P parameters.
"""

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.core.atomic import atomic_file, write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import COLUMNS, Layout
from cnnzoo.zoo import format as published

INDEX = re.compile(r"|index|Unnamed: 0(\.\d+)*")
"""Names of an index column: pandas writes none, and reads it back as `Unnamed: 0`."""
TRUE, FALSE = {"true", "1", "1.0", "yes", "t"}, {"false", "0", "0.0", "no", "f"}
BLOCK_ROWS = 1024
KEPT = (*published.METRICS_COLUMNS, *published.OPTIONAL_COLUMNS)


@dataclass(frozen=True)
class Readable:
    """A collection that was read leniently; raises `CnnzooError` in the making for what is missing or contradictory."""

    folder: Path
    weights: NDArray[np.floating]
    """(R, P), memory-mapped, of any float type and order, rows as they are stored."""
    layout: Layout
    metrics: pd.DataFrame
    """R rows of text in the published columns, the index as column ``, in the published order of rows."""
    order: NDArray[np.int64]
    """(R,): the stored row of each row of `metrics`."""
    changes: list[str] = field(default_factory=list)
    """How the files differ from the published form, a line each."""
    weights_differ: bool = False
    """Whether the matrix is one of them: it is as large as all the rest is small."""

    @classmethod
    def of(cls, folder: Path) -> "Readable":
        """Read the collection in a folder."""
        changes: list[str] = []
        layout = _read_layout(folder / published.LAYOUT, changes)
        metrics = _read_metrics(folder / published.METRICS, changes)
        known = len(changes)
        weights = _open_weights(folder / published.WEIGHTS, changes)
        matrix_differs = len(changes) > known
        if weights.shape != (len(metrics), layout.size):
            raise CnnzooError(
                f"{folder}: {published.WEIGHTS} is {weights.shape}, but {published.METRICS} has {len(metrics)} rows "
                f"and {published.LAYOUT} {layout.size} parameters: they are not of one collection"
            )
        order = _published_order(metrics)
        moved = bool((order != np.arange(len(order))).any())
        if moved:
            changes.append("rows put in order: each network's together, steps sorted as strings")
        metrics = metrics.iloc[order].reset_index(drop=True)
        return cls(folder, weights, layout, metrics, order, changes, matrix_differs or moved)

    @cached_property
    def split(self) -> NDArray[np.int64] | None:
        """The split (R,) in our order of rows, None without one; raises `CnnzooError` if it is no permutation."""
        path = self.folder / published.SPLIT
        if not path.exists():
            return None
        stored = read_any_split(path, len(self.order))
        place = np.empty(len(self.order), dtype=np.int64)
        place[self.order] = np.arange(len(self.order))
        return place[stored]

    def final_rows_not_finite(self) -> list[int]:
        """Return the stored rows after a network's last epoch whose weights are not finite, which loaders refuse."""
        final = pd.to_numeric(self.metrics["step"]) == pd.to_numeric(self.metrics["config.epochs"], errors="coerce")
        rows = self.order[final.to_numpy()]
        lost: list[int] = []
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            with np.errstate(over="ignore"):
                lost += block[~np.isfinite(self.weights[block].astype(np.float32)).all(axis=1)].tolist()
        return lost

    def write(self, target: Path) -> None:
        """Write the files that are not in the published form to a folder, each whole or not at all."""
        if self.split is not None:
            write_text(target / published.SPLIT, "".join(f"{row}\n" for row in self.split.tolist()))
        if not self.changes:
            return
        if self.weights_differ:
            self._write_weights(target / published.WEIGHTS)
        write_text(target / published.LAYOUT, self.layout.to_csv())
        text = self.metrics.to_csv(index=False, lineterminator="\n")
        with atomic_file(target / published.METRICS) as file:
            file.write(gzip.compress(text.encode(), mtime=0))

    def _write_weights(self, path: Path) -> None:
        with atomic_file(path) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": self.weights.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(self.order), BLOCK_ROWS):
                with np.errstate(over="ignore"):
                    file.write(self.weights[self.order[start : start + BLOCK_ROWS]].astype("<f4").tobytes())


def read_any_split(path: Path, rows: int) -> NDArray[np.int64]:
    """Read a split file (R,), with or without the line "0" that names its column in the literature's files."""
    try:
        lines = [int(line) for line in path.read_text(encoding="utf-8-sig").split()]
    except (OSError, ValueError) as error:
        raise CnnzooError(f"{path}: every line must be one row index ({error})") from error
    split = np.array(lines[1:] if len(lines) == rows + 1 and lines[0] == 0 else lines, dtype=np.int64)
    published.check_split(path, split, rows)
    return split


def _read_layout(path: Path, changes: list[str]) -> Layout:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; every collection needs it") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CnnzooError(f"{path}: cannot be read ({error})") from error
    header = rows[0] if rows else []
    missing = [name for name in COLUMNS if header.count(name) != 1]
    if missing:
        raise CnnzooError(f"{path}: no column {', '.join(missing)}; it has {', '.join(header) or 'nothing'}")
    places = [header.index(name) for name in COLUMNS]
    plain = io.StringIO()
    csv.writer(plain, lineterminator="\n").writerows(
        [row[place] for place in places if place < len(row)] for row in rows
    )
    try:
        layout = Layout.from_csv(plain.getvalue())
    except CnnzooError as error:
        raise CnnzooError(f"{path.parent}/{error}") from error
    if path.read_bytes() != layout.to_csv().encode():
        changes.append(f"{published.LAYOUT} written again: columns by name, no byte-order mark, no blank lines")
    return layout


def _open_weights(path: Path, changes: list[str]) -> NDArray[np.floating]:
    weights = published.map_weights(path)
    if weights.dtype.kind != "f" or weights.ndim != 2:
        raise CnnzooError(f"{path}: must be floating point (rows, parameters), got {weights.dtype.str} {weights.shape}")
    if weights.dtype != np.dtype("<f4"):
        changes.append(f"{published.WEIGHTS} converted from {weights.dtype.str} to float32")
    if not weights.flags.c_contiguous:
        changes.append(f"{published.WEIGHTS} stored in C order instead of Fortran order")
    return weights


def _read_metrics(path: Path, changes: list[str]) -> pd.DataFrame:
    try:
        with gzip.open(path) as file:
            content = file.read().decode("utf-8-sig")
        text = pd.read_csv(io.StringIO(content), header=None, dtype=str, keep_default_na=False, low_memory=False)
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; every collection needs it") from error
    except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise CnnzooError(f"{path}: not a whole gzip file with a table ({error})") from error
    header = [name.strip() for name in text.iloc[0]]
    table = text.iloc[1:].reset_index(drop=True)
    if table.empty:
        raise CnnzooError(f"{path}: holds no rows")
    if twice := sorted({name for name in header if name in KEPT and header.count(name) > 1}):
        raise CnnzooError(f"{path}: has the column {', '.join(twice)} twice; leave out the one that is wrong")
    found = {name: table.iloc[:, header.index(name)] for name in KEPT if name in header}
    if missing := [name for name in published.METRICS_COLUMNS if name not in found and name != "laststep"]:
        raise CnnzooError(f"{path}: no column {', '.join(missing)}; loaders and predictors need it")
    _note_columns(header, changes)
    index = next((place for place, name in enumerate(header) if INDEX.fullmatch(name)), None)
    stored = pd.Series([""] * len(table)) if index is None else table.iloc[:, index]
    return _completed(found, stored, path, changes)


def _note_columns(header: list[str], changes: list[str]) -> None:
    indexes = [name for name in header if INDEX.fullmatch(name)]
    if indexes != [""]:
        shown = " and ".join(f"`{name}`" for name in indexes) or "none"
        changes.append(f"{published.METRICS}: one unnamed index column first (it had {shown})")
    extra = [name for name in header if name not in KEPT and not INDEX.fullmatch(name)]
    if extra:
        changes.append(f"{published.METRICS}: left out {', '.join(f'`{name}`' for name in extra)}")
    kept = [name for name in header if name in KEPT]
    if kept != [name for name in KEPT if name in kept]:
        changes.append(f"{published.METRICS}: columns put in the published order")


def _completed(
    found: dict[str, "pd.Series[str]"], index: "pd.Series[str]", path: Path, changes: list[str]
) -> pd.DataFrame:
    """Return the table with index, names of networks and `laststep` as they must be."""
    names, steps = found["modeldir"], pd.to_numeric(found["step"], errors="coerce")
    if not np.isfinite(steps).all() or (steps % 1 != 0).any():
        raise CnnzooError(f"{path}: `step` must be the epoch, a whole number, in every row")
    if (names == "").any():
        names = names.where(names != "", index.str.rpartition("/")[0])
        if (names == "").any():
            line = int((names == "").to_numpy().argmax()) + 2
            raise CnnzooError(f"{path}: line {line} names no network, neither in `modeldir` nor in the index")
        changes.append(f"{published.METRICS}: `modeldir` taken from the index")
    if (index == "").any() or index.duplicated().any():
        index = pd.Series([published.checkpoint_name(*pair) for pair in zip(names, steps.astype(int), strict=True)])
        if index.duplicated().any():
            line = int(index.duplicated().to_numpy().argmax()) + 2
            raise CnnzooError(f"{path}: line {line}: network {names[line - 2]!r} has step {steps[line - 2]:.0f} twice")
    last = found.get("laststep")
    flags = None if last is None else last.str.lower()
    if flags is None or not flags.isin(TRUE | FALSE).all():
        is_last = steps == steps.groupby(names).transform("max")
        changes.append(f"{published.METRICS}: `laststep` is True at the last step of each network")
    else:
        is_last = flags.isin(TRUE)
        if last is not None and not last.isin(["True", "False"]).all():
            changes.append(f"{published.METRICS}: `laststep` written as True and False")
    values = found | {"modeldir": names, "laststep": is_last.map({True: "True", False: "False"})}
    return pd.DataFrame({"": index, **{name: values[name] for name in KEPT if name in values}})


def _published_order(metrics: pd.DataFrame) -> NDArray[np.int64]:
    """Return the rows with those of a network together, networks as they appear, steps sorted as strings."""
    networks, _ = pd.factorize(metrics["modeldir"])
    steps = pd.to_numeric(metrics["step"]).astype(int).astype(str).to_numpy()
    return np.lexsort((steps, networks)).astype(np.int64)
