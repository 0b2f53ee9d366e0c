"""Predictor searches as MLflow's client reads them back."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from cnnzoo.search import only_search
from cnnzoo.tracking import search_run, serve_ui
from cnnzoo.tracking.location import OVERRIDE
from cnnzoo.tracking.search_sync import end_killed_searches, sync_searches

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


KILLED_SEARCH = """
import os, sys
from pathlib import Path
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import search_run
with search_run(Artifacts(Path(sys.argv[1])), "tiny", sys.argv[2], "hyper", {"trials": 3}) as run:
    run.trial(0, {"l2": 0.1}, 0.7, "COMPLETE", 2.5)
    run.client.create_run(run.experiment_id, tags={"mlflow.parentRunId": run.run_id, "kind": "trial"})
    os._exit(9)
"""


def kill_a_search(artifacts: Artifacts, predictor: str) -> None:
    command = [sys.executable, "-c", KILLED_SEARCH, str(artifacts.root), predictor]
    assert subprocess.run(command, check=False).returncode == 9


@pytest.fixture
def leave_a_search(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Artifacts, str], None]]:
    """Begin searches as a process does that is killed: nothing ends them, and this one has not opened them."""
    with ExitStack() as left:

        def leave(artifacts: Artifacts, predictor: str) -> None:
            left.enter_context(search_run(artifacts, "tiny", predictor, "hyper", PARAMS))
            monkeypatch.setattr("cnnzoo.tracking.searches._OPENED", set())

        yield leave


@pytest.mark.slow
def test_a_search_that_was_killed_is_not_listed_as_running_once_another_begins(
    artifacts: Artifacts, leave_a_search: Callable[[Artifacts, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("DVC_EXP_NAME", "other")
        leave_a_search(artifacts, "catboost")
    kill_a_search(artifacts, "dnn")
    with (
        search_run(artifacts, "tiny", "linear", "hyper", PARAMS),
        search_run(artifacts, "tiny", "stack", "hyper", PARAMS),
    ):
        states = {str(run.info.run_name): run.info.status for run in searches(artifacts)}
        trials = [run.info.status for run in searches(artifacts, "tags.kind = 'trial'")]
    assert states == {
        "catboost on hyper": "RUNNING",  # an experiment in a temporary copy may be under way
        "dnn on hyper": "KILLED",
        "linear on hyper": "RUNNING",  # opened by this process
        "stack on hyper": "RUNNING",
    }
    assert sorted(trials) == ["FINISHED", "KILLED"]


COMMANDS: dict[str, Callable[[Artifacts], object]] = {
    "ui": serve_ui,
    "track": lambda artifacts: sync_searches(artifacts, "tiny", []),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_search_that_was_killed_is_not_listed_as_running_in_the_ui_or_once_the_record_is_rebuilt(
    command: Callable[[Artifacts], object],
    artifacts: Artifacts,
    leave_a_search: Callable[[Artifacts, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.execve", lambda *_: None)
    monkeypatch.setattr("cnnzoo.tracking.ui._check_port", lambda _: None)
    leave_a_search(artifacts, "dnn")
    assert [run.info.status for run in searches(artifacts)] == ["RUNNING"]
    command(artifacts)
    assert [run.info.status for run in searches(artifacts)] == ["KILLED"]


def test_a_search_under_way_in_another_process_stays_running_in_the_ui(
    artifacts: Artifacts, leave_a_search: Callable[[Artifacts, str], None]
) -> None:
    leave_a_search(artifacts, "dnn")
    with only_search(artifacts, "tiny"):
        end_killed_searches(artifacts)
    assert [run.info.status for run in searches(artifacts)] == ["RUNNING"]


def test_in_a_shared_store_searches_of_other_projects_stay_as_they_are(
    artifacts: Artifacts,
    leave_a_search: Callable[[Artifacts, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OVERRIDE, f"sqlite:///{artifacts.mlruns / 'mlflow.db'}")
    mine, other = Artifacts(tmp_path / "mine"), Artifacts(tmp_path / "other")
    for project, predictor in ((mine, "dnn"), (other, "catboost")):
        project.root.mkdir()
        leave_a_search(project, predictor)
    with search_run(mine, "tiny", "linear", "hyper", PARAMS):
        pass
    assert {str(run.info.run_name): run.info.status for run in searches(artifacts)} == {
        "dnn on hyper": "KILLED",
        "catboost on hyper": "RUNNING",
        "linear on hyper": "FINISHED",
    }


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
