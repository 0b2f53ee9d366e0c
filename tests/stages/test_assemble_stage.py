"""Stage `assemble`: shards of one collection become its folder, split by the project's seed."""

import numpy as np
import pandas as pd
import pytest

from builders import make_shards, weights_of
from cnnzoo.core import seeds
from cnnzoo.zoo import format, recipes
from small_project import ALPHA, BETA, NETWORKS, SmallProject

SEED = 41
CHECKPOINTS = 3


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> SmallProject:
    """Two collections, assembled from synthetic shards under a seed that is no default."""
    project = SmallProject(tmp_path_factory.mktemp("assemble"))
    project.configure({"seed": SEED})
    for collection in (ALPHA, BETA):
        project.run("recipes", collection)
        drawn = recipes.read(project.artifacts.recipes(collection))
        make_shards(project.artifacts.checkpoints(collection), drawn, collection)
        project.run("assemble", collection)
    return project


@pytest.mark.parametrize("collection", [ALPHA, BETA])
def test_halves_are_drawn_with_the_seed_of_the_project(project, collection):
    """The networks, shuffled by a generator of seed and collection; the first half of them trains."""
    order = seeds.generator(SEED, "split", collection).permutation(NETWORKS)
    expected = [network * CHECKPOINTS + row for network in order for row in range(CHECKPOINTS)]
    assert np.loadtxt(project.artifacts.zoo(collection) / "split.csv", dtype=int).tolist() == expected


@pytest.mark.parametrize("collection", [ALPHA, BETA])
def test_networks_bear_the_name_of_their_collection(project, collection):
    metrics = pd.read_csv(project.artifacts.zoo(collection) / "metrics.csv.gz")
    expected = [f"{collection}/{network:06d}" for network in range(NETWORKS) for _ in range(CHECKPOINTS)]
    assert metrics["modeldir"].tolist() == expected
    assert (metrics["config.random_seed"] == SEED).all()


@pytest.mark.parametrize("collection", [ALPHA, BETA])
def test_every_network_of_the_recipes_has_its_weights(project, collection):
    weights = np.load(project.artifacts.zoo(collection) / format.WEIGHTS)
    for recipe in recipes.read(project.artifacts.recipes(collection)):
        rows = weights[recipe.network * CHECKPOINTS :][:CHECKPOINTS]
        np.testing.assert_array_equal(rows, weights_of(recipe))


def test_only_the_networks_of_the_recipes_are_assembled(project, tmp_path):
    """Shards may hold more, as after shrinking a collection."""
    smaller = project.copy(tmp_path / "copy", "params.yaml", "data/recipes", "data/checkpoints/alpha")
    path = smaller.artifacts.recipes(ALPHA)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:9]))
    smaller.run("assemble", ALPHA)
    assert np.load(smaller.artifacts.zoo(ALPHA) / format.WEIGHTS).shape[0] == 8 * CHECKPOINTS
