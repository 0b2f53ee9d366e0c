"""Networks that belong together, trained: what they share and what they do not."""

import numpy as np
import pytest

from builders import make_images
from cnnzoo.training.cohorts import group
from cnnzoo.zoo import Collection, assemble
from cnnzoo.zoo.checker import check
from cnnzoo.zoo.recipes import draw
from trainings import TINY, Zoo, tiny_params


def trained(root, **population):
    """Return the weights (N, E, P) of the collection, by network, and its assembled folder."""
    params, zoo = tiny_params(**population), Zoo(root, make_images(), TINY)
    shards, recipes = zoo.train(params), draw(params, TINY)
    assemble(shards, recipes, TINY, root / "zoo", params.seed)
    rows = Collection.open(root / "zoo")
    assert check(root / "zoo") == []
    return np.stack([np.asarray(rows.weights)[rows.networks == n] for n in range(len(recipes))]), rows


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("plain"))[0]


def test_replicates_differ_from_their_first_weights_on_and_the_first_is_the_plain_network(plain, tmp_path):
    weights, _ = trained(tmp_path, replicates=2)
    np.testing.assert_allclose(weights[::2], plain[:3], rtol=1e-3, atol=1e-5)
    assert (weights[::2, 0] != weights[1::2, 0]).any(axis=1).all()


def test_pairs_start_from_the_same_weights_and_then_part(tmp_path):
    weights, _ = trained(tmp_path, pairs="learning_rate")
    assert (weights[::2, 0] == weights[1::2, 0]).all()
    assert (weights[::2, -1] != weights[1::2, -1]).any(axis=1).all()


def test_wrong_labels_change_the_training_but_not_the_start(plain, tmp_path):
    weights, zoo = trained(tmp_path, label_noise={"choice": [0.5]}, checkpoint_epochs=[0, 1])
    assert zoo.epochs == (0, 1, 5)
    assert (weights[:, 0] == plain[:, 0]).all()
    assert (weights[:, 1] != plain[:, 1]).any(axis=1).all()


def test_every_replicate_has_its_own_order_of_minibatches():
    cohorts = group(draw(tiny_params(replicates=3), TINY), 256)
    assert all(len({recipe.random_seed for recipe in cohort}) == 1 for cohort in cohorts)
