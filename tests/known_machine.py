"""A machine whose speed is known: what `plan` measures on it, and so all it tells, can be computed by hand.

Its engines train nothing. Each call moves the clock on by the time that so many images take.
"""

import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnzoo.config import Runtime
from cnnzoo.core.cores import usable_cores
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines import Cohort

ACTIVATION_RATES = {"relu": 1000.0, "tanh": 700.0}
OPTIMIZER_RATES = {"sgd": 8.0, "rmsprop": 5.0, "adam": 3.0}
EVALUATION = 2.5
"""How much faster a network is evaluated than trained."""
WARM_UP_S = 40.0
"""What the first training and the first evaluation of an engine take beyond their work."""


def train_rate(activation: str, optimizer: str) -> float:
    """Return the training images/s of one worker."""
    return ACTIVATION_RATES[activation] * OPTIMIZER_RATES[optimizer]


def evaluate_rate(activation: str, optimizer: str) -> float:
    """Return the images/s of one worker in evaluation."""
    return EVALUATION * train_rate(activation, optimizer)


@dataclass
class KnownEngine:
    """Stands for an engine; takes the time that its machine's rates tell."""

    machine: "KnownMachine"
    cohort: Cohort
    minibatch: int
    image_shapes: list[tuple[int, ...]] = field(default_factory=list)
    warm: set[float] = field(default_factory=set)
    """The rates at which it has worked."""

    def load_state(self, state: object) -> None:
        """Take the initial weights."""

    def load_images(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Take the training images."""
        self.image_shapes.append(images.shape[1:])

    def train(self, minibatches: NDArray[np.int64], first_step: int) -> None:
        """Take the time of training on the minibatches (S, B)."""
        assert minibatches.shape[1] == self.minibatch
        self._work(minibatches.size, train_rate(self.cohort.activation, self.cohort.optimizer))

    def evaluate(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Take the time of scoring the images."""
        self._work(len(labels), evaluate_rate(self.cohort.activation, self.cohort.optimizer))

    def _work(self, images: int, rate: float) -> None:
        rounds = -(-self.cohort.size // self.machine.workers)
        self.machine.now_s += rounds * images / rate + (0 if rate in self.warm else WARM_UP_S)
        self.warm.add(rate)


@dataclass
class KnownMachine:
    """Stands for the choice of an engine: `native` has a worker per thread, the others one in all."""

    name: str
    threads: int
    device: str = "cpu"
    now_s: float = 0.0
    made: list[KnownEngine] = field(default_factory=list)

    @property
    def workers(self) -> int:
        """How many networks are trained at the same time."""
        return (self.threads or usable_cores()) if self.name == "native" else 1

    def side_by_side(self, architecture: Architecture, image_size: int) -> int:
        """How many networks a worker needs at once: those with few units, four."""
        return 4 if architecture.num_units < 16 else 1

    def make(self, cohort: Cohort, minibatch: int) -> KnownEngine:
        """Return the engine of a cohort."""
        self.made.append(KnownEngine(self, cohort, minibatch))
        return self.made[-1]


def plan_on_known_machine(monkeypatch: pytest.MonkeyPatch, default: str = "native") -> SimpleNamespace:
    """Let `plan` find a known machine in place of this one; `engine: auto` is `default` there.

    The result's `machine` is the one that was found last.
    """
    found = SimpleNamespace(machine=KnownMachine(default, 1))

    def choose(name: str, runtime: Runtime) -> KnownMachine:
        found.machine = KnownMachine(default if name == "auto" else name, runtime.threads)
        return found.machine

    monkeypatch.setattr("cnnzoo.planning.cost.choose", choose)
    monkeypatch.setattr(time, "perf_counter", lambda: found.machine.now_s)
    return found
