"""Predictor searches as MLflow's client reads them back."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import pyfunc
from mlflow.entities import Run, ViewType
from mlflow_record import client_of, experiment_id

from cnnzoo import predictors
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import search_run
from cnnzoo.tracking.location import OVERRIDE

PARAMS = {"trials": 3, "folds": 2}


def searches(
    artifacts: Artifacts, condition: str = "tags.kind = 'search'", view: int = ViewType.ACTIVE_ONLY
) -> list[Run]:
    return list(client_of(artifacts).search_runs([experiment_id(artifacts, "predictors/tiny")], condition, view))


def search(artifacts: Artifacts, predictor: str = "linear", r2: float = 0.9, **params: object) -> None:
    with search_run(artifacts, "tiny", predictor, "hyper", PARAMS | params) as run:
        run.trial(0, {"l2": 0.1}, 0.7, "COMPLETE", 2.5)
        run.trial(1, {"l2": 0.2}, None, "FAIL", 0.5)
        run.trial(2, {"l2": 0.3}, 0.8, "PRUNED", 0.5)
        run.metrics({"r2": r2, "mae": 0.02})


def test_a_search_is_a_run_with_its_trials_nested(artifacts: Artifacts) -> None:
    search(artifacts)
    (run,) = searches(artifacts)
    assert run.info.run_name == "linear on hyper"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"predictor": "linear", "features": "hyper", "trials": "3", "folds": "2"}
    assert run.data.metrics == {"r2": 0.9, "mae": 0.02, "trial_value": 0.8}
    trials = sorted(
        searches(artifacts, f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"), key=lambda t: str(t.info.run_name)
    )
    assert [(t.data.params, t.data.metrics, t.data.tags["state"], t.info.status) for t in trials] == [
        ({"l2": "0.1"}, {"value": 0.7}, "COMPLETE", "FINISHED"),
        ({"l2": "0.2"}, {}, "FAIL", "FAILED"),
        ({"l2": "0.3"}, {"value": 0.8}, "PRUNED", "FINISHED"),
    ]
    assert trials[0].info.end_time - trials[0].info.start_time == 2500


def test_a_rerun_replaces_and_other_parameters_stay(artifacts: Artifacts) -> None:
    search(artifacts, r2=0.1)
    search(artifacts, r2=0.2, trials=30)
    search(artifacts, "dnn", r2=0.3)
    search(artifacts, r2=0.4)
    assert sorted(run.data.metrics["r2"] for run in searches(artifacts)) == [0.2, 0.3, 0.4]
    assert len(searches(artifacts, "tags.kind = 'trial'")) == 9
    assert [run.data.metrics["r2"] for run in searches(artifacts, view=ViewType.DELETED_ONLY)] == [0.1]


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_broken_search_is_marked_and_the_former_result_stays(
    error: type[BaseException], status: str, artifacts: Artifacts
) -> None:
    search(artifacts)
    with pytest.raises(error), search_run(artifacts, "tiny", "linear", "hyper", PARAMS):
        raise error
    assert sorted(run.info.status for run in searches(artifacts)) == sorted(["FINISHED", status])
    search(artifacts)
    assert [run.info.status for run in searches(artifacts)] == ["FINISHED"]


def test_figures_data_set_and_model_are_kept_and_the_model_predicts_the_same(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pickle(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was loaded")

    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((30, 3)), columns=["a", "b", "c"])
    table["word"] = pd.Categorical(rng.choice(["x", "y"], 30))
    model = predictors.REGISTRY["linear"]().fit(table, table["a"] * 0.8 + 0.1)
    predictors.save(model, tmp_path / "model")
    (tmp_path / "plot.png").write_bytes(b"png")
    with search_run(artifacts, "tiny", "linear", "hyper", PARAMS) as run:
        run.figure(tmp_path / "plot.png")
        run.dataset("tiny/hyper", "0123456789abcdef" * 4, 30)
        run.model(tmp_path / "model", table.head(4), model.predict(table.head(4)))
    (found,) = searches(artifacts)
    client = client_of(artifacts)
    assert [file.path for file in client.list_artifacts(found.info.run_id, "figures")] == ["figures/plot.png"]
    assert found.info.artifact_uri.startswith(
        (artifacts.mlruns / "artifacts" / "predictors" / "tiny").absolute().as_uri()
    )
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("tiny/hyper", ("0123456789abcdef" * 4)[:36])
    (output,) = found.outputs.model_outputs
    assert client.get_logged_model(output.model_id).status == "READY"
    monkeypatch.setattr("pickle.load", no_pickle)
    monkeypatch.setattr("cloudpickle.load", no_pickle)
    loaded = pyfunc.load_model(client.get_logged_model(output.model_id).artifact_location)
    assert np.array_equal(loaded.predict(table.astype({"word": object})), model.predict(table))
    assert loaded.metadata.get_input_schema().input_names() == ["a", "b", "c", "word"]
    search(artifacts)  # the same search again: its former model goes with its run
    assert client.search_logged_models([experiment_id(artifacts, "predictors/tiny")]) == []


def test_a_search_survives_a_store_that_is_not_there(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(OVERRIDE, "http://127.0.0.1:9")  # the discard port: nobody listens
    with caplog.at_level(logging.WARNING, "cnnzoo"):
        search(artifacts)
    messages = [record.message for record in caplog.records if record.name.startswith("cnnzoo")]
    assert len(messages) == 1
    assert "not fully recorded" in messages[0]


def test_a_model_that_cannot_be_kept_leaves_the_rest_of_the_record_whole(
    artifacts: Artifacts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with search_run(artifacts, "tiny", "linear", "hyper", PARAMS) as run:
        run.model(tmp_path / "nothing", pd.DataFrame({"a": [1.0]}), np.array([1.0]))
        run.metrics({"r2": 0.5})
    (found,) = searches(artifacts)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"r2": 0.5})
    assert "not fully recorded" in caplog.text
