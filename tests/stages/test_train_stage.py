"""Stage `train`: shards from the images and recipes of its collection, a complete record in MLflow, nothing twice."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from builders import make_images
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import ImageSet
from cnnzoo.zoo.shards import METRICS, Shard, read_shards
from small_project import ALPHA, BETA, DATASETS, SmallProject

NETWORKS = 5
SMALL = {
    "populations.alpha.networks": NETWORKS,
    "populations.beta.networks": NETWORKS,
    "recipes.train_fraction": {"choice": [1.0]},
    "recipes.activation": {"choice": ["relu"]},
    "recipes.epochs": 1,
}
ROWS = 2
"""Checkpoints of a network: epochs 0 and 1."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _own_record() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SmallProject:
    """Both collections, trained; what another collection has begun lies beside them."""
    project = SmallProject.make(tmp_path_factory.mktemp("train") / "project", SMALL)
    project.artifacts.unfinished(BETA).mkdir(parents=True)
    (project.artifacts.unfinished(BETA) / "begun.safetensors").touch()
    for collection in (ALPHA, BETA):
        project.run("recipes", collection)
    project.run("train", ALPHA)
    assert (project.artifacts.unfinished(BETA) / "begun.safetensors").exists(), "the resume point of another collection"
    project.run("train", BETA)
    return project


@pytest.fixture
def project(trained, tmp_path) -> SmallProject:
    """A copy that a test may change."""
    return trained.copy(tmp_path / "project")


def shards(project: SmallProject, collection: str = ALPHA) -> list[Shard]:
    return read_shards(project.artifacts.checkpoints(collection))


def record(project: SmallProject, collection: str) -> dict[str, dict[str, str]]:
    """The tags of each active run of a collection in MLflow's database, by network."""
    query = """select r.run_uuid, t.key, t.value from runs r join experiments e using (experiment_id)
    join tags t using (run_uuid) where e.name = ? and r.lifecycle_stage = 'active'"""
    runs: dict[str, dict[str, str]] = {}
    with closing(sqlite3.connect(project.root / "mlruns/mlflow.db")) as database:
        for run, key, value in database.execute(query, (f"zoo/{collection}",)):
            runs.setdefault(run, {})[key] = value
    by_network = {tags["network"]: tags for tags in runs.values()}
    assert len(by_network) == len(runs)
    return by_network


@pytest.mark.parametrize("collection", [ALPHA, BETA])
def test_every_network_of_the_recipes_is_trained_on_its_own_images(trained, collection):
    images = ImageSet.load(trained.artifacts.images(DATASETS[collection]))
    found = shards(trained, collection)
    assert {(s.origin.collection, s.origin.minibatch, s.origin.images) for s in found} == {
        (collection, {ALPHA: 8, BETA: 6}[collection], images.digest)
    }
    assert sorted(recipe.network for s in found for recipe in s.recipes) == list(range(NETWORKS))


@pytest.mark.parametrize("collection", [ALPHA, BETA])
def test_every_network_is_a_run_that_names_its_rows_in_the_matrix(trained, collection):
    """The rows are those that stage `assemble` gives it."""
    trained.run("assemble", collection)
    metrics = pd.read_csv(trained.artifacts.zoo(collection) / "metrics.csv.gz")
    runs = record(trained, collection)
    assert set(runs) == set(metrics["modeldir"])
    for network, tags in runs.items():
        rows = metrics.index[metrics["modeldir"] == network]
        assert len(rows) == ROWS
        assert tags.get("rows") == f"{rows[0]}-{rows[-1] + 1}"  # the second number is the first row that is not its own


def test_a_second_run_trains_nothing_and_completes_a_lost_record(project):
    before = project.files("data/checkpoints")
    with closing(sqlite3.connect(project.root / "mlruns/mlflow.db")) as database, database:
        database.execute("update runs set lifecycle_stage = 'deleted'")
    project.run("train", ALPHA)
    assert project.files("data/checkpoints") == before
    assert len(record(project, ALPHA)) == NETWORKS


def test_changed_images_train_every_network_again(project):
    before = {shard.name for shard in shards(project)}
    make_images(seed=5).save(project.artifacts.images(DATASETS[ALPHA]))
    project.run("train", ALPHA)
    found = shards(project)
    assert found
    assert not before & {shard.name for shard in found}
    assert sorted(recipe.network for s in found for recipe in s.recipes) == list(range(NETWORKS))


def test_images_that_are_written_again_train_nothing(project):
    before = project.files("data/checkpoints")
    path = project.artifacts.images(DATASETS[ALPHA])
    images = ImageSet.load(path)
    path.unlink()
    images.save(path)
    project.run("train", ALPHA)
    assert project.files("data/checkpoints") == before


def test_a_record_that_cannot_be_written_is_told_before_training(project):
    """`mlruns` is a file here."""
    project = project.copy(project.root.parent / "bare", "params.yaml", "data/images", "data/recipes")
    (project.root / "mlruns").touch()
    with pytest.raises(CnnzooError, match=r"mlruns: cannot be written .*so no run could be recorded"):
        project.run("train", ALPHA)
    assert not (project.root / "data/checkpoints").exists()


def test_metrics_of_a_network_are_those_of_its_run(trained):
    query = """select t.value, m.key, m.step, m.value from metrics m join tags t using (run_uuid)
    join runs r using (run_uuid) join experiments e using (experiment_id)
    where t.key = 'network' and e.name = 'zoo/alpha' and r.lifecycle_stage = 'active'"""
    with closing(sqlite3.connect(trained.root / "mlruns/mlflow.db")) as database:
        tracked = {(network, name, step): value for network, name, step, value in database.execute(query)}
    for shard in shards(trained):
        for index, recipe in enumerate(shard.recipes):
            for name in METRICS:
                for place, epoch in enumerate(shard.epochs):
                    value = tracked[f"alpha/{recipe.network:06d}", name, epoch]
                    assert value == shard.metrics[name][index, place]
    assert np.isfinite(list(tracked.values())).all()
