import math
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from cnnzoo.config import Choice, Range, load
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import CHOSEN, RANGED, SAMPLED
from cnnzoo.zoo import recipes
from cnnzoo.zoo.recipes import COLUMNS, Recipe, checkpoint_epochs, draw, quantile
from imports import ROOT

PARAMS = load(ROOT / "params.yaml")
NETWORKS = 3000
SIGNIFICANCE = 1e-4
"""Draws are fixed by the seed, so a test passes always or never; this is how unlucky the seed may be."""


def with_networks(count, params=PARAMS, **ranges):
    population = params.populations["mnist5k"].model_copy(update={"networks": count})
    changed = params.recipes.model_copy(update=ranges)
    return params.model_copy(update={"populations": {"mnist5k": population}, "recipes": changed})


@pytest.fixture(scope="module")
def drawn():
    return draw(with_networks(NETWORKS), "mnist5k")


@pytest.mark.parametrize("name", RANGED)
def test_real_hyperparameters_follow_their_published_distribution(drawn, name):
    values = np.array([getattr(recipe, name) for recipe in drawn])
    distribution = getattr(PARAMS.recipes, name)
    low, high = distribution.bounds
    assert low <= values.min() < values.max() <= high
    expected = stats.loguniform(low, high) if distribution.log_uniform else stats.uniform(low, high - low)
    assert stats.kstest(values, expected.cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("name", CHOSEN)
def test_categories_are_equally_likely(drawn, name):
    choices = getattr(PARAMS.recipes, name).choice
    counts = [sum(getattr(recipe, name) == choice for recipe in drawn) for choice in choices]
    assert sum(counts) == NETWORKS
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def test_hyperparameters_of_a_network_are_independent_of_each_other(drawn):
    ranks = np.array([[_rank(recipe, name) for name in SAMPLED] for recipe in drawn])
    correlations = np.corrcoef(ranks.T)[np.triu_indices(len(SAMPLED), 1)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(NETWORKS)


def _rank(recipe, name):
    value = getattr(recipe, name)
    return getattr(PARAMS.recipes, name).choice.index(value) if name in CHOSEN else math.log(value + 1e-12)


def test_growing_a_collection_leaves_its_networks_as_they_were(drawn):
    assert draw(with_networks(20), "mnist5k") == drawn[:20]


@pytest.mark.parametrize("name", SAMPLED)
def test_changing_one_range_leaves_all_other_draws_as_they_were(name):
    other = Choice(choice=["tanh"]) if name == "activation" else Range(choice=[0.05])
    if name in ("optimizer", "w_init"):
        other = Choice(choice=getattr(PARAMS.recipes, name).choice[:1])
    before = draw(with_networks(30), "mnist5k")
    after = draw(with_networks(30, **{name: other}), "mnist5k")
    assert before != after
    assert [replace(recipe, **{name: None}) for recipe in before] == [
        replace(recipe, **{name: None}) for recipe in after
    ]


def test_seed_and_collection_change_every_draw():
    population = PARAMS.populations["mnist5k"].model_copy(update={"networks": 5})
    params = PARAMS.model_copy(update={"populations": {"mnist5k": population, "twin": population}})
    first, twin = draw(params, "mnist5k"), draw(params, "twin")
    reseeded = draw(params.model_copy(update={"seed": 1}), "mnist5k")
    for a, b, c in zip(first, twin, reseeded, strict=True):
        assert len({a.learning_rate, b.learning_rate, c.learning_rate}) == 3


def test_recipe_carries_what_all_networks_share(drawn):
    for recipe in drawn[:3]:
        assert (recipe.b_init, recipe.dataset, recipe.dnn_architecture) == ("zeros", "mnist5k", "cnn")
        assert (recipe.epochs, recipe.epochs_between_checkpoints) == (86, 20)
        assert (recipe.num_layers, recipe.num_units, recipe.random_seed) == (3, 16, PARAMS.seed)
        assert recipe.layout.size == 4970
    assert [recipe.network for recipe in drawn] == list(range(NETWORKS))


def test_config_columns_stand_in_the_published_order(drawn):
    assert ",".join(drawn[0].config()).replace("config.", "") == (
        "activation,b_init,dataset,dnn_architecture,dropout,epochs,epochs_between_checkpoints,init_std,l2reg,"
        "learning_rate,num_layers,num_units,optimizer,random_seed,train_fraction,w_init"
    )


def test_a_collection_may_train_for_a_time_and_on_images_of_its_own():
    """The name of a collection need not be that of its data set."""
    populations = {
        "short": PARAMS.populations["mnist5k"].model_copy(update={"networks": 3, "epochs": 7, "dataset": "cifar10"}),
        "usual": PARAMS.populations["mnist5k"].model_copy(update={"networks": 3, "num_units": 5, "num_layers": 2}),
    }
    params = PARAMS.model_copy(update={"populations": populations})
    assert {(r.epochs, r.dataset, r.num_units, r.num_layers) for r in draw(params, "short")} == {(7, "cifar10", 16, 3)}
    assert {(r.epochs, r.dataset, r.num_units, r.num_layers) for r in draw(params, "usual")} == {(86, "mnist5k", 5, 2)}


GOLDEN = """
0 0.009505035821477536 0.0041657146125425116 0.0011026642201116608 0.18998964297485604 0.5 relu adam orthogonal
1 0.010864328774618164 0.007462519952912628 0.05643255762563353 0.22124932084765858 1.0 tanh adam RandomNormal
2 0.025606594883065326 0.009780504348030588 0.1862022502373374 0.1190778152170896 1.0 relu adam he_normal
511 0.0016956111988289287 0.005699758303165071 0.015927197320579 0.4610653486059977 0.5 relu rmsprop he_normal
"""
"""The first recipes of the default collection: network, then SAMPLED. A change of them makes every zoo of this
project another one. Made again by printing `(recipe.network, *(getattr(recipe, name) for name in SAMPLED))`."""


def test_the_default_collection_draws_what_it_always_drew():
    rows = [line.split() for line in GOLDEN.strip().splitlines()]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 511]
    drawn = draw(PARAMS, "mnist5k")
    for number, *values in rows:
        recipe = drawn[int(number)]
        for name, value in zip(SAMPLED, values, strict=True):
            found = getattr(recipe, name)
            # exp and log may differ by a rounding between C libraries
            assert found == (value if isinstance(found, str) else pytest.approx(float(value), rel=1e-13)), name


def test_unknown_collection_is_refused():
    with pytest.raises(CnnzooError, match="no collection `cifar`"):
        draw(PARAMS, "cifar")


@pytest.mark.parametrize(
    ("epochs", "between", "expected"),
    [
        (86, 20, (0, 1, 2, 3, 20, 40, 60, 80, 86)),
        (1, 20, (0, 1)),
        (2, 20, (0, 1, 2)),
        (3, 1, (0, 1, 2, 3)),
        (5, 2, (0, 1, 2, 3, 4, 5)),
        (40, 20, (0, 1, 2, 3, 20, 40)),
        (20, 20, (0, 1, 2, 3, 20)),
        (10, 1000, (0, 1, 2, 3, 10)),
    ],
)
def test_checkpoint_epochs(epochs, between, expected):
    assert checkpoint_epochs(epochs, between) == expected


def test_quantile_reaches_both_ends_and_nothing_beyond():
    last = math.nextafter(1.0, 0.0)
    choice = Choice[str](choice=["a", "b", "c"])
    assert [quantile(choice, p) for p in (0.0, 1 / 3 - 1e-9, 1 / 3, last)] == ["a", "a", "b", "c"]
    uniform = Range(uniform=[-1.0, 3.0])
    assert quantile(uniform, 0.0) == -1
    assert quantile(uniform, 0.25) == 0
    assert quantile(uniform, last) < 3
    assert quantile(Range(log_uniform=[1e-4, 1e-2]), 0.5) == pytest.approx(1e-3)
    assert quantile(Range(uniform=[0.0, 0.0]), 0.7) == 0


def test_csv_keeps_every_digit_and_gives_the_same_bytes_twice(drawn, tmp_path):
    for name in ("a.csv", "b.csv"):
        recipes.write(tmp_path / name, drawn)
    assert recipes.read(tmp_path / "a.csv") == drawn
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    for read in recipes.read(tmp_path / "a.csv")[:3]:
        assert [type(value) for value in read.values().values()] == [
            field.type for field in fields(Recipe) if field.name in COLUMNS
        ]


def written(tmp_path, count=4):
    path = tmp_path / "recipes.csv"
    recipes.write(path, draw(with_networks(count), "mnist5k"))
    return path


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"\n2,", "\ntwo,"),  # not a number
        (r"\n2,(relu|tanh)", "\n2,gelu"),  # no such activation
        (r"\n2,(.*),(sgd|adam|rmsprop),", r"\n2,\1,adamw,"),  # no such optimizer
        (r"\n2,(.*),\w+\n", r"\n2,\1,zeros\n"),  # no such initializer
        (r"\n2,[^\n]*", "\n2,relu,zeros"),  # a line that was cut
        (r"\n2,[^\n]*", "\n,"),  # an empty field in the place of an id
    ],
)
def test_damaged_line_is_named(tmp_path, pattern, replacement):
    path = written(tmp_path)
    path.write_text(re.sub(pattern, replacement, path.read_text(), count=1))
    with pytest.raises(CnnzooError, match=r"recipes\.csv, line 4: not a recipe") as caught:
        recipes.read(path)
    assert ",".join(COLUMNS) in str(caught.value)


def test_missing_column_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace("l2reg", "l2"))
    with pytest.raises(CnnzooError, match=r"line 2: not a recipe \(KeyError\('l2reg'\)\)"):
        recipes.read(path)


def test_file_without_recipes_says_how_to_make_them(tmp_path):
    path = tmp_path / "recipes.csv"
    with pytest.raises(CnnzooError, match="not there; make it with `dvc repro recipes`"):
        recipes.read(path)
    path.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(CnnzooError, match="holds no recipes"):
        recipes.read(path)


def test_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "recipes.csv"
    path.write_bytes(b"\x80\x81")
    with pytest.raises(CnnzooError, match=r"recipes\.csv: cannot be read"):
        recipes.read(path)
