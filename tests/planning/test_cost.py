"""What training would cost: passes against real trainings and schedules, all else against numbers computed by hand."""

import time
from collections import Counter
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from builders import make_collection, make_images
from cnnzoo import config
from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.cores import usable_cores
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.registry import DATASETS
from cnnzoo.planning.cost import COHORT_S, EPOCH_S, Cost, Machine, plan, what_if
from cnnzoo.training.engines.choice import CLASSES, choose
from cnnzoo.training.minibatches import Schedule
from cnnzoo.training.train import train_collection
from cnnzoo.zoo import recipes
from known_machine import KnownMachine, evaluate_rate, plan_on_known_machine, train_rate
from zoos import PARAMS

BYTES = 4970 * 4
"""Of one checkpoint of the published network."""


def make_params(changes: dict[str, Any] | None = None, **population: Any) -> Params:
    """Return the project's parameters; `changes` go to `section.key`, the others to the collection `mnist5k`."""
    values = config.load(PARAMS).model_dump()
    for path, value in (changes or {}).items():
        section, _, key = path.partition(".")
        if key:
            values[section][key] = value
        else:
            values[section] = value
    values["populations"]["mnist5k"] |= population
    return config.validate(values, "test")


def one_kind(fraction: float = 0.25, activation: str = "relu", optimizer: str = "sgd") -> dict[str, Any]:
    """Return the changes under which all networks are of one cohort, were it large enough."""
    words = {"train_fraction": fraction, "activation": activation, "optimizer": optimizer}
    return {f"recipes.{name}": {"choice": [word]} for name, word in words.items()}


def cost_of(params: Params, collection: str = "mnist5k") -> Cost:
    (cost,) = plan(params, [collection])
    assert cost.collection == collection
    return cost


@pytest.fixture
def known(monkeypatch):
    return plan_on_known_machine(monkeypatch)


def test_hand_computed_passes(known):
    """A quarter of 4,000 images are 15 minibatches of 64; 15 * 64 * 86 epochs * 512 networks."""
    cost = cost_of(make_params(one_kind(0.25)))
    assert (cost.networks, cost.cohorts, cost.passes) == (512, 2, 42_270_720)
    cost = cost_of(make_params(one_kind(0.25), networks=7, minibatch=300, epochs=11))
    assert (cost.networks, cost.cohorts, cost.passes) == (7, 1, 7 * 11 * 900)


@pytest.mark.parametrize(
    ("dataset", "minibatch", "epochs"), [("mnist5k", 64, None), ("cifar10", 512, None), ("svhn_cropped", 500, 7)]
)
def test_passes_are_those_of_the_networks_schedules(dataset, minibatch, epochs, known):
    changes = {"datasets": ["mnist5k", dataset] if dataset != "mnist5k" else ["mnist5k"]}
    params = make_params(changes, dataset=dataset, minibatch=minibatch, epochs=epochs, networks=40)
    images = {"mnist5k": 4_000, "cifar10": 50_000, "svhn_cropped": 73_257}[dataset]
    expected = sum(
        (epochs or 86) * Schedule(params.seed, "mnist5k", recipe.train_fraction, images, minibatch).epoch(1).size
        for recipe in recipes.draw(params, "mnist5k")
    )
    assert cost_of(params).passes == expected


def expected_seconds(params: Params, workers: int, images: tuple[int, int], kept: int) -> float:
    """Add up the time of all cohorts: each worker takes one network at a time."""
    train_images, test_images = images
    population = params.populations["mnist5k"]
    epochs = population.epochs or params.recipes.epochs
    drawn = recipes.draw(params, "mnist5k")
    sizes = Counter((recipe.train_fraction, recipe.activation, recipe.optimizer) for recipe in drawn)
    seconds = 0.0
    for (fraction, *kind), size in sizes.items():
        schedule = Schedule(params.seed, "mnist5k", fraction, train_images, population.minibatch)
        network_s = epochs * schedule.epoch(1).size / train_rate(*kind)
        network_s += kept * (len(schedule.subset) + test_images) / evaluate_rate(*kind)
        full, rest = divmod(size, params.train.cohort_size)
        for cohort in [params.train.cohort_size] * full + [rest] * (rest > 0):
            seconds += np.ceil(cohort / workers) * network_s + COHORT_S + EPOCH_S * epochs
    return seconds


@pytest.mark.parametrize(("threads", "cohort_size"), [(1, 256), (3, 256), (3, 4), (16, 256)])
def test_native_seconds_are_those_of_rounds_of_workers(threads, cohort_size, known):
    params = make_params({"runtime.threads": threads, "train.cohort_size": cohort_size}, networks=100)
    cost = cost_of(params)
    assert cost.seconds == pytest.approx(expected_seconds(params, threads, (4_000, 1_000), kept=9))
    assert cost.rate == pytest.approx(cost.passes / cost.seconds)


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_other_engines_have_one_worker_whatever_the_threads(engine, known):
    params = make_params({"runtime.threads": 8, "train.engine": engine}, networks=60, epochs=30)
    expected = expected_seconds(params, 1, (4_000, 1_000), kept=6)  # epochs 0 1 2 3 20 30
    assert cost_of(params).seconds == pytest.approx(expected)


def test_no_number_of_threads_means_all_cores():
    assert Machine(KnownMachine("native", threads=0)).workers == usable_cores()


@pytest.mark.parametrize("cohort_size", [1, 5, 64, 256])
def test_cohorts_are_those_of_networks_that_share_a_schedule_and_a_kind(cohort_size, known):
    params = make_params({"train.cohort_size": cohort_size}, networks=300)
    kinds = Counter((r.train_fraction, r.optimizer, r.activation) for r in recipes.draw(params, "mnist5k"))
    assert cost_of(params).cohorts == sum(-(-size // cohort_size) for size in kinds.values())


@pytest.mark.parametrize(("dataset", "shape"), [("mnist5k", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_every_kind_of_network_is_measured_once_on_images_of_its_data_set(dataset, shape, known):
    params = make_params({"datasets": ["mnist5k", "cifar10"]}, dataset=dataset, networks=60, num_units=8, minibatch=200)
    plan(params, ["mnist5k"])
    engines = known.machine.made
    kinds = Counter((engine.cohort.activation, engine.cohort.optimizer) for engine in engines)
    assert kinds == Counter((a, o) for a in ("relu", "tanh") for o in ("sgd", "adam", "rmsprop"))
    for engine in engines:
        assert engine.image_shapes == [shape]
        assert (engine.cohort.image_size, engine.minibatch) == (shape[0], 200)
        assert engine.cohort.architecture.num_units == 8


@pytest.mark.parametrize(("name", "threads"), [("native", 1), ("native", 5), ("batched", 5), ("reference", 5)])
@pytest.mark.parametrize("minibatch", [64, 1000, 4096])
def test_a_measured_rate_is_that_of_one_worker_without_the_warm_up(name, threads, minibatch, monkeypatch):
    machine = KnownMachine(name, threads)
    monkeypatch.setattr(time, "perf_counter", lambda: machine.now_s)
    (example,) = recipes.draw(make_params(one_kind(1.0, "tanh", "adam"), networks=2), "mnist5k")[:1]
    rates = Machine(machine).measure(example, "mnist5k", DATASETS["mnist5k"].extent, minibatch)
    assert rates.train == pytest.approx(train_rate("tanh", "adam"))
    assert rates.evaluate == pytest.approx(evaluate_rate("tanh", "adam"))


@pytest.mark.parametrize(("units", "networks"), [(8, 12), (16, 3)])
def test_as_many_networks_are_measured_as_the_workers_train_at_once(units, networks, monkeypatch):
    machine = KnownMachine("native", threads=3)
    monkeypatch.setattr(time, "perf_counter", lambda: machine.now_s)
    example = recipes.draw(make_params(networks=2, num_units=units), "mnist5k")[0]
    Machine(machine).measure(example, "mnist5k", DATASETS["mnist5k"].extent, 64)
    assert [engine.cohort.size for engine in machine.made] == [networks]


@pytest.mark.parametrize(
    ("name", "units", "networks", "turns"),
    [("native", 8, 10, 8), ("native", 8, 3, 3), ("native", 16, 10, 5), ("native", 16, 11, 6), ("batched", 8, 10, 10)],
)
def test_the_busiest_worker_trains_whole_groups(name, units, networks, turns):
    """Two threads; networks of fewer than 16 units are trained four at a time."""
    example = recipes.draw(make_params(networks=2, num_units=units), "mnist5k")[0]
    assert Machine(KnownMachine(name, threads=2)).turns(networks, example, DATASETS["mnist5k"].extent) == turns


def test_this_machine_is_measured():
    cost = cost_of(make_params(one_kind(), networks=2, epochs=1))
    assert cost.passes == 2 * 960
    assert COHORT_S < cost.seconds < 3600
    assert np.isfinite(cost.rate)


def test_hand_computed_disk_and_memory(known):
    """Of each network 9 checkpoints of 4,970 float32, in the shards and in the matrix."""
    cost = cost_of(make_params(one_kind(), networks=300))
    assert cost.disk_bytes == 2 * 300 * 9 * BYTES == 107_352_000
    assert cost.tracked_bytes == 4_500_000
    # 4,000 images of 28x28 twice as bytes and once as floats; of the cohort of 256 (the other has 44) the checkpoints
    # twice, and four times the weights for the optimizer's state and their gradients.
    assert cost.memory_bytes == 700_000_000 + 18_816_000 + 256 * (2 * 9 + 4) * BYTES


@pytest.mark.parametrize(("epochs", "kept"), [(1, 2), (2, 3), (20, 5), (40, 6), (86, 9), (100, 9)])
def test_disk_grows_with_the_checkpoints(epochs, kept, known):
    assert cost_of(make_params(epochs=epochs, networks=10)).disk_bytes == 2 * 10 * kept * BYTES


def test_disk_and_memory_follow_the_networks_shape_and_the_images_colours(known):
    changes = {"datasets": ["mnist5k", "cifar10"]} | one_kind()
    cost = cost_of(make_params(changes, dataset="cifar10", networks=10, num_units=4))
    weights = 4 * (4 + 9 * 4 + 2 * (4 + 9 * 16) + 10 + 40)
    assert cost.disk_bytes == 2 * 10 * 9 * weights
    # 50,000 images of 32x32 in three colours twice as bytes, their mean once as floats.
    assert cost.memory_bytes == 700_000_000 + 50_000 * 1024 * (2 * 3 + 4) + 10 * 22 * weights


def test_planned_disk_is_that_of_real_shards_and_their_matrix(tmp_path, known):
    folder = make_collection(tmp_path, networks=24)
    shards = list(tmp_path.rglob("*.safetensors"))
    real = sum(path.stat().st_size for path in [*shards, folder / "weights.npy"])
    assert cost_of(make_params(networks=24)).disk_bytes == pytest.approx(real, rel=0.02)


def test_collections_are_planned_in_the_order_asked_for_with_their_own_data_sets(known):
    values = config.load(PARAMS).model_dump() | {"datasets": ["mnist5k", "mnist"]}
    values["populations"] = {
        "small": {"dataset": "mnist5k", "networks": 10, "minibatch": 64},
        "large": {"dataset": "mnist", "networks": 20, "minibatch": 64, "epochs": 3},
    }
    values["collections"] = ["small"]
    costs = plan(config.validate(values, "test"), ["large", "small"])
    assert [(cost.collection, cost.networks) for cost in costs] == [("large", 20), ("small", 10)]
    most = 20 * 3 * 60_000
    assert 0.1 * most < costs[0].passes < most


def test_an_unknown_collection_is_named_with_the_nearest(known):
    with pytest.raises(CnnzooError, match=r"no collection `mnist5`.*did you mean `mnist5k`"):
        plan(make_params(), ["mnist5"])


def what_if_values(*arguments: Any) -> dict[str, Any]:
    return what_if(*arguments).model_dump()


def test_what_if_changes_the_named_collections_and_nothing_else():
    values = config.load(PARAMS).model_dump()
    shape = {"dataset": "mnist5k", "minibatch": 64, "num_units": 16, "num_layers": 3}
    values["populations"] = {name: {**shape, "networks": 10, "epochs": 4} for name in ("first", "second", "third")}
    values["collections"] = ["first"]
    params = config.validate(values, "test")
    before = params.model_dump()
    named = ["first", "third"]
    for arguments, changed in (
        ((99, 7), {"networks": 99, "epochs": 7}),
        ((99, None), {"networks": 99}),
        ((None, 7), {"epochs": 7}),
        ((None, None), {}),
    ):
        expected = params.model_dump()
        for name in named:
            expected["populations"][name] |= changed
        assert what_if_values(params, named, *arguments) == expected
    assert params.model_dump() == before


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "cifar10", "svhn_cropped"])
def test_what_if_knows_the_published_collections(dataset):
    params = what_if(make_params(), [dataset])
    expected = {"dataset": dataset, "networks": 30_000, "minibatch": 512}
    assert params.populations[dataset].model_dump(exclude_none=True) == expected | {"num_units": 16, "num_layers": 3}
    assert dataset in params.datasets
    assert params.populations["mnist5k"] == make_params().populations["mnist5k"]
    assert what_if(make_params(), [dataset], 50, 3).populations[dataset].networks == 50
    assert what_if(make_params(), [dataset], 50, 3).populations[dataset].epochs == 3


def test_what_if_takes_a_defined_collection_of_a_published_name_as_it_is():
    values = make_params().model_dump()
    values["datasets"] = ["mnist5k", "mnist"]
    values["populations"]["mnist"] = {"dataset": "mnist", "networks": 44, "minibatch": 32}
    params = what_if(config.validate(values, "test"), ["mnist"], None, 2)
    assert params.populations["mnist"].model_dump(exclude={"num_units", "num_layers"}, exclude_none=True) == {
        "dataset": "mnist", "networks": 44, "minibatch": 32, "epochs": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("networks", "epochs", "key"), [(1, None, "networks"), (10**7, 1, "networks"), (5, 0, "epochs")]
)
def test_what_if_refuses_values_out_of_range(networks, epochs, key):
    with pytest.raises(CnnzooError, match=rf"(?s)plan's options is not valid.*populations.mnist5k.{key}"):
        what_if(make_params(), ["mnist5k"], networks, epochs)


@pytest.mark.slow
def test_a_plan_is_what_a_real_training_does(tmp_path, monkeypatch):
    """The images that the engine is given are counted, in training and in evaluation."""
    params = make_params(networks=6, epochs=5, minibatch=90)
    artifacts, counted = Artifacts(tmp_path), Counter()
    make_images(4_000, 1_000).save(artifacts.images("mnist5k"))
    engine = CLASSES[choose("auto", params.runtime).name]
    train, evaluate = engine.train, engine.evaluate

    def counting_train(self, minibatches, first_step):
        counted["trained"] += minibatches.size * len(self.weights())
        train(self, minibatches, first_step)

    def counting_evaluate(self, images, labels):
        counted["evaluated"] += len(labels) * len(self.weights())
        return evaluate(self, images, labels)

    monkeypatch.setattr(engine, "train", counting_train)
    monkeypatch.setattr(engine, "evaluate", counting_evaluate)
    shards = train_collection(artifacts, params, "mnist5k", recipes.draw(params, "mnist5k"), MagicMock())
    monkeypatch.undo()

    plan_on_known_machine(monkeypatch, "batched")
    monkeypatch.setattr("known_machine.train_rate", lambda *_: 1000.0)
    monkeypatch.setattr("known_machine.evaluate_rate", lambda *_: 5000.0)
    cost = cost_of(params)
    assert cost.passes == counted["trained"]
    assert cost.cohorts == len(shards)
    overhead_s = len(shards) * (COHORT_S + 5 * EPOCH_S)
    assert cost.seconds == pytest.approx(counted["trained"] / 1000 + counted["evaluated"] / 5000 + overhead_s)
