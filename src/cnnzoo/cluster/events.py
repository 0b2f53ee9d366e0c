"""What workers tell the driver."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Began:
    """The worker has checked that it is the driver's equal and begins."""

    node: str
    """The name of its machine."""


@dataclass(frozen=True)
class Refused:
    """The worker is not the driver's equal and did nothing."""

    node: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Advanced:
    """So many image passes (images x networks) are done."""

    skipped: int = 0
    """Those that the resume point had behind it."""
    trained: int = 0
    seconds: float = 0.0
    """How long it took to train them."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint epoch is reached; each metric is float64 (N,)."""

    epoch: int
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Point:
    """The content of a resume point's file."""

    content: bytes


@dataclass(frozen=True)
class Trained:
    """The content of a shard's file: the last event of a training."""

    content: bytes


@dataclass(frozen=True)
class Inside:
    """Stands for a path inside the folder of a predictor, which lies elsewhere on each machine."""

    name: str
    """With slashes, from the folder on."""


@dataclass(frozen=True)
class Recorded:
    """A call to the record of a search."""

    method: str
    arguments: tuple[Any, ...]
    """`Inside` in place of paths."""


@dataclass(frozen=True)
class Tried:
    """A trial of a search is finished: an `optuna.trial.FrozenTrial`."""

    trial: Any


@dataclass(frozen=True)
class Written:
    """The files of a tuned predictor's folder, by their names from there."""

    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Scored:
    """The scores of a tuned predictor: the last event of a search."""

    scores: Mapping[str, float | int | None]


Event = Began | Refused | Advanced | Checkpoint | Point | Trained | Recorded | Tried | Written | Scored
