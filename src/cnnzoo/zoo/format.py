"""The published format of a collection: names of files and columns, order of rows, and the split.

Sources: the release notes and notebook of google-research/dnn_predict_accuracy, and the loaders that read the released
archives: AllanYangZhou/nfn (experiments/data_utils.py), jkalogero/scalegmn (src/data/cifar10_dataset.py). What they
rely on, beyond names and shapes:
- they keep the rows with `step == 86`, so a step is a number, and assert that those weights are finite;
- they address `config.activation` as column 1, so the index is an unnamed column 0;
- the notebook takes network and epoch from the index: `<modeldir>/permanent_ckpt-<epoch>`, the checkpoint's path. Rows
  are sorted by it as strings, hence the order 0 1 2 20 3 40 60 80 86;
- they order all rows by a header-less file of row indices, keep the final ones, and train on the first half of those.

Shape letters: R rows of the matrix, P parameters, K networks.
"""

import math
import mmap
import tokenize
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core import seeds
from cnnzoo.core.atomic import write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Layout
from cnnzoo.zoo.recipes import COLUMNS as RECIPE_COLUMNS
from cnnzoo.zoo.recipes import OPTIONAL, Recipe

WEIGHTS = "weights.npy"
LAYOUT = "layout.csv"
METRICS = "metrics.csv.gz"
SPLIT = "split.csv"
DIVERGED = "diverged.csv"
MANIFEST = "manifest.json"
CARD = "README.md"

CONFIG_COLUMNS = tuple(f"config.{name}" for name in RECIPE_COLUMNS if name != "network")
SCORE_COLUMNS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
METRICS_COLUMNS = (*CONFIG_COLUMNS, "modeldir", "step", *SCORE_COLUMNS, "laststep")
"""The columns of metrics.csv.gz after the unnamed index. `laststep` is True at a network's last checkpoint."""
GROUP = "config.group"
OPTIONAL_COLUMNS = tuple(f"config.{name}" for name in OPTIONAL)
"""Columns of collections that use them, after the published ones: those keep their places for loaders that count."""
DIVERGED_COLUMNS = ("network", *CONFIG_COLUMNS, "diverged_epoch")

Half = Literal["train", "test"]


def modeldir(collection: str, network: int) -> str:
    """Return the name of one network; it is also the MLflow tag `network`."""
    return f"{collection}/{network:06d}"


def checkpoint_name(modeldir: str, epoch: int) -> str:
    """Return the index of one row: the path under which the published code saved the checkpoint."""
    return f"{modeldir}/permanent_ckpt-{epoch}"


def optional_config(recipe: Recipe) -> dict[str, Any]:
    """Return what a network has in the columns of OPTIONAL_COLUMNS that its collection uses."""
    return {name: value for name, value in recipe.config().items() if name in OPTIONAL_COLUMNS}


def row_order(epochs: tuple[int, ...]) -> list[int]:
    """Return the positions in `epochs`, in the order in which a network's checkpoints are stored: as strings."""
    return sorted(range(len(epochs)), key=lambda position: str(epochs[position]))


def draw_split(
    networks: NDArray[np.int64], seed: int, collection: str, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return a permutation of the rows whose first part is the training half, with no network in both halves.

    `networks` (R,) is the network 0 ... K - 1 of each row, ascending. The first K // 2 networks of a seeded shuffle
    train; the rows of a network stay together. So whoever keeps the rows of one epoch in this order, and trains on the
    first half of them, trains on the same networks at every epoch.

    `groups` (R,) is the group of each row, if networks come in groups: these are shuffled, and their networks stay
    together. If K // 2 lies inside a group, that one is in both halves of whoever counts rows; `Collection` tests it.
    """
    units = networks if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    place = np.empty(count, dtype=np.int64)
    place[seeds.generator(seed, "split", collection).permutation(count)] = np.arange(count)
    return np.argsort(place[units], kind="stable")


def write_split(
    folder: Path, networks: NDArray[np.int64], seed: int, collection: str, groups: NDArray[np.int64] | None = None
) -> None:
    """Write split.csv: one row index per line, no header. See `draw_split`."""
    rows = draw_split(networks, seed, collection, groups)
    write_text(folder / SPLIT, "".join(f"{row}\n" for row in rows.tolist()))


def read_split(path: Path, rows: int) -> NDArray[np.int64]:
    """Read split.csv, int64 (R,); raises `CnnzooError` if it is not a permutation of the `rows` row indices."""
    try:
        split = np.loadtxt(path, dtype=np.int64, ndmin=1, comments=None)
    except FileNotFoundError as error:
        raise CnnzooError(
            f"{path}: not there, so the collection has no halves; `dvc repro assemble` makes it "
            "(`cnnzoo.zoo.write_split` for a folder made elsewhere)"
        ) from error
    except (OSError, ValueError) as error:
        raise CnnzooError(f"{path}: every line must be one row index ({error})") from error
    check_split(path, split, rows)
    return split


def check_split(path: Path, split: NDArray[np.int64], rows: int) -> None:
    """Raise `CnnzooError` unless a split read from `path` is a permutation of the `rows` row indices."""
    if split.shape != (rows,):
        raise CnnzooError(f"{path}: {len(split)} lines, the matrix has {rows} rows")
    counts = np.bincount(split[(split >= 0) & (split < rows)], minlength=rows)
    if (counts != 1).any():
        row = int((counts != 1).argmax())
        raise CnnzooError(
            f"{path}: not a permutation of 0 ... {rows - 1}: row {row} occurs {counts[row]} times "
            f"({int((counts != 1).sum())} rows do not occur exactly once)"
        )


def read_layout(path: Path) -> Layout:
    """Read layout.csv; raises `CnnzooError` that names the file and the wrong line."""
    try:
        return Layout.from_csv(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; every collection needs it: make it with `dvc repro assemble`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CnnzooError(f"{path}: cannot be read ({error})") from error
    except CnnzooError as error:
        raise CnnzooError(f"{path.parent}/{error}") from error


def open_weights(path: Path) -> NDArray[np.float32]:
    """Map weights.npy, read only, float32 (R, P), without ever unpickling.

    Raises `CnnzooError` if it is missing, truncated, or not a two-dimensional little-endian float32 matrix in C order.
    """
    weights: NDArray[np.float32] = map_weights(path)
    if weights.dtype != np.dtype("<f4") or weights.ndim != 2:
        raise CnnzooError(f"{path}: must be float32 (rows, parameters), got {weights.dtype.str} {weights.shape}")
    if not weights.flags.c_contiguous:
        raise CnnzooError(f"{path}: must be stored in C order, got Fortran order")
    return weights


def read_rows(weights: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    """Return rows of a matrix (R, P); those of a mapped file are read from it, not mapped.

    Mapped pages count as memory of the process: whoever goes through a matrix of gigabytes would hold all of it.
    """
    if not (isinstance(weights, np.memmap) and isinstance(weights.base, mmap.mmap)):  # the latter: not a part of a map
        return np.asarray(weights[start:stop])
    assert weights.filename is not None
    shape = weights[start:stop].shape
    offset = weights.offset + start * weights.strides[0]
    return np.fromfile(weights.filename, weights.dtype, math.prod(shape), offset=offset).reshape(shape)


def map_weights(path: Path) -> NDArray[Any]:
    """Map a .npy file of numbers, read only, never unpickling; raises `CnnzooError` if it is missing or cut short."""
    try:
        weights = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; every collection needs it: make it with `dvc repro assemble`") from error
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # of a malformed header
        raise CnnzooError(
            f"{path}: not a whole .npy file of plain numbers ({error}); make it again with `dvc repro assemble`"
        ) from error
    size, expected = path.stat().st_size, weights.offset + weights.nbytes
    if size != expected:
        raise CnnzooError(f"{path}: {size} bytes, its header announces {expected}")
    return weights
