"""The commands that need MLflow, `ui`, `track` and `register`: options, what is on record afterwards, exit codes."""

import json
import socket
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from mlflow_record import client_of, runs_of, with_database, write_shards
from typer.testing import CliRunner

from builders import COLLECTION, make_recipes
from cnnzoo.cli import app
from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.search.runs import search
from cnnzoo.tracking.location import OVERRIDE
from cnnzoo.zoo import Collection, assemble, recipes
from cnnzoo.zoo.shards import read_shards
from tuned import untracked
from zoos import make_params, make_project

RECIPES = make_recipes(5)
DIVERGED = {2: 3}
"""Network -> epoch."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_params(artifacts: Artifacts, params: Params) -> None:
    """Write params.yaml (JSON is YAML)."""
    artifacts.params.parent.mkdir(parents=True, exist_ok=True)
    artifacts.params.write_text(params.model_dump_json(indent=1), encoding="utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def pulled(artifacts: Artifacts) -> Artifacts:
    """A project as `dvc pull` leaves it: recipes and shards are there, its networks are not on record."""
    write_params(artifacts, make_params({COLLECTION: len(RECIPES), "other": 7}, ["weights"]))
    recipes.write(artifacts.recipes(COLLECTION), RECIPES)
    write_shards(artifacts, RECIPES, DIVERGED)
    return artifacts


# --- track ---


def test_track_puts_every_network_on_record_with_its_rows_of_the_matrix(pulled: Artifacts) -> None:
    result = run("track", COLLECTION, "--root", pulled.root)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "tiny: 5 networks on record"
    runs = {run.data.tags["network"]: run for run in runs_of(pulled)}
    assert sorted(runs) == [f"tiny/{network:06d}" for network in range(5)]
    shards = read_shards(pulled.checkpoints(COLLECTION))
    assert len(shards) == 2
    assemble(shards, RECIPES, COLLECTION, pulled.zoo(COLLECTION), 7)
    names = Collection.open(pulled.zoo(COLLECTION)).metrics["modeldir"]  # the rows as a reader of the matrix finds them
    for network, tracked in runs.items():
        rows = np.flatnonzero(names == network)
        expected = f"{rows[0]}-{rows[-1] + 1}" if len(rows) else None
        assert tracked.data.tags.get("rows") == expected
    assert runs["tiny/000002"].data.tags["diverged_epoch"] == "3"
    assert runs["tiny/000003"].data.tags["rows"] == "18-27"


def test_track_works_in_the_current_folder_by_default(pulled: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pulled.root)
    assert run("track", COLLECTION).exit_code == 0
    assert len(runs_of(pulled)) == 5


def test_track_fails_where_the_store_cannot_be_reached(pulled: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, f"http://127.0.0.1:{free_port()}")
    result = run("track", COLLECTION, "--root", pulled.root)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Start the server, then run the same command again" in result.stderr
    assert "on record" not in result.output


def test_track_of_a_collection_that_is_not_made_here_fails(pulled: Artifacts) -> None:
    for collection, words in (("tinny", "did you mean `tiny`"), ("other", "dvc repro recipes@other train@other")):
        result = run("track", collection, "--root", pulled.root)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr


# --- ui ---


Servers = list[tuple[list[str], dict[str, str]]]
"""Command lines and environments."""


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The command lines and environments of the servers that this process would have become."""
    started: Servers = []
    monkeypatch.setattr("os.execve", lambda _program, *how: started.append(how))
    return started


def test_ui_serves_the_projects_record_on_the_port_asked_for_and_on_this_machine_only(
    pulled: Artifacts, servers: Servers
) -> None:
    assert run("track", COLLECTION, "--root", pulled.root).exit_code == 0
    port = free_port()
    result = run("ui", "--port", port, "--root", pulled.root)
    assert result.exit_code == 0, result.output
    assert f"zoo/tiny: http://127.0.0.1:{port}/#/experiments/" in result.stdout
    ((command, environment),) = servers
    given = dict(pairwise(command))
    assert (given["--host"], given["--port"]) == ("127.0.0.1", str(port))
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{pulled.mlruns / 'mlflow.db'}"
    assert given["--default-artifact-root"] == (pulled.mlruns / "artifacts").as_uri()


def test_ui_of_a_port_in_use_or_of_no_record_fails(pulled: Artifacts, servers: Servers, tmp_path: Path) -> None:
    assert "no experiments yet" in run("ui", "--root", tmp_path).stderr
    assert run("track", COLLECTION, "--root", pulled.root).exit_code == 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("ui", "--port", port, "--root", pulled.root)
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 cannot be used" in result.stderr
    assert run("ui", "--port", 0).exit_code == 2
    assert servers == []


# --- register ---


@pytest.mark.slow
def test_register_registers_the_predictor_of_the_collection_that_is_named(tmp_path: Path, empty_database: Path) -> None:
    sizes = {"small": 20, "other": 24}
    params = make_params(sizes, ["weights.3"], predictors=["linear"], trials=1)
    shaped = {name: population.model_copy(update={"num_units": 4}) for name, population in params.populations.items()}
    params = params.model_copy(update={"populations": shaped})
    artifacts = with_database(tmp_path / "project", empty_database)
    make_project(artifacts.root, sizes, ["weights.3"])
    write_params(artifacts, params)
    search(artifacts, params, "other", untracked)
    client = client_of(artifacts)

    none = run("register", "--root", artifacts.root)  # the first collection, which has no predictor
    assert (none.exit_code, none.stdout) == (1, "")
    assert client.search_registered_models() == []

    result = run("register", "other", "--root", artifacts.root)
    assert result.exit_code == 0, result.output
    assert "linear on weights.3 is now models:/cnnzoo-other@champion" in result.stdout
    assert f"MLFLOW_TRACKING_URI=sqlite:///{artifacts.mlruns / 'mlflow.db'} mlflow models serve" in result.stdout
    assert [model.name for model in client.search_registered_models()] == ["cnnzoo-other"]
    tags = client.get_model_version_by_alias("cnnzoo-other", "champion").tags
    scores = json.loads((artifacts.predictor("other", "linear", "weights.3") / "metrics.json").read_text())
    assert (tags["predictor"], tags["features"]) == ("linear", "weights.3")
    for name in ("cv_r2", "r2", "kendall_tau"):
        assert float(tags[name]) == pytest.approx(scores[name], abs=1e-4)
    (example,) = artifacts.mlruns.rglob("input_example.json")
    shown = json.loads(example.read_text())
    weights = np.array(shown["data"][0][shown["columns"].index("weights")], dtype=np.float32)
    zoo = Collection.open(artifacts.zoo("other"))
    assert any(np.array_equal(weights, zoo.weights[row]) for row in zoo.final())
