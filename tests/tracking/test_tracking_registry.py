"""A registered scorer, as MLflow's client reads it back and as MLflow's own server serves it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import pyfunc
from mlflow_record import client_of, experiment_id, with_database
from typer.testing import CliRunner

from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.scoring import choose_scorer, network_of
from cnnzoo.tracking.location import OVERRIDE, tracking_uri
from cnnzoo.tracking.registry import register_scorer
from cnnzoo.zoo import Collection
from tuned import make_tuned_project, tuned_params
from zoos import STATISTICS

MODEL = "cnnzoo-tiny"
URI = f"models:/{MODEL}@champion"
KNOWING = f"hyper.activation+{STATISTICS}"
TAGS = {"predictor": "linear", "features": KNOWING, "r2": 0.123456}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Tuned predictors; the best of them looks at the activation."""
    return make_tuned_project(tmp_path_factory.mktemp("project"), [KNOWING])


@pytest.fixture
def own(project: Artifacts, tmp_path: Path, empty_database: Path) -> Artifacts:
    """A copy of the project with an empty store."""
    shutil.copytree(project.root, tmp_path / "own", ignore=shutil.ignore_patterns("mlruns"))
    return with_database(tmp_path / "own", empty_database)


@pytest.fixture
def registered(own: Artifacts) -> Artifacts:
    """The copy with one registered version."""
    register(own)
    return own


def register(artifacts: Artifacts, **tags: object) -> str:
    _, scorer = choose_scorer(artifacts, tuned_params([KNOWING]), "tiny")
    example = network_of(Collection.open(artifacts.zoo("tiny")))
    return register_scorer(artifacts, "tiny", scorer, example, TAGS | tags)


def given(artifacts: Artifacts, count: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return some networks of the zoo as a caller would send them, and what the scorer itself says of them."""
    zoo = Collection.open(artifacts.zoo("tiny"))
    rows = zoo.final()[:count]
    words = zoo.metrics["config.activation"].iloc[rows].tolist()
    _, scorer = choose_scorer(artifacts, tuned_params([KNOWING]), "tiny")
    weights = [row.tolist() for row in zoo.weights[rows].astype(np.float64)]
    return pd.DataFrame({"weights": weights, "activation": words}), scorer.score(zoo.weights[rows], words)


def load(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the champion, and fail if a pickle is opened on the way."""

    def no_pickle(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was loaded")

    monkeypatch.setattr("pickle.load", no_pickle)
    monkeypatch.setattr("cloudpickle.load", no_pickle)
    monkeypatch.setenv(OVERRIDE, tracking_uri(artifacts))
    mlflow.set_tracking_uri(tracking_uri(artifacts))
    try:
        return pyfunc.load_model(URI)
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_a_version_has_alias_tags_signature_and_example(registered: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    version = client_of(registered).get_model_version_by_alias(MODEL, "champion")
    assert int(version.version) == 1
    assert version.tags == {"predictor": "linear", "features": KNOWING, "r2": "0.1235"}
    assert "tiny" in client_of(registered).get_registered_model(MODEL).description
    model = load(registered, monkeypatch)
    assert model.metadata.get_input_schema().input_names() == ["weights", "activation"]
    assert model.metadata.get_output_schema().input_names() == ["predicted", "low", "high"]
    (run,) = client_of(registered).search_runs([experiment_id(registered, "predictors/tiny")], "")
    assert (run.info.run_id, run.info.status) == (version.run_id, "FINISHED")
    (logged,) = client_of(registered).search_logged_models([experiment_id(registered, "predictors/tiny")])
    assert (logged.artifact_location, str(logged.status)) == (version.source, "READY")
    assert not list((registered.mlruns / "artifacts").rglob("*.pkl"))


def test_the_model_says_what_the_scorer_says(registered: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    table, expected = given(registered)
    pd.testing.assert_frame_equal(load(registered, monkeypatch).predict(table), expected, check_exact=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [[0.5] * 7]}, r"row 0: wanted 386 finite numbers, got shape \(7,\)"),
        ({"weights": [[float("nan")] * 386]}, "wanted 386 finite numbers"),
        ({"activation": ["gelu"]}, "gelu"),
    ],
)
def test_weights_that_are_no_network_are_told(
    change: dict[str, list[Any]], message: str, registered: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = given(registered, 1)
    with pytest.raises(CnnzooError, match=message):
        load(registered, monkeypatch).predict(pd.DataFrame({**{c: table[c].tolist() for c in table}, **change}))


def test_every_network_of_a_request_is_checked(registered: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = given(registered, 3)
    model = load(registered, monkeypatch)
    for row in range(3):
        broken = table.copy()
        broken["weights"] = [[float("inf"), *w[1:]] if place == row else w for place, w in enumerate(table["weights"])]
        with pytest.raises(CnnzooError, match=f"row {row}: wanted 386 finite numbers"):
            model.predict(broken)


def test_the_next_version_becomes_the_champion(registered: Artifacts) -> None:
    assert register(registered, r2=0.5) == URI
    client = client_of(registered)
    assert int(client.get_model_version_by_alias(MODEL, "champion").version) == 2
    assert {int(v.version): v.tags["r2"] for v in client.search_model_versions(f"name='{MODEL}'")} == {
        1: "0.1235",
        2: "0.5000",
    }


def test_a_registration_that_fails_leaves_the_champion(registered: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("mlflow.pyfunc.save_model", full)
    with pytest.raises(CnnzooError, match=r"No space left"):
        register(registered)
    assert int(client_of(registered).get_model_version_by_alias(MODEL, "champion").version) == 1
    runs = client_of(registered).search_runs([experiment_id(registered, "predictors/tiny")], "")
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def test_a_store_that_is_not_there_is_told(project: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(CnnzooError, match=r"MLflow at http://127\.0\.0\.1:9: .*Start the server"):
        register(project)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_command_registers_and_mlflow_serves(own: Artifacts, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["register", "--root", str(own.root)])
    assert told.exit_code == 0, told.output
    assert f"linear on {KNOWING} is now {URI}" in told.output
    tags = client_of(own).get_model_version_by_alias(MODEL, "champion").tags
    assert set(tags) == {"predictor", "features", "cv_r2", "r2", "kendall_tau"}
    port = free_port()
    environment = os.environ | {OVERRIDE: tracking_uri(own), "MLFLOW_DISABLE_TELEMETRY": "true"}
    bin_folder = Path(sys.executable).parent
    environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
    command = [str(bin_folder / "mlflow"), "models", "serve", "-m", URI, "--env-manager", "local"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port), "-w", "1"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log")
        table, expected = given(own)
        content = {"dataframe_split": json.loads(table.to_json(orient="split", index=False, double_precision=15))}
        reply = requests.post(f"http://127.0.0.1:{port}/invocations", json=content, timeout=30)
        assert reply.status_code == 200, reply.text
        found = pd.DataFrame(reply.json()["predictions"])
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
        content["dataframe_split"]["data"][1][0] = [0.5]
        wrong = requests.post(f"http://127.0.0.1:{port}/invocations", json=content, timeout=30)
        assert wrong.status_code >= 400
        assert "row 1: wanted 386 finite numbers" in wrong.text
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
