"""The executor `ray`: the cohorts of a collection, trained by the workers of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnzoo.cluster.begun import Begun
from cnnzoo.cluster.collector import Collector
from cnnzoo.cluster.identity import TRAINING, identity
from cnnzoo.cluster.placement import WHOLE, Division, Part
from cnnzoo.cluster.pool import Pool
from cnnzoo.cluster.ray_backend import Call, RayBackend, connected, require_ray
from cnnzoo.cluster.worker import Order, runtime_of_worker, train_part
from cnnzoo.config import Params
from cnnzoo.core.errors import CnnzooError
from cnnzoo.training.engines.choice import EngineChoice, choose
from cnnzoo.training.job import Job
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.zoo.recipes import Recipe

DIVISIBLE = ("native", "reference")
"""Arithmetics whose bits do not depend on the cohort that a network is trained in."""


class RayExecutor:
    """Trains on a Ray cluster: that of RAY_ADDRESS, or one on this machine. Raises `CnnzooError` without Ray."""

    def __init__(self, division: Division | None = None) -> None:
        require_ray()
        self._division = division or Division()

    def choose(self, params: Params) -> EngineChoice:
        """Return the engine that names the origin: this machine needs no GPU for what others train on theirs."""
        engine, device = params.train.engine, params.runtime.device
        if engine == "cuda" or (engine == "auto" and device.startswith("cuda")):
            return EngineChoice("cuda", "cuda:0", 1)
        return choose(engine, runtime_of_worker(params.runtime, gpu=False))

    def peak_rate(self, job: Job, cohorts: Sequence[tuple[Recipe, ...]]) -> float | None:
        """Return None: nobody has measured the peak of other machines."""

    def run(self, job: Job, cohorts: Sequence[tuple[Recipe, ...]], progress: TrainingProgress) -> None:
        """Train the cohorts on all GPUs of the cluster, or on all its cores if it has none."""
        with connected(job.params.runtime) as cluster:
            gpu = _on_gpus(job.params, cluster.count("GPU"))
            backend = RayBackend(cluster, train_part, gpu=gpu)
            divisible = job.engine.arithmetic in DIVISIBLE and not gpu
            division = self._division if divisible else WHOLE
            begun = Begun(job, cohorts)
            parts = division.parts(cohorts, _passes(job), backend.workers(), begun.sizes())
            begun.remember(parts)
            collector = Collector(job, cohorts, progress)
            left = collector.left(parts)
            client = _Client(job, collector, _params_of_worker(job, gpu), cluster.put(job.images))
            for _ in Pool(backend, client, progress.say).run(left):
                pass  # the collector has heard of it


def _passes(job: Job) -> Any:
    return lambda recipes: job.passes(recipes, recipes[0].epochs)


def _on_gpus(params: Params, gpus: int) -> bool:
    """Return whether GPUs train; raises `CnnzooError` if they were asked for and there are none."""
    engine, device = params.train.engine, params.runtime.device
    if engine in {"native", "reference"} or device == "cpu":
        if engine == "cuda":
            raise CnnzooError("`train.engine=cuda` runs on a GPU, but `runtime.device=cpu`. Use `auto` for both.")
        return False
    if device == "mps":
        raise CnnzooError("`runtime.device=mps` is for `runtime.executor: local`; use `auto`, `cpu` or `cuda`.")
    if gpus == 0 and (engine == "cuda" or device.startswith("cuda")):
        raise CnnzooError("the Ray cluster has no GPU. Use `runtime.device: auto`, or add a node that has one.")
    return gpus > 0


def _params_of_worker(job: Job, gpu: bool) -> Params:
    """Return the parameters with the engine and the device that a worker uses."""
    engine = "cuda" if gpu and job.engine.arithmetic == "native" else job.engine.arithmetic
    return job.params.model_copy(
        update={
            "train": job.params.train.model_copy(update={"engine": engine}),
            "runtime": runtime_of_worker(job.params.runtime, gpu),
        }
    )


@dataclass(frozen=True)
class _Client:
    """Connects the pool with the collector."""

    job: Job
    collector: Collector
    params: Params
    images: Any
    """Where the images lie in the object store."""

    def call(self, part: Part) -> Call:
        """Return what a worker needs to train a part, from its newest resume point on."""
        engine = self.job.engine
        order = Order(
            self.params, self.job.collection, part.recipes, identity(TRAINING, engine.arithmetic, engine.numerics)
        )
        return Call((order, self.images), large=self.collector.point(part))

    def hear(self, part: Part, event: Any) -> bool:
        """Let the collector hear."""
        return self.collector.hear(part, event)

    def lost(self, part: Part) -> None:
        """Let the collector take back."""
        self.collector.lost(part)

    def name(self, part: Part) -> str:
        """Return what people call a part."""
        return self.collector.name(part)
