"""What a worker does: trains one part of a cohort and tells the driver, event by event."""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from cnnzoo.cluster.events import Began, Checkpoint, Event, Outbox, Point, Refused, Trained
from cnnzoo.cluster.identity import Identity, differences, identity
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

PROGRESS_S = 1.0
"""How often progress is told."""


@dataclass(frozen=True)
class Order:
    """One part to train."""

    params: Params
    """With the engine and the device of the worker."""
    collection: str
    recipes: tuple[Recipe, ...]
    driver: Identity
    """What the worker must be."""


def train_part(order: Order, images: ImageSet, point: bytes | None) -> Iterator[list[Event]]:
    """Train a part from its resume point, or from the start; yields what happens, as it happens.

    The last event is `Trained`, or `Refused`, then the only one. Raises what the training raises.
    """
    node = socket.gethostname()
    try:
        engine = choose(order.params.train.engine, order.params.runtime)
    except CnnzooError as error:
        yield [Refused(node, (str(error),))]
        return
    found = differences(order.driver, identity(engine.arithmetic, engine.numerics))
    if found:
        yield [Refused(node, found)]
        return
    yield [Began(node)]
    with TemporaryDirectory(prefix="cnnzoo-") as folder:
        training = _Training(order, images, point, engine, Artifacts(Path(folder)))
        yield from training.events()


class _Training(threading.Thread):
    """Trains in a thread of its own, so that the driver can be told meanwhile."""

    def __init__(
        self, order: Order, images: ImageSet, point: bytes | None, engine: EngineChoice, artifacts: Artifacts
    ) -> None:
        super().__init__(name="cnnzoo-training", daemon=True)
        self._order = order
        self._point = point
        self._outbox = Outbox()
        self._job = Job(artifacts, order.params, order.collection, images, engine, _Listener(self._outbox))
        self._error: BaseException | None = None

    def events(self) -> Iterator[list[Event]]:
        """Start and yield all events; raises what the training raised."""
        self.start()
        while taken := self._outbox.take(PROGRESS_S):
            yield taken
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Train."""
        try:
            torch.set_num_threads(self._job.params.runtime.threads)
            run = CohortRun(self._job, self._order.recipes)
            run.point = _Points(run.point.folder, run.point.shard, self._outbox)
            if self._point is not None:
                ResumePoint(run.point.folder, run.point.shard).keep(self._point)
            run.run(_Progress(self._outbox))
        except BaseException as error:  # raised again where Ray sees it
            self._error = error
        finally:
            self._outbox.close()


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
