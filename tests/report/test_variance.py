"""The division of variance, against an independent one and against data whose variances are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from builders import make_recipe, make_shards
from cnnzoo.report.groups import components, pair_differences, seed_components, share
from cnnzoo.report.results import CollectionResults
from cnnzoo.zoo import Collection, assemble
from zoos import make_params

PARAMS = make_params({"tiny": 24}, ["hyper"])


def sums_of(groups):
    return np.array([[len(g) for g in groups], [sum(g) for g in groups], [np.square(g).sum() for g in groups]], float)


def draw(rng, between, within, sizes):
    return [rng.normal(rng.normal(0, between**0.5), within**0.5, size) for size in sizes]


def test_of_equal_groups_it_is_what_the_f_test_has():
    groups = draw(np.random.default_rng(1), 2.0, 1.0, [4] * 9)
    between, within = components(sums_of(groups))
    pooled = np.mean([np.var(g, ddof=1) for g in groups])
    assert within == pytest.approx(pooled)
    assert (4 * between + within) / within == pytest.approx(stats.f_oneway(*groups).statistic)


def test_estimates_are_unbiased_though_groups_differ_in_size():
    rng, sizes = np.random.default_rng(2), [1, 2, 2, 3, 5, 8]
    found = np.array([components(sums_of(draw(rng, 0.5, 1.5, sizes))) for _ in range(4000)])
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - [0.5, 1.5]) < 4 * error).all()


def test_expectations_are_exact_for_any_sizes():
    """Estimates are quadratic, so their expectation is their sum over the columns of the design (unit variances)."""
    sizes = [1, 2, 2, 3, 5, 20]
    zero = [np.zeros(size) for size in sizes]
    values = [sums_of([*zero[:i], unit, *zero[i + 1 :]]) for i, size in enumerate(sizes) for unit in np.eye(size)]
    configurations = [sums_of([*zero[:i], np.ones(size), *zero[i + 1 :]]) for i, size in enumerate(sizes)]
    assert np.sum([components(sums) for sums in configurations], axis=0) == pytest.approx([1, 0], abs=1e-12)
    assert np.sum([components(sums) for sums in values], axis=0) == pytest.approx([0, 1], abs=1e-12)


def test_a_negative_estimate_leaves_no_share():
    assert share(np.array(-0.2), np.array(1.0)) == 0
    assert share(np.array(3.0), np.array(1.0)) == 0.75


def collection(tmp_path, networks, accuracy, **changes):
    recipes = [make_recipe(n, **{k: v(n) for k, v in changes.items()}) for n in range(networks)]
    shards = make_shards(tmp_path / "shards", recipes, "tiny")
    assemble(shards, recipes, "tiny", tmp_path / "zoo", 7)
    zoo = Collection.open(tmp_path / "zoo")
    zoo.metrics.loc[(zoo.metrics["step"] == 86).to_numpy(), "test_accuracy"] = accuracy
    empty = pd.DataFrame()
    return CollectionResults("tiny", "mnist5k", zoo, empty, None, empty, empty, {}, {}, empty, empty)


def test_the_interval_covers_the_true_share(tmp_path):
    rng = np.random.default_rng(5)
    accuracy = 0.7 + 0.05 * np.concatenate(draw(rng, 3.0, 1.0, [4] * 60))
    found = collection(tmp_path, 240, accuracy, group=lambda n: n // 4, random_seed=lambda n: n % 4)
    divided = seed_components(found, PARAMS)
    assert (divided.configurations, divided.networks) == (60, 240)
    assert divided.between == pytest.approx(0.05**2 * 3, rel=0.5)
    assert divided.within == pytest.approx(0.05**2, rel=0.25)
    assert divided.low < 0.75 < divided.high
    assert divided.low < divided.share < divided.high
    assert 0.02 < divided.high - divided.low < 0.3
    assert pair_differences(found).empty


def test_pairs_are_compared_from_the_smaller_value_to_the_larger(tmp_path):
    same = {"activation": lambda n: "relu", "optimizer": lambda n: "sgd", "w_init": lambda n: "he_normal"}
    same |= {name: lambda n: 0.25 for name in ("dropout", "init_std", "l2reg", "train_fraction")}
    rates = [0.02, 0.01, 0.003, 0.004]
    found = collection(
        tmp_path, 4, [0.5, 0.9, 0.1, 0.2], group=lambda n: n // 2, learning_rate=lambda n: rates[n], **same
    )
    table = pair_differences(found)
    assert table["hyperparameter"].tolist() == ["learning_rate"] * 2
    assert table[["first", "second"]].to_numpy().tolist() == [[0.01, 0.02], [0.003, 0.004]]
    assert table["difference"].tolist() == pytest.approx([-0.4, 0.1])
    assert seed_components(found, PARAMS) is None
