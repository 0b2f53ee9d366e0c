"""Stages `search` and `forecast`: they work on their own collection; a search is recorded with its trials."""

import json

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from cnnzoo.zoo import Collection
from small_project import ALPHA, BETA, NORMS, SmallProject
from zoos import make_zoo

PREDICTOR = "models/predictors/beta/linear/hyper"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> SmallProject:
    """Two collections of other networks, of which `beta` is searched and forecast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        project = SmallProject(tmp_path_factory.mktemp("search"))
        project.configure({"features.sets": ["hyper"], "forecast.features": NORMS})
        for collection, networks in ((ALPHA, 26), (BETA, 30)):
            make_zoo(project.artifacts, collection, networks, num_units=3, num_layers=2)
            project.run("features", collection)
        project.run("search", BETA)
        project.run("forecast", BETA)
    return project


def test_search_predicts_the_held_out_half_of_its_collection(project):
    assert {path.split("/")[0] for path in project.files("models/predictors")} == {BETA}
    table = pd.read_csv(project.root / PREDICTOR / "predictions.csv", float_precision="round_trip")
    metrics = pd.read_csv(project.artifacts.zoo(BETA) / "metrics.csv.gz", float_precision="round_trip")
    split = np.loadtxt(project.artifacts.zoo(BETA) / "split.csv", dtype=int)
    final = split[metrics["laststep"].to_numpy()[split]]
    assert table["row"].tolist() == sorted(final[len(final) // 2 :])
    assert table["network"].tolist() == metrics["modeldir"][table["row"]].tolist()
    assert table["test_accuracy"].tolist() == metrics["test_accuracy"][table["row"]].tolist()


def test_search_is_a_run_in_mlflow_with_its_trials_below(project):
    client = MlflowClient(f"sqlite:///{project.root / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("predictors/beta")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (search,) = (run for run in runs if run not in trials)
    assert search.info.run_name == "linear on hyper"
    study = pd.read_csv(project.root / PREDICTOR / "study.csv", float_precision="round_trip")
    assert sorted(run.data.metrics["value"] for run in trials) == sorted(study["value"])
    assert search.data.params["trials"] == "2"
    assert search.data.metrics["r2"] == json.loads((project.root / PREDICTOR / "metrics.json").read_text())["r2"]


def test_forecast_covers_every_checkpoint_of_its_collection(project):
    assert set(project.files("models/forecast")) == {"beta/forecast.csv", "beta/stopping.csv"}
    table = pd.read_csv(project.artifacts.forecast(BETA) / "forecast.csv")
    assert sorted(set(table["epoch"])) == list(Collection.open(project.artifacts.zoo(BETA)).epochs)
    assert set(table["collection"]) == {BETA}
    assert set(table["networks_test"]) == {15}
