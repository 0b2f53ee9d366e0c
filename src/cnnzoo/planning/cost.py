"""What a training run would cost on this machine: measured for a few seconds, then added up over the real cohorts.

Shape letters: N networks, B images of a minibatch.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cnnzoo.config import Params, validate
from cnnzoo.core.cores import usable_cores
from cnnzoo.images.registry import DATASETS, Extent
from cnnzoo.training.cohorts import cohort_of, group
from cnnzoo.training.engines.choice import EngineChoice, choose
from cnnzoo.training.initializers import initial_weights
from cnnzoo.training.minibatches import Schedule
from cnnzoo.zoo import recipes
from cnnzoo.zoo.recipes import Recipe

MEASURE_S = 0.25
"""How long each kind of network is timed."""
COHORT_S = 0.03
EPOCH_S = 0.0015
"""Lightning's own time a cohort and an epoch, measured on an idle machine with AVX-512; a busy one takes more."""
RUN_BYTES = 15_000
"""Size of one run in MLflow's database, measured."""
BASE_BYTES = 700_000_000
"""Memory of the process itself: Python, torch, Lightning, MLflow; measured."""


@dataclass(frozen=True)
class Rates:
    """Images/s that one worker (a thread, or the whole device) puts through networks of one kind."""

    train: float
    evaluate: float


@dataclass(frozen=True)
class Work:
    """What one network of a cohort asks for, and what its cohort takes beside the work on its networks."""

    trained: int
    """Images that the network is trained on, over all epochs."""
    evaluated: int
    """Images that it is evaluated on, over all checkpoints."""
    overhead_s: float
    """Of the whole cohort, however many networks it has."""

    def seconds(self, rates: Rates) -> float:
        """Return the time that one worker spends on one network."""
        return self.trained / rates.train + self.evaluated / rates.evaluate


def extent_of(params: Params, collection: str) -> Extent:
    """Return the extent of the images that a collection's networks see."""
    return DATASETS[params.population(collection).dataset].extent


def work_of(params: Params, collection: str, first: Recipe) -> Work:
    """Return the work on each network of the cohort that `first` belongs to."""
    extent, minibatch = extent_of(params, collection), params.population(collection).minibatch
    schedule = Schedule(params.seed, collection, first.train_fraction, extent.train, minibatch)
    kept = len(first.checkpoints)
    return Work(
        trained=first.epochs * schedule.passes,
        evaluated=kept * (schedule.subset_size + extent.test),
        overhead_s=COHORT_S + EPOCH_S * first.epochs,
    )


@dataclass(frozen=True)
class Cost:
    """What the training of one collection takes."""

    collection: str
    networks: int
    cohorts: int
    passes: int
    """Image passes (images x networks) of training."""
    seconds: float
    disk_bytes: int
    """Shards and matrix."""
    memory_bytes: int
    """Images, weights and checkpoints of one cohort."""

    @property
    def rate(self) -> float:
        """Images/s over the whole run, with evaluation and all overheads."""
        return self.passes / self.seconds

    @property
    def tracked_bytes(self) -> int:
        """Size of the collection's runs in MLflow."""
        return self.networks * RUN_BYTES


@dataclass(frozen=True)
class Machine:
    """An engine and the number of its workers: each takes one network or group at a time, or one takes them all."""

    engine: EngineChoice

    @cached_property
    def workers(self) -> int:
        """Networks that are trained at the same time by separate threads."""
        return (self.engine.threads or usable_cores()) if self.engine.name == "native" else 1

    def turns(self, networks: int, example: Recipe, extent: Extent) -> int:
        """Return how many networks the busiest worker trains of so many: whole groups, if they train side by side."""
        native = self.engine.name == "native"
        together = self.engine.side_by_side(example.layout.architecture, extent.side) if native else 1
        groups = -(-networks // together)
        return min(networks, -(-groups // self.workers) * together)

    def measure(self, example: Recipe, collection: str, extent: Extent, minibatch: int) -> Rates:
        """Time one kind of network with every worker busy."""
        networks = self.workers * self.engine.side_by_side(example.layout.architecture, extent.side)
        members = [example] * networks
        random = np.random.default_rng(0)
        count = max(minibatch, 1024)
        images = random.integers(0, 256, (count, extent.side, extent.side, extent.colours), dtype=np.uint8)
        labels = random.integers(0, 10, count, dtype=np.uint8)
        engine = self.engine.make(cohort_of(members, collection, extent.side), minibatch)
        weights = initial_weights(example, collection, example.layout)
        engine.load_state({"weights": np.stack([weights] * networks)})
        engine.load_images(images, labels)
        steps = np.stack([random.permutation(count)[:minibatch] for _ in range(max(1, 2048 // minibatch))])
        train_s = _time(lambda: engine.train(steps, 0))
        evaluate_s = _time(lambda: engine.evaluate(images, labels))
        per_worker = networks / self.workers
        return Rates(steps.size * per_worker / train_s, count * per_worker / evaluate_s)


def _time(work: Callable[[], object]) -> float:
    """Return the median time of one call, in seconds, over about MEASURE_S; the first call warms up."""
    work()
    times: list[float] = []
    end = time.perf_counter() + MEASURE_S
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def plan(params: Params, collections: Sequence[str]) -> list[Cost]:
    """Return what `dvc repro` would spend on training each collection from scratch on this machine."""
    machine = Machine(choose(params.train.engine, params.runtime))
    return [_cost(params, collection, machine) for collection in collections]


def kind_of(recipe: Recipe) -> tuple[str, str]:
    """Return what, beside shape and images, the rate of a network depends on."""
    return recipe.activation, recipe.optimizer


def measure_kinds(
    machine: Machine, params: Params, collection: str, cohorts: Sequence[Sequence[Recipe]]
) -> dict[tuple[str, str], Rates]:
    """Return the rates of all kinds of networks among the cohorts of one collection."""
    extent, minibatch = extent_of(params, collection), params.population(collection).minibatch
    examples = {kind_of(cohort[0]): cohort[0] for cohort in reversed(cohorts)}
    return {kind: machine.measure(example, collection, extent, minibatch) for kind, example in examples.items()}


def this_cpu(params: Params) -> Machine:
    """Return this machine's cores; raises `CnnzooError` where the native kernel is missing."""
    return Machine(choose("native", params.runtime.model_copy(update={"device": "cpu"})))


def _cost(params: Params, collection: str, machine: Machine) -> Cost:
    population = params.population(collection)
    extent = extent_of(params, collection)
    cohorts = group(recipes.draw(params, collection), params.train.cohort_size)
    rates = measure_kinds(machine, params, collection, cohorts)
    passes, seconds = 0, 0.0
    for cohort in cohorts:
        first = cohort[0]
        work = work_of(params, collection, first)
        passes += len(cohort) * work.trained
        seconds += machine.turns(len(cohort), first, extent) * work.seconds(rates[kind_of(first)]) + work.overhead_s
    kept = len(first.checkpoints)
    checkpoint_bytes = 4 * first.layout.size
    return Cost(
        collection=collection,
        networks=population.networks,
        cohorts=len(cohorts),
        passes=passes,
        seconds=seconds,
        disk_bytes=2 * population.networks * kept * checkpoint_bytes,
        memory_bytes=BASE_BYTES
        + extent.train * extent.side**2 * (2 * extent.colours + 4)
        + max(map(len, cohorts)) * (2 * kept + 4) * checkpoint_bytes,
    )


def what_if(
    params: Params, collections: Sequence[str], networks: int | None = None, epochs: int | None = None
) -> Params:
    """Return parameters under which the named collections have so many networks, trained for so many epochs.

    A published data set that `populations` does not define counts as the published collection: 30,000 networks,
    minibatch 512. Raises `CnnzooError` for a value out of range.
    """
    values = params.model_dump()
    for name in collections:
        if name in DATASETS and name not in values["populations"]:
            values["populations"][name] = {"dataset": name, "networks": 30_000, "minibatch": 512}
            values["datasets"] = sorted({*values["datasets"], name})
    for name in collections:
        chosen = {"networks": networks, "epochs": epochs}
        if name in values["populations"]:
            values["populations"][name] |= {key: value for key, value in chosen.items() if value is not None}
    return validate(values, "the plan's options")
