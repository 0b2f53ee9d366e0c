from dataclasses import replace

import numpy as np
import pytest

from builders import make_origin, make_recipes, make_shard
from cnnzoo.core import seeds
from cnnzoo.core.errors import CnnzooError
from cnnzoo.training.cohorts import cohort_of, group, plan

SMALL = {"num_units": 2, "epochs": 1}
ORIGIN = make_origin()


def recipes_of(networks, **changes):
    return make_recipes(networks, **SMALL, **changes)


def train(folder, recipes, cohort_size=256):
    """Write the shards that training would write."""
    return [make_shard(folder, cohort) for cohort in plan(recipes, ORIGIN, folder, cohort_size).missing]


def networks(cohorts):
    return sorted(recipe.network for cohort in cohorts for recipe in cohort)


def test_networks_of_a_cohort_share_fraction_optimizer_and_activation():
    cohorts = group(recipes_of(60), cohort_size=256)
    keys = [{(r.train_fraction, r.optimizer, r.activation) for r in cohort} for cohort in cohorts]
    assert all(len(key) == 1 for key in keys)
    assert len(set().union(*keys)) == len(cohorts)
    assert networks(cohorts) == list(range(60))


@pytest.mark.parametrize(
    "change", [{"epochs": 2}, {"epochs_between_checkpoints": 7}, {"num_units": 3}, {"num_layers": 2}]
)
def test_networks_of_another_length_or_shape_train_apart(change):
    first = recipes_of(1)[0]
    assert len(group([first, replace(first, network=1)], 256)) == 1
    assert len(group([first, replace(first, network=1, **change)], 256)) == 2


@pytest.mark.parametrize("cohort_size", [1, 2, 7])
def test_cohorts_hold_at_most_cohort_size_networks_in_their_order(cohort_size):
    alike = {"train_fraction": 1.0, "optimizer": "sgd", "activation": "relu"}
    cohorts = group(recipes_of(20, **alike), cohort_size)
    assert {len(cohort) for cohort in cohorts[:-1]} == {cohort_size}
    assert [recipe.network for cohort in cohorts for recipe in cohort] == list(range(20))


@pytest.mark.parametrize("cohort_size", [1, 2, 3])
def test_cohorts_come_in_the_order_of_their_first_networks(cohort_size):
    """Networks of three kinds by turns: the second cohort of one kind comes after the first of another."""
    recipes = [
        replace(recipe, optimizer=recipe.optimizer, train_fraction=1.0, activation="relu") for recipe in recipes_of(18)
    ]
    cohorts = [[recipe.network for recipe in cohort] for cohort in group(recipes, cohort_size)]
    chunks = [
        list(range(kind + 3 * start, min(18, kind + 3 * (start + cohort_size)), 3))
        for kind in range(3)
        for start in range(0, 6, cohort_size)
    ]
    assert cohorts == sorted(chunks)


def test_everything_is_missing_at_first(tmp_path):
    todo = plan(recipes_of(10), ORIGIN, tmp_path / "absent", 256)
    assert (todo.valid, todo.stale) == ((), ())
    assert networks(todo.missing) == list(range(10))


def test_rerun_has_nothing_to_do(tmp_path):
    train(tmp_path, recipes_of(10))
    todo = plan(recipes_of(10), ORIGIN, tmp_path, 256)
    assert (todo.stale, todo.missing) == ((), ())


def test_growing_trains_the_new_networks_alone(tmp_path):
    before = train(tmp_path, recipes_of(10))
    todo = plan(recipes_of(20), ORIGIN, tmp_path, 256)
    assert {shard.name for shard in todo.valid} == {shard.name for shard in before}
    assert todo.stale == ()
    assert networks(todo.missing) == list(range(10, 20))


def test_shrinking_trains_nothing_and_keeps_what_is_still_wanted(tmp_path):
    train(tmp_path, recipes_of(20), cohort_size=1)
    todo = plan(recipes_of(10), ORIGIN, tmp_path, 1)
    assert todo.missing == ()
    assert networks(shard.recipes for shard in todo.valid) == list(range(10))
    assert networks(shard.recipes for shard in todo.stale) == list(range(10, 20))


def test_shard_that_holds_one_wanted_network_stays(tmp_path):
    alike = {"train_fraction": 1.0, "optimizer": "sgd", "activation": "relu"}
    train(tmp_path, recipes_of(20, **alike))
    todo = plan(recipes_of(1, **alike), ORIGIN, tmp_path, 256)
    assert (len(todo.valid), todo.stale, todo.missing) == (1, (), ())


def test_another_cohort_size_trains_nothing(tmp_path):
    train(tmp_path, recipes_of(20), cohort_size=256)
    todo = plan(recipes_of(20), ORIGIN, tmp_path, cohort_size=2)
    assert (todo.stale, todo.missing) == ((), ())


def test_changed_recipe_is_trained_again(tmp_path):
    train(tmp_path, recipes_of(10))
    changed = recipes_of(10)
    changed[3] = replace(changed[3], learning_rate=0.123)
    assert networks(plan(changed, ORIGIN, tmp_path, 256).missing) == [3]
    everything = plan(recipes_of(10, l2reg=0.5), ORIGIN, tmp_path, 256)
    assert networks(everything.missing) == list(range(10))
    assert everything.valid == ()
    assert networks(shard.recipes for shard in everything.stale) == list(range(10))


@pytest.mark.parametrize(
    "change", [{"images": "1" * 64}, {"minibatch": 32}, {"engine": "native"}, {"numerics": "2"}, {"collection": "x"}]
)
def test_changed_origin_makes_every_shard_stale(tmp_path, change):
    train(tmp_path, recipes_of(6))
    todo = plan(recipes_of(6), replace(ORIGIN, **change), tmp_path, 256)
    assert todo.valid == ()
    assert networks(shard.recipes for shard in todo.stale) == list(range(6)) == networks(todo.missing)


def test_network_in_two_shards_is_taken_from_one(tmp_path):
    alike = {"train_fraction": 1.0, "optimizer": "sgd", "activation": "relu"}
    first, second, third = recipes_of(3, **alike)
    for cohort in ([first], [first, second], [first, second, third]):
        make_shard(tmp_path, cohort)
    todo = plan([first, second, third], ORIGIN, tmp_path, 256)
    assert todo.missing == ()
    assert len(todo.valid) + len(todo.stale) == 3
    claimed = set()
    for shard in todo.valid:
        assert set(shard.recipes) - claimed  # each valid shard holds a network that no earlier one does
        claimed |= set(shard.recipes)
    for shard in todo.stale:
        assert set(shard.recipes) <= claimed


def test_damaged_shard_is_not_taken_for_a_stale_one(tmp_path):
    shard = train(tmp_path, recipes_of(1))[0]
    shard.path.write_bytes(shard.path.read_bytes()[:-1])
    with pytest.raises(CnnzooError, match=shard.name):
        plan(recipes_of(1), ORIGIN, tmp_path, 256)


def test_cohort_holds_the_hyperparameters_in_the_order_of_the_recipes():
    alike = {"train_fraction": 1.0, "optimizer": "adam", "activation": "tanh"}
    recipes = recipes_of(5, **alike)
    cohort = cohort_of(recipes, "tiny", 28)
    assert (cohort.optimizer, cohort.activation, cohort.image_size, cohort.size) == ("adam", "tanh", 28, 5)
    for name in ("learning_rate", "l2reg", "dropout"):
        np.testing.assert_array_equal(getattr(cohort, name), [getattr(recipe, name) for recipe in recipes])
    keys = [seeds.key_words(recipe.random_seed, "dropout", "tiny", recipe.network) for recipe in recipes]
    np.testing.assert_array_equal(cohort.dropout_keys, keys)
    alone = cohort_of(recipes[3:4], "tiny", 28)
    np.testing.assert_array_equal(alone.dropout_keys, cohort.part(slice(3, 4)).dropout_keys)


def test_shards_of_another_engine_stay_where_any_engine_will_do(tmp_path):
    train(tmp_path, recipes_of(10))
    other = replace(ORIGIN, engine="another", numerics="7")
    assert plan(recipes_of(12), other, tmp_path, 256).valid == ()
    todo = plan(recipes_of(12), other, tmp_path, 256, any_engine=True)
    assert (networks(todo.missing), todo.stale) == ([10, 11], ())


def test_shards_of_the_same_engine_with_other_arithmetic_are_stale_all_the_same(tmp_path):
    train(tmp_path, recipes_of(10))
    todo = plan(recipes_of(10), replace(ORIGIN, numerics="7"), tmp_path, 256, any_engine=True)
    assert (networks(todo.missing), todo.valid) == (list(range(10)), ())
