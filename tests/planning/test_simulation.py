"""What a cluster would take: against numbers computed by hand on machines of known speed."""

import random

import pytest

from builders import make_recipe
from cnnzoo import config
from cnnzoo.config import Params
from cnnzoo.planning.cluster import read_cluster
from cnnzoo.planning.cost import COHORT_S, EPOCH_S, plan, what_if
from cnnzoo.planning.simulation import Simulated, simulate
from cnnzoo.zoo.recipes import Recipe
from known_machine import evaluate_rate, plan_on_known_machine, train_rate
from zoos import PARAMS

PUBLISHED = ["mnist", "fashion_mnist", "cifar10", "svhn_cropped"]
PASSES, EVALUATED = 86 * 15 * 64, 9 * (1000 + 1000)
"""Images that a network of the collection is trained and evaluated on: a quarter of 4,000, minibatch 64."""
OVERHEAD_S = COHORT_S + 86 * EPOCH_S


def make_params(networks: int, cohort_size: int = 256, **recipes: object) -> Params:
    """Return the project's parameters with networks of one kind."""
    values = config.load(PARAMS).model_dump()
    words = {"train_fraction": 0.25, "activation": "relu", "optimizer": "sgd"} | recipes
    for name, word in words.items():
        values["recipes"][name] = {"choice": [word]}
    values["populations"]["mnist5k"]["networks"] = networks
    values["train"]["cohort_size"] = cohort_size
    return config.validate(values, "test")


def row(params: Params, cluster: str, *rates: str, prices: tuple[str, ...] = ()) -> Simulated:
    (found,) = simulate(params, ["mnist5k"], read_cluster(cluster, rates, prices))
    assert found.name == "mnist5k"
    return found


@pytest.fixture
def known(monkeypatch):
    return plan_on_known_machine(monkeypatch)


def test_each_core_is_a_worker_with_the_rate_that_is_given():
    """40 networks on 4 cores; an evaluated image takes a third of a trained one. Whole, one core has them all."""
    found = row(make_params(40), "2x2", "core=10000")
    network_s = (PASSES + EVALUATED / 3) / 10_000
    assert found.whole.seconds == pytest.approx(40 * network_s + OVERHEAD_S)
    assert found.whole.utilisation == pytest.approx(10 * network_s / found.whole.seconds)
    assert 10 * network_s < found.divided.seconds <= 11 * network_s + 5 * OVERHEAD_S
    assert found.divided.utilisation == pytest.approx(10 * network_s / found.divided.seconds)
    assert (found.cohorts, found.whole.pieces, found.price) == (1, 1, None)


def test_a_gpu_trains_as_many_networks_side_by_side_as_its_rate_was_measured_with():
    network_s = (PASSES + EVALUATED / 3) / (1e6 / 264)
    for networks, rounds in ((1, 1), (264, 1), (265, 2)):
        found = row(make_params(networks + (networks == 1), 1000), "1xH100", "H100=1e6/264")
        assert found.whole.seconds == pytest.approx(rounds * network_s + OVERHEAD_S)


def test_a_gpu_whose_networks_are_not_told_needs_a_whole_cohort_for_its_rate():
    network_s = (PASSES + EVALUATED / 3) / (1e6 / 100)
    for networks in (2, 100):
        found = row(make_params(networks, cohort_size=100), "1xH100", "H100=1e6")
        assert found.whole.seconds == pytest.approx(network_s + OVERHEAD_S)


def test_cores_without_a_rate_are_those_of_this_machine(known):
    found = row(make_params(10, activation="tanh", optimizer="adam"), "1x4")
    network_s = PASSES / train_rate("tanh", "adam") + EVALUATED / evaluate_rate("tanh", "adam")
    assert found.whole.seconds == pytest.approx(10 * network_s + OVERHEAD_S)
    assert known.machine.name == "native"


def test_this_machine_is_not_measured_where_rates_are_given(known):
    row(make_params(10), "1x4,1xH100", "core=10000", "H100=1e6/10")
    row(make_params(10), "1xH100", "H100=1e6/10")
    assert known.machine.made == []


def test_one_core_like_this_takes_the_time_of_the_plan_for_it(known):
    values = config.load(PARAMS).model_dump()
    values["runtime"]["threads"] = 1
    params = config.validate(values, "test")
    (cost,) = plan(params, ["mnist5k"])
    assert row(params, "1x1").whole.seconds == pytest.approx(cost.seconds)


def test_larger_images_take_longer_in_proportion_to_the_multiply_adds():
    """A network on 32x32 has 464,800 multiply-adds an image, on 28x28 325,632."""
    params = what_if(make_params(10), ["mnist", "cifar10"], networks=10, epochs=1)
    cluster = read_cluster("1x1", ["core=10000"])
    rows = {found.name: found for found in simulate(params, ["mnist", "cifar10"], cluster)}
    passes = {"mnist": 29 * 512 + 2 * 25_000 / 3, "cifar10": 24 * 512 + 2 * 22_500 / 3}
    scale = {"mnist": 1.0, "cifar10": rate_ratio()}
    for name, images in passes.items():
        overhead_s = COHORT_S + EPOCH_S
        assert rows[name].whole.seconds == pytest.approx(10 * images * scale[name] / 10_000 + overhead_s)


def rate_ratio() -> float:
    """Each kernel is used three times, the first one twice, at every place; the dense layer three times."""

    def multiply_adds(first: int, second: int, third: int) -> int:
        return 2 * 9 * 16 * first**2 + 3 * 9 * 16 * 16 * (second**2 + third**2) + 3 * 160

    return multiply_adds(15, 7, 3) / multiply_adds(13, 6, 2)


def test_the_price_is_that_of_the_cluster_for_the_time():
    found = row(make_params(500), "3x4,1xH100", "core=1000", "H100=1e6/8", prices=("4=2", "H100=10"))
    assert found.price == pytest.approx((3 * 2 + 10) * found.divided.seconds / 3600)


def test_several_collections_are_also_placed_at_once():
    params = what_if(make_params(20), PUBLISHED[:2], networks=60, epochs=3)
    rows = simulate(params, PUBLISHED[:2], read_cluster("4x8", ["core=50000"]))
    assert [found.name for found in rows] == [*PUBLISHED[:2], "all at once"]
    assert rows[2].cohorts == rows[0].cohorts + rows[1].cohorts
    assert rows[2].whole.seconds == max(rows[0].whole.seconds, rows[1].whole.seconds)
    assert rows[2].divided.seconds <= rows[0].divided.seconds + rows[1].divided.seconds


@pytest.mark.slow
def test_64_machines_are_busy_for_95_percent_of_the_time_with_the_published_collections(monkeypatch):
    """The target of issue 12; cohorts that are not divided keep a twentieth of the machines busy."""
    rng = random.Random(1)

    def draw(params: Params, collection: str) -> list[Recipe]:
        """Draw what makes cohorts, evenly as the published distributions do; all else takes long."""
        return [
            make_recipe(
                network,
                train_fraction=rng.choice([0.1, 0.25, 0.5, 1.0]),
                optimizer=rng.choice(["sgd", "adam", "rmsprop"]),
                activation=rng.choice(["relu", "tanh"]),
            )
            for network in range(params.populations[collection].networks)
        ]

    monkeypatch.setattr("cnnzoo.planning.simulation.recipes.draw", draw)
    smallest_and_largest = ["cifar10", "svhn_cropped"]
    params = what_if(config.load(PARAMS), smallest_and_largest)
    *each, together = simulate(params, smallest_and_largest, read_cluster("64x16", ["core=130000"]))
    for found in each:
        assert found.divided.utilisation > 0.97
        assert found.whole.utilisation < 0.1
        assert 120 <= found.cohorts <= 130
    assert together.divided.utilisation > 0.99
