"""Which rows of a collection a dataset has: by half, checkpoint epoch and a condition on their columns.

Shape letters: R rows of the matrix, S selected rows.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError, did_you_mean
from cnnzoo.zoo import Collection, Half

Epochs = Literal["final", "all"] | Sequence[int]
"""The last checkpoint of each network, all of them, or those of some epochs."""


def select_rows(zoo: Collection, half: Half | None, epochs: Epochs, where: str | None) -> NDArray[np.int64]:
    """Return the rows int64 (S,), ascending, that are in the half, at the epochs, and fulfil the condition.

    Raises `CnnzooError` for an epoch without checkpoints, a condition that cannot be evaluated, or if none is left.
    """
    rows = _at(zoo, half, epochs)
    if where is not None:
        rows = rows[_fulfil(zoo, where)[rows]]
    if not len(rows):
        wanted = ", ".join(
            [f"half {half!r}"] * (half is not None)
            + [f"epochs {epochs!r}"]
            + [f"where {where!r}"] * (where is not None)
        )
        raise CnnzooError(f"{zoo.path}: no row is left ({wanted})")
    return rows


def column(zoo: Collection, name: str) -> str:
    """Return the name in metrics.csv.gz of a column, which may be given without `config.`; raises `CnnzooError`."""
    for known in (name, f"config.{name}"):
        if known in zoo.metrics:
            return known
    names = list(table(zoo).columns)
    raise CnnzooError(f"{zoo.path}: no column `{name}`{did_you_mean(name, names)}. There are {', '.join(names)}.")


def table(zoo: Collection) -> pd.DataFrame:
    """Return the metrics (R rows) with short names: `optimizer`, not `config.optimizer`."""
    return zoo.metrics.rename(columns=lambda name: name.removeprefix("config."))


def _at(zoo: Collection, half: Half | None, epochs: Epochs) -> NDArray[np.int64]:
    if epochs == "final":
        return zoo.final(half)
    if isinstance(epochs, str) and epochs != "all":
        raise CnnzooError(f'`epochs` must be "final", "all" or a list of epochs, got {epochs!r}')
    chosen = zoo.epochs if epochs == "all" else epochs
    return np.unique(np.concatenate([zoo.at(int(epoch), half) for epoch in chosen] or [np.zeros(0, dtype=np.int64)]))


def _fulfil(zoo: Collection, where: str) -> NDArray[np.bool_]:
    """Return (R,): where a condition holds, in the language of `pandas.DataFrame.query`."""
    metrics = table(zoo)
    try:
        answer = metrics.eval(where, engine="python")
    except Exception as error:  # the expression is the user's: pandas raises whatever Python raises for it
        raise CnnzooError(
            f"`where` cannot be evaluated: {error}. It is a condition as `DataFrame.query` has it, such as "
            f"\"optimizer == 'adam' and dropout < 0.3\", on {', '.join(metrics.columns)}."
        ) from error
    mask = np.asarray(answer)
    if mask.dtype != np.bool_ or mask.shape != (len(metrics),):
        raise CnnzooError(f"`where` must be true or false for each row, {where!r} is neither")
    return mask
