"""`cnnzoo track` in a clone without a record: MLflow then holds what was logged while the zoo was made.

The live record, read through MLflow's client, is the oracle. Two things no file holds: when a trial ran, and how long.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from mlflow_record import client_of, plain, train_all, with_database, write_shards
from optuna.trial import BaseTrial
from ruamel.yaml import YAML
from typer.testing import CliRunner

from builders import COLLECTION, make_recipes
from cnnzoo import predictors
from cnnzoo.cli import app
from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.predictors.linear import LogitLinear
from cnnzoo.search import only_search
from cnnzoo.search.runs import search
from cnnzoo.tracking import search_run, sync_zoo
from cnnzoo.tracking.location import OVERRIDE
from cnnzoo.zoo import first_rows, recipes
from zoos import make_params, make_project

pytestmark = pytest.mark.slow

NETWORKS = 24
EXPERIMENTS = (f"zoo/{COLLECTION}", f"predictors/{COLLECTION}")
OWN = ("git_commit", "project", "mlflow.parentRunId")
"""Tags of a run that no file holds: where it was made, and the id of the run that it is nested in."""
STAMPS = ("model_id", "model_uuid", "run_id", "artifact_path", "utc_time_created", "mlflow_version", "model_size_bytes")
"""What MLflow writes into a model's description beside its content."""


class Manifold(LogitLinear):
    """A predictor whose trials have parameters of every kind, one only in some of them."""

    @classmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        if trial.suggest_categorical("kind", ("plain", "rated")) == "rated":
            trial.suggest_float("rate", 1e-9, 1e-4, log=True)
        trial.suggest_categorical("minibatch", (32, 64))
        trial.suggest_categorical("share", (0.0, 0.003))
        trial.suggest_int("depth", 3, 700)
        return super().suggest(trial)


START = {"kind": "plain", "minibatch": 64, "share": 0.0, "depth": 3}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Artifacts:
    """A project whose networks and searches were recorded as they came; no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(OVERRIDE, raising=False)
        start = LogitLinear.start | START
        patch.setattr(Manifold, "start", start)
        patch.setitem(predictors.REGISTRY, "linear", Manifold)
        root = tmp_path_factory.mktemp("live") / "project"
        artifacts = with_database(root, empty_database)
        made = make_project(root, {COLLECTION: NETWORKS}, ["hyper", "weights.3"])
        params = make_params({COLLECTION: NETWORKS}, ["hyper", "weights.3"], predictors=["linear"], trials=4)
        artifacts.params.write_text(params.model_dump_json(), encoding="utf-8")
        drawn = make_recipes(6)
        recipes.write(artifacts.recipes(COLLECTION), drawn)
        shards = write_shards(artifacts, drawn, {2: 3})
        train_all(artifacts, shards)
        assert sync_zoo(artifacts, COLLECTION, shards, drawn, first_rows(shards, drawn))
        search(made, params, COLLECTION, search_run)
    return artifacts


@pytest.fixture
def pull(live: Artifacts, tmp_path: Path, empty_database: Path) -> Callable[..., Artifacts]:
    """Return a function that makes a clone with the files of the project, without some, and without a record."""

    def make(*absent: str) -> Artifacts:
        clone = with_database(tmp_path / "clone", empty_database)
        left_out = shutil.ignore_patterns("mlruns", "unfinished")
        shutil.copytree(live.root, clone.root, ignore=left_out, dirs_exist_ok=True)
        for name in absent:
            path = clone.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return clone

    return make


def track(artifacts: Artifacts, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["track", *arguments, "--root", str(artifacts.root)])


def record(artifacts: Artifacts) -> dict[str, list[Any]]:
    """Return the content of every active run, by experiment."""
    client = client_of(artifacts)
    found = {}
    for name in EXPERIMENTS:
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        names = {run.info.run_id: run.info.run_name for run in runs}
        found[name] = sorted((content(client, run, names) for run in runs), key=json.dumps)
    found["registered"] = [model.name for model in client.search_registered_models()]
    return found


def content(client: MlflowClient, run: Run, names: dict[str, str]) -> dict[str, Any]:
    run_id, tags = run.info.run_id, run.data.tags
    models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    return {
        "name": run.info.run_name,
        "parent": names.get(tags.get("mlflow.parentRunId", "")),
        "status": run.info.status,
        "params": run.data.params,
        "tags": {key: value for key, value in tags.items() if key not in OWN},
        "metrics": {
            name: sorted((point.step, plain(point.value)) for point in client.get_metric_history(run_id, name))
            for name in run.data.metrics
        },
        "data": [
            (found.dataset.name, found.dataset.digest, found.dataset.profile) for found in run.inputs.dataset_inputs
        ],
        "figures": files(run.info.artifact_uri),
        "models": [(model.name, model.status, model_files(model.artifact_location)) for model in models],
    }


def files(uri: str) -> dict[str, str]:
    """Return the content of every file below a file: address, in hexadecimal digits."""
    folder = Path(uri.removeprefix("file://"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().hex() for path in folder.rglob("*") if path.is_file()
    }


def model_files(uri: str) -> dict[str, Any]:
    """Return a model's files; of MLflow's description without ids and times."""
    found: dict[str, Any] = files(uri)
    description = YAML(typ="safe").load(bytes.fromhex(found["MLmodel"]).decode())
    found["MLmodel"] = {key: value for key, value in description.items() if key not in STAMPS}
    return found


def ids(artifacts: Artifacts) -> set[str]:
    """Return every run there is, also those marked as deleted."""
    client = client_of(artifacts)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id for run in client.search_runs(experiments, run_view_type=ViewType.ALL)}


def test_the_rebuilt_record_is_the_live_one_and_a_second_time_adds_nothing(
    live: Artifacts, pull: Callable[..., Artifacts]
) -> None:
    clone = pull()
    result = track(clone)
    assert result.exit_code == 0, result.output
    assert result.stdout == "tiny: 6 networks on record\ntiny: 2 tuned predictors on record\n`cnnzoo ui` shows them\n"
    expected = record(live)
    trials = [run["params"] for run in expected[EXPERIMENTS[1]] if run["parent"]]
    assert len(trials) == 8
    assert {"rate" in trial for trial in trials} == {True, False}
    assert record(clone) == expected
    before = ids(clone)
    assert track(clone, COLLECTION).exit_code == 0
    assert ids(clone) == before
    assert len(before) == 6 + 2 + 8


def test_what_is_missing_from_a_search_on_record_is_recorded_again(pull: Callable[..., Artifacts]) -> None:
    clone = pull("data/recipes", "data/checkpoints")
    assert track(clone).exit_code == 0
    client, whole = client_of(clone), None
    for damage in (lose_a_trial, lose_the_model, lose_a_figure, change_a_score):
        experiment = client.get_experiment_by_name(EXPERIMENTS[1])
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        whole = whole or sorted((content(client, run, {}) for run in runs), key=json.dumps)
        damage(client, next(run for run in runs if run.data.tags["kind"] == "search"))
        assert track(clone).exit_code == 0
        runs = client.search_runs([experiment.experiment_id])
        assert sorted((content(client, run, {}) for run in runs), key=json.dumps) == whole, damage.__name__


def lose_a_trial(client: MlflowClient, run: Run) -> None:
    (trial, *_) = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    client.delete_run(trial.info.run_id)


def lose_the_model(client: MlflowClient, run: Run) -> None:
    for output in run.outputs.model_outputs:
        client.finalize_logged_model(output.model_id, "FAILED")


def lose_a_figure(_: MlflowClient, run: Run) -> None:
    (Path(run.info.artifact_uri.removeprefix("file://")) / "figures" / "importance.png").unlink()


def change_a_score(client: MlflowClient, run: Run) -> None:
    client.log_metric(run.info.run_id, "r2", 0.123)


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        (("data/checkpoints",), ("networks not recorded: no ", "`dvc pull train@tiny` gets", "2 tuned predictors on")),
        (
            ("models",),
            ("6 networks on record", "searches not recorded: no ", "and 1 more. `dvc pull search@tiny` gets"),
        ),
        (("data/zoo", "data/features"), ("`dvc pull assemble@tiny features@tiny` gets", "6 networks on record")),
    ],
)
def test_a_part_that_was_not_pulled_is_named_with_its_command(
    absent: tuple[str, ...], words: tuple[str, ...], pull: Callable[..., Artifacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnzoo.tracking.rebuild.sync_searches", lambda *_: [])
    result = track(pull(*absent))
    assert result.exit_code == 0, result.output
    assert [word for word in words if word not in result.stdout] == []


def test_with_nothing_pulled_nothing_is_made(pull: Callable[..., Artifacts]) -> None:
    clone = pull("data", "models", "mlruns")
    result = track(clone)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "`dvc pull recipes@tiny train@tiny` gets what is missing" in result.stderr
    assert "`dvc pull assemble@tiny features@tiny search@tiny` gets what is missing" in result.stderr
    assert not clone.mlruns.exists()


def test_files_that_do_not_belong_together_are_refused(pull: Callable[..., Artifacts]) -> None:
    clone = pull("data/recipes")
    params = Params.model_validate_json(clone.params.read_text())
    more = params.model_copy(update={"search": params.search.model_copy(update={"trials": 9})})
    clone.params.write_text(more.model_dump_json(), encoding="utf-8")
    assert "of 4 trials, where params.yaml says `search.trials=9`" in track(clone).stderr
    clone.params.write_text(params.model_dump_json(), encoding="utf-8")
    folder = clone.predictor(COLLECTION, "linear", "hyper")
    rows = (folder / "predictions.csv").read_text().splitlines(keepends=True)
    (folder / "predictions.csv").write_text("".join(rows[:-1]))
    assert "its held-out networks are not those of" in track(clone).stderr
    (folder / "study.csv").write_text("number,value\nx,1\n")
    (folder / "predictions.csv").write_text("".join(rows))
    assert "study.csv: damaged" in track(clone).stderr
    (folder / "metrics.json").write_text("[1]")
    assert "metrics.json: damaged" in track(clone).stderr


def test_a_search_under_way_is_left_alone(pull: Callable[..., Artifacts]) -> None:
    clone = pull("data/recipes")
    with only_search(clone, COLLECTION):
        result = track(clone)
    assert result.exit_code == 1
    assert "another search of `tiny` is under way" in result.stderr


def test_a_search_that_the_store_refuses_is_named(
    pull: Callable[..., Artifacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = pull("data/recipes")
    shutil.rmtree(clone.predictor(COLLECTION, "linear", "hyper") / "model")
    result = track(clone)
    assert result.exit_code == 1
    assert "the record is not complete, see above: linear on hyper; run the same command again" in result.stderr
