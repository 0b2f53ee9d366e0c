"""Controlled populations: replicates, pairs, label noise, chosen checkpoint epochs."""

import gzip
from dataclasses import asdict

import numpy as np
import pytest

from builders import SEED, make_origin, make_recipe, make_recipes, make_shards
from cnnzoo.config import load, validate
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import SAMPLED
from cnnzoo.zoo import Collection, assemble, recipes
from cnnzoo.zoo.checker import check
from cnnzoo.zoo.format import METRICS_COLUMNS, draw_split
from cnnzoo.zoo.lenient import Readable
from cnnzoo.zoo.shards import read_shards, shard_name
from imports import ROOT

PARAMS = load(ROOT / "params.yaml")


def drawn(networks=12, **population):
    values = PARAMS.model_dump(exclude_none=True)
    values["populations"]["mnist5k"] |= {"networks": networks} | population
    return recipes.draw(validate(values, "test"), "mnist5k")


def sampled(recipe):
    return tuple(getattr(recipe, name) for name in SAMPLED)


def test_replicates_share_all_hyperparameters_and_each_has_a_seed_of_its_own():
    networks, plain = drawn(replicates=3), drawn()
    for group in range(4):
        members = networks[3 * group : 3 * group + 3]
        assert {recipe.group for recipe in members} == {group}
        assert {sampled(recipe) for recipe in members} == {sampled(plain[group])}
        assert [recipe.random_seed for recipe in members] == [recipe.random_seed for recipe in networks[:3]]
    assert networks[0].random_seed == PARAMS.seed
    assert len({recipe.random_seed for recipe in networks}) == 3


def test_a_population_of_replicates_grows_without_other_draws():
    assert drawn(12, replicates=3) == drawn(30, replicates=3)[:12]


def test_pairs_share_the_seed_and_differ_in_the_named_hyperparameters_in_turn():
    names = ["learning_rate", "optimizer"]
    networks, plain = drawn(400, pairs=names), drawn(200)
    for group in range(200):
        first, second = networks[2 * group : 2 * group + 2]
        assert sampled(first) == sampled(plain[group])
        differing = {name for name in asdict(first) if getattr(first, name) != getattr(second, name)}
        assert differing == {"network", names[group % 2]}
    first, second = np.array([[recipe.learning_rate for recipe in networks[member::4]] for member in (0, 1)])
    assert abs(np.corrcoef(np.log(first), np.log(second))[0, 1]) < 0.3  # drawn independently


def test_pairs_need_a_hyperparameter_that_can_differ():
    with pytest.raises(
        CnnzooError, match=r"`populations\.mnist5k\.pairs` names `label_noise`, which can have one value"
    ):
        drawn(pairs="label_noise", label_noise={"uniform": [0.2, 0.2]})


def test_label_noise_is_drawn_from_its_range_and_checkpoints_end_with_the_last_epoch():
    networks = drawn(200, label_noise={"uniform": [0.1, 0.4]}, checkpoint_epochs=[0, 7, 30], epochs=50)
    noise = [recipe.label_noise for recipe in networks]
    assert 0.1 <= min(noise) < 0.12
    assert 0.38 < max(noise) <= 0.4
    assert {recipe.checkpoints for recipe in networks} == {(0, 7, 30, 50)}


@pytest.mark.parametrize(
    "population",
    [
        {},
        {"replicates": 3},
        {"label_noise": {"choice": [0.0, 0.2]}},
        {"checkpoint_epochs": [1, 5]},
        {"pairs": "dropout"},
    ],
)
def test_recipes_are_read_as_they_were_written_with_the_columns_in_use(population, tmp_path):
    networks = drawn(**population)
    recipes.write(tmp_path / "recipes.csv", networks)
    assert recipes.read(tmp_path / "recipes.csv") == networks
    used = {"replicates": "group", "pairs": "group"}.get(name := next(iter(population), ""), name)
    header = (tmp_path / "recipes.csv").read_text().splitlines()[0].split(",")
    assert header == [*recipes.COLUMNS, *([used] if used else [])]


def test_shards_of_plain_networks_keep_their_names():
    """A new field in the hash would train every existing network again: the name is that of version 25d0ef8."""
    assert shard_name(make_origin(), make_recipes(3)) == "3ab1baab7cfc71a2"
    assert shard_name(make_origin(), make_recipes(3, group=0)) != "3ab1baab7cfc71a2"


@pytest.fixture
def zoo(tmp_path):
    """12 groups of two, of which one lost a network; three checkpoints; with noise."""
    members = [
        make_recipe(network, group=network // 2, label_noise=0.25, checkpoint_epochs="0 10 86") for network in range(24)
    ]
    shards = make_shards(tmp_path / "shards", members, "tiny", {5: 10})
    assemble(read_shards(tmp_path / "shards"), members, "tiny", tmp_path / "zoo", SEED)
    assert {shard.epochs for shard in shards} == {(0, 10, 86)}
    return Collection.open(tmp_path / "zoo")


def test_columns_in_use_stand_after_the_published_ones(zoo):
    optional = ["config.group", "config.label_noise", "config.checkpoint_epochs"]
    assert zoo.metrics.columns.tolist() == [*METRICS_COLUMNS, *optional]
    assert zoo.metrics["step"].tolist()[:3] == [0, 10, 86]
    assert set(zoo.metrics["config.label_noise"]) == {0.25}
    header, line = (zoo.path / "diverged.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["config.group"] == "2"
    assert check(zoo.path) == []
    assert Readable.of(zoo.path).changes == []


@pytest.mark.parametrize("last", ["9" * 5000, "8\u0666", "last"])
def test_checkpoint_epochs_that_are_no_numbers_are_named(zoo, last):
    metrics = zoo.path / "metrics.csv.gz"
    text = gzip.decompress(metrics.read_bytes()).replace(b"0 10 86", f"0 10 {last}".encode())
    metrics.write_bytes(gzip.compress(text, mtime=0))
    assert any("has the steps 0 10 86, expected 0 10 (epochs" in problem for problem in check(zoo.path))


def test_no_group_is_in_both_halves(zoo):
    halves = [set(zoo.metrics["config.group"].iloc[zoo.final(half)]) for half in ("train", "test")]
    assert not halves[0] & halves[1]
    assert len(halves[0] | halves[1]) == 12
    assert len(zoo.final("train")) in (10, 11)  # of 23


def test_the_checker_finds_a_group_that_the_split_divides(zoo):
    split = (zoo.path / "split.csv").read_text().splitlines()
    (zoo.path / "split.csv").write_text("\n".join([*split[3:], *split[:3]]) + "\n")
    assert "do not stand together" in " ".join(check(zoo.path))


def test_the_split_of_networks_without_groups_is_the_published_one():
    networks = np.repeat(np.arange(7), 2)
    assert (draw_split(networks, 3, "a") == draw_split(networks, 3, "a", networks)).all()
