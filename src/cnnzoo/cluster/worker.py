"""What a worker does: trains one part of a cohort and tells the driver, event by event."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from cnnzoo.cluster.events import Checkpoint, Event, Point, Refused, Trained
from cnnzoo.cluster.identity import TRAINING, Identity, identity
from cnnzoo.cluster.outbox import Outbox, telling
from cnnzoo.config import Params, Runtime
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import ImageSet
from cnnzoo.training.cohort_run import CohortRun
from cnnzoo.training.engines.choice import EngineChoice, choose
from cnnzoo.training.job import Job
from cnnzoo.training.resume import ResumePoint
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import Origin, Shard


@dataclass(frozen=True)
class Order:
    """One part to train."""

    params: Params
    """With the engine and the device of the worker."""
    collection: str
    recipes: tuple[Recipe, ...]
    driver: Identity
    """What the worker must be."""


def train_part(order: Order, images: ImageSet, point: bytes | None = None) -> Iterator[list[Event]]:
    """Train a part from its resume point, or from the start; yields what happens, as it happens.

    The last event is `Trained`, or `Refused`, then the only one. Raises what the training raises.
    """
    try:
        engine = choose(order.params.train.engine, order.params.runtime)
    except CnnzooError as error:
        yield [Refused(socket.gethostname(), (str(error),))]
        return
    train = partial(_train, order, images, point, engine)
    yield from telling(train, order.driver, identity(TRAINING, engine.arithmetic, engine.numerics))


def _train(order: Order, images: ImageSet, point: bytes | None, engine: EngineChoice, outbox: Outbox) -> None:
    torch.set_num_threads(order.params.runtime.threads)
    with TemporaryDirectory(prefix="cnnzoo-") as folder:
        job = Job(Artifacts(Path(folder)), order.params, order.collection, images, engine, _Listener(outbox))
        run = CohortRun(job, order.recipes)
        if point is not None:
            run.point.keep(point)
        run.point = _Points(run.point.folder, run.point.shard, outbox)
        run.run(_Progress(outbox))


@dataclass(frozen=True)
class _Points(ResumePoint):
    """Sends resume points to the driver."""

    outbox: Outbox

    def keep(self, content: bytes) -> None:
        """Send the content of a point."""
        self.outbox.put(Point(content))


@dataclass(frozen=True)
class _Progress:
    """Counts for the driver."""

    outbox: Outbox

    def skip(self, passes: int) -> None:
        """Count what the resume point has behind it."""
        self.outbox.advance(skipped=passes)

    def advance(self, passes: int) -> None:
        """Count what is done now."""
        self.outbox.advance(trained=passes)

    def finish(self, networks: int) -> None:
        """The driver counts networks itself."""


@dataclass(frozen=True)
class _Listener:
    """Passes on what the driver's listener needs."""

    outbox: Outbox

    def start(self, cohort: str, origin: Origin, recipes: Sequence[Recipe]) -> None:
        """The driver knows."""

    def checkpoint(self, cohort: str, epoch: int, metrics: Mapping[str, NDArray[np.float64]]) -> None:
        """Send the metrics of a checkpoint."""
        self.outbox.put(Checkpoint(epoch, {name: np.array(values) for name, values in metrics.items()}))

    def finish(self, shard: Shard, nodes: Sequence[str] = ()) -> None:
        """Send the shard."""
        self.outbox.put(Trained(shard.path.read_bytes()))


def runtime_of_worker(runtime: Runtime, gpu: bool) -> Runtime:
    """Return the runtime of a worker: one core, or the one GPU that Ray lets it see."""
    return runtime.model_copy(update={"threads": 1, "device": "cuda:0" if gpu else "cpu"})
