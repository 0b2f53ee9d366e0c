"""What stands in MLflow for a network and for a search, field by field: rows, times, folders, curves, views."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from mlflow_record import (
    client_of,
    expected_history,
    experiment_id,
    locked,
    record_of,
    run_of,
    runs_of,
    set_mtime,
    train,
    train_all,
    with_database,
    write_shards,
)

from builders import COLLECTION, SEED, make_recipes, make_shard
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker, search_run, sync_zoo
from cnnzoo.tracking.location import spool_folder
from cnnzoo.zoo import assemble, first_rows
from cnnzoo.zoo.shards import METRICS, Shard

pytestmark = pytest.mark.slow

RECIPES = make_recipes(6)
ROWS = {recipe.network: 9 * index for index, recipe in enumerate(RECIPES)}
START_MS, END_MS = 1_700_000_000_000, 1_700_000_900_000


class Clock:
    """The time of all threads, in ms."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def time_ns(self) -> int:
        return self.now_ms * 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("time.time_ns", found.time_ns)
    return found


def train_by_the_clock(artifacts: Artifacts, shard: Shard, clock: Clock, epochs: int | None = None) -> None:
    """Log a cohort whose checkpoints come a second apart and whose shard is written at END_MS."""
    clock.now_ms = START_MS
    with ZooTracker(artifacts, COLLECTION) as tracker:
        tracker.start(shard.name, shard.origin, shard.recipes)
        for index, epoch in list(enumerate(shard.epochs))[:epochs]:
            clock.now_ms = START_MS + 1000 * (index + 1)
            tracker.checkpoint(shard.name, epoch, {name: values[:, index] for name, values in shard.metrics.items()})
        if epochs is None:
            set_mtime(shard, END_MS)
            clock.now_ms = END_MS + 5000
            tracker.finish(shard)


def times_of(artifacts: Artifacts, run: Run) -> tuple[int, int | None, dict[str, list[int]]]:
    """Return start, end, and the times of all points of each metric in the order of their epochs."""
    client = client_of(artifacts)
    points = {
        name: [
            point.timestamp for point in sorted(client.get_metric_history(run.info.run_id, name), key=lambda p: p.step)
        ]
        for name in METRICS
    }
    return run.info.start_time, run.info.end_time, points


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["live", "rebuilt"])
@pytest.mark.usefixtures("each_store")
def test_the_rows_of_a_run_hold_its_network_in_the_matrix_with_diverged_ones_between(
    how: str, artifacts: Artifacts
) -> None:
    """Cohorts mix the networks, four of eleven diverged at other epochs: rows, status and epoch of each are its own."""
    recipes, diverged = make_recipes(11), {0: 20, 4: 3, 5: 0, 9: 86}
    folder = artifacts.checkpoints(COLLECTION)
    shards = [
        make_shard(folder, [recipes[i] for i in ids], diverged=diverged)
        for ids in ((7, 0, 2, 10, 4), (1, 9, 3, 5, 8, 6))
    ]
    if how == "live":
        train_all(artifacts, shards)
    assemble(shards, recipes, COLLECTION, artifacts.zoo(COLLECTION), SEED)
    assert sync_zoo(artifacts, COLLECTION, shards, recipes, first_rows(shards, recipes))
    matrix = pd.read_csv(artifacts.zoo(COLLECTION) / "metrics.csv.gz", index_col=0, float_precision="round_trip")
    record = record_of(artifacts)
    assert len(record) == 11
    for recipe in recipes:
        name = f"tiny/{recipe.network:06d}"
        run = record[name]
        values = recipe.config() | {"minibatch": shards[0].origin.minibatch}
        assert run["params"] == {key.removeprefix("config."): str(value) for key, value in values.items()}
        assert run["tags"]["network"] == name
        if recipe.network in diverged:
            assert run["status"] == "FAILED"
            assert run["tags"]["diverged_epoch"] == str(diverged[recipe.network])
            assert "rows" not in run["tags"]
            continue
        assert run["status"] == "FINISHED"
        assert "diverged_epoch" not in run["tags"]
        start, end = map(int, run["tags"]["rows"].split("-"))
        own = matrix.iloc[start:end]
        assert own["modeldir"].tolist() == [name] * 9
        for metric in METRICS:
            assert sorted(zip(own["step"], own[metric], strict=True)) == run["history"][metric]


@pytest.mark.usefixtures("each_store")
def test_live_metrics_are_recorded_by_their_names_whatever_their_order(artifacts: Artifacts) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:3])
    with ZooTracker(artifacts, COLLECTION) as tracker:
        tracker.start(shard.name, shard.origin, shard.recipes)
        for index, epoch in enumerate(shard.epochs):
            values = {name: shard.metrics[name][:, index] for name in reversed(METRICS)}
            tracker.checkpoint(shard.name, epoch, values)
    record = record_of(artifacts)
    for recipe in shard.recipes:
        assert record[f"tiny/{recipe.network:06d}"]["history"] == expected_history(recipe, shard.epochs)


def test_cohorts_that_train_at_the_same_time_are_recorded_apart(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    with ZooTracker(artifacts, COLLECTION) as tracker:
        for shard in shards:
            tracker.start(shard.name, shard.origin, shard.recipes)
        for index, epoch in enumerate(shards[0].epochs):
            for shard in shards:
                tracker.checkpoint(shard.name, epoch, {name: shard.metrics[name][:, index] for name in METRICS})
    record = record_of(artifacts)
    for recipe in RECIPES:
        assert record[f"tiny/{recipe.network:06d}"]["history"] == expected_history(recipe, shards[0].epochs)


def test_metrics_are_those_of_the_checkpoint_though_training_goes_on_before_they_are_written(
    artifacts: Artifacts,
) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:3])
    with ZooTracker(artifacts, COLLECTION):
        pass  # makes the experiment
    buffer = {name: np.zeros(3) for name in METRICS}
    with ZooTracker(artifacts, COLLECTION) as tracker, locked(artifacts):  # nothing is written before the lock is gone
        tracker.start(shard.name, shard.origin, shard.recipes)
        for index, epoch in enumerate(shard.epochs):
            for name, values in buffer.items():
                values[:] = shard.metrics[name][:, index]
            tracker.checkpoint(shard.name, epoch, buffer)
    for recipe in shard.recipes:
        assert record_of(artifacts)[f"tiny/{recipe.network:06d}"]["history"] == expected_history(recipe, shard.epochs)


@pytest.mark.usefixtures("each_store")
def test_a_run_lasts_from_its_start_to_its_shard_and_points_have_the_times_of_their_checkpoints(
    artifacts: Artifacts, clock: Clock
) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    train_by_the_clock(artifacts, shard, clock)
    points = [START_MS + 1000 * (place + 1) for place in range(9)]
    expected = (START_MS, END_MS, dict.fromkeys(METRICS, points))
    assert [times_of(artifacts, run) for run in runs_of(artifacts)] == [expected] * 2
    sync_zoo(artifacts, COLLECTION, [shard], RECIPES[:2], ROWS)
    assert [times_of(artifacts, run) for run in runs_of(artifacts)] == [expected] * 2


@pytest.mark.usefixtures("each_store")
def test_a_rebuilt_run_has_the_time_of_its_shard(artifacts: Artifacts) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    set_mtime(shard, END_MS)
    sync_zoo(artifacts, COLLECTION, [shard], RECIPES[:2], ROWS)
    assert [times_of(artifacts, run) for run in runs_of(artifacts)] == [
        (END_MS, END_MS, dict.fromkeys(METRICS, [END_MS] * 9))
    ] * 2


def test_a_mended_run_keeps_the_times_of_its_checkpoints(artifacts: Artifacts, clock: Clock) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    train_by_the_clock(artifacts, shard, clock)
    before = [times_of(artifacts, run) for run in runs_of(artifacts)]
    with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
        database.execute("UPDATE metrics SET value = 0.5 WHERE step = 40")
    sync_zoo(artifacts, COLLECTION, [shard], RECIPES[:2], ROWS)
    assert record_of(artifacts)["tiny/000000"]["history"] == expected_history(RECIPES[0], shard.epochs)
    assert [times_of(artifacts, run) for run in runs_of(artifacts)] == before


@pytest.mark.usefixtures("each_store")
def test_an_interrupted_run_stays_killed_until_its_training_goes_on_in_it(artifacts: Artifacts, clock: Clock) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    train_by_the_clock(artifacts, shard, clock, epochs=5)
    for _ in range(2):  # the pipeline may run again before the network is trained
        sync_zoo(artifacts, COLLECTION, [], RECIPES[:2])
        killed = runs_of(artifacts)
        assert [run.info.status for run in killed] == ["KILLED"] * 2
        assert all(run.info.end_time for run in killed)
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=7, skip=4)
    resumed = runs_of(artifacts)
    assert {run.info.run_id for run in resumed} == {run.info.run_id for run in killed}
    assert [run.info.status for run in resumed] == ["RUNNING"] * 2
    assert [run.info.start_time for run in resumed] == [START_MS] * 2
    assert runs_of(artifacts, view=ViewType.DELETED_ONLY) == []


def test_a_resumed_run_has_no_end(artifacts: Artifacts) -> None:
    """MLflow's own client cannot take an end back, so this holds for the project's own database."""
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=5)
    sync_zoo(artifacts, COLLECTION, [], RECIPES[:2])
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=6, skip=5)
    assert [run.info.end_time for run in runs_of(artifacts)] == [None, None]


def test_a_network_that_comes_back_has_its_run_again_as_if_it_had_never_left(artifacts: Artifacts) -> None:
    def rows() -> list[Any]:
        with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
            return database.execute("SELECT * FROM runs ORDER BY name").fetchall()

    shards = write_shards(artifacts, RECIPES)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    before = rows()
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4], {network: ROWS[network] for network in range(4)})
    assert rows() != before
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    assert rows() == before


def test_a_run_keeps_files_of_its_own(artifacts: Artifacts, tmp_path: Path, each_store: str) -> None:
    # MLflow remembers the folder of a run by its id alone, and the bulk path gives a network the same id everywhere.
    recipes = RECIPES[2:4] if each_store == "postgresql" else RECIPES[:2]
    sync_zoo(artifacts, COLLECTION, write_shards(artifacts, recipes), recipes)
    folder = (artifacts.mlruns / "artifacts" / "zoo" / "tiny").absolute().as_uri()
    runs = runs_of(artifacts)
    assert [run.info.artifact_uri for run in runs] == [f"{folder}/{run.info.run_id}/artifacts" for run in runs]
    (tmp_path / "note.txt").write_text("mine")
    client_of(artifacts).log_artifact(runs[0].info.run_id, str(tmp_path / "note.txt"))
    assert [len(client_of(artifacts).list_artifacts(run.info.run_id)) for run in runs] == [1, 0]


def commit(artifacts: Artifacts) -> str:
    """Make a commit in the project's folder and return its name."""
    git = ["git", "-C", str(artifacts.root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_run_names_the_commit_that_trained_it_not_that_of_a_rerun(artifacts: Artifacts) -> None:
    first, second = write_shards(artifacts, RECIPES)
    of_first = commit(artifacts)
    train_all(artifacts, [first])
    of_second = commit(artifacts)
    assert of_first != of_second
    with ZooTracker(artifacts, COLLECTION) as tracker:
        tracker.finish(first)  # kept as it is
        train(tracker, second)
    sync_zoo(artifacts, COLLECTION, [first, second], RECIPES)
    commits = [run_of(artifacts, recipe.network).data.tags["git_commit"] for recipe in RECIPES]
    assert commits == [of_first] * 3 + [of_second] * 3


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that returns two runs at a time."""
    search = MlflowClient.search_runs

    def two(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        whole = dict(zip(("experiment_ids", "filter_string", "run_view_type", "max_results"), arguments, strict=False))
        return search(client, **(whole | named | {"max_results": 2}))

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_runs", two)
        yield


def names_of(artifacts: Artifacts) -> list[tuple[str, str]]:
    with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
        return sorted(database.execute("SELECT name, lifecycle_stage FROM runs").fetchall())


@pytest.mark.usefixtures("small_pages")
def test_a_rerun_finds_all_runs_of_a_server_that_returns_a_few_at_a_time(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())
    shards = write_shards(artifacts, RECIPES)
    for _ in range(2):
        sync_zoo(artifacts, COLLECTION, shards, RECIPES)
        assert names_of(artifacts) == [(f"tiny/{network:06d}", "active") for network in range(6)]


def test_collections_keep_apart_what_they_could_not_deliver(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = {name: make_shard(artifacts.checkpoints(name), RECIPES[:2], name) for name in (COLLECTION, "other")}
    for name in shards:
        with ZooTracker(artifacts, name):
            pass  # makes the experiment
    monkeypatch.setattr("cnnzoo.tracking.tables.BUSY_TIMEOUT_S", 0.05)
    with locked(artifacts):
        for name, shard in shards.items():
            with ZooTracker(artifacts, name) as tracker:
                train(tracker, shard)
    assert [len(list(spool_folder(artifacts, name).iterdir())) for name in shards] == [11, 11]
    with ZooTracker(artifacts, "other"):
        pass
    assert record_of(artifacts) == {}
    found = client_of(artifacts).search_runs([experiment_id(artifacts, "zoo/other")])
    assert sorted(run.info.run_name for run in found) == ["other/000000", "other/000001"]
    with ZooTracker(artifacts, COLLECTION):
        pass
    assert sorted(record_of(artifacts)) == ["tiny/000000", "tiny/000001"]


@pytest.mark.parametrize("diverged", [{}, {1: 20, 4: 0}])
def test_both_stores_write_the_same_rows_at_every_step(
    diverged: dict[int, int], tmp_path: Path, empty_database: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, times included: after half of a training, after all of it, and after networks have left."""
    dumps: dict[str, list[Any]] = {}
    for kind in ("bulk", "client"):
        if kind == "client":
            monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())
        artifacts = with_database(tmp_path / kind, empty_database)
        first, second = write_shards(artifacts, RECIPES, diverged=diverged)
        train_by_the_clock(artifacts, first, clock)
        train_by_the_clock(artifacts, second, clock, epochs=4)
        dumps[kind] = [all_rows(artifacts)]
        set_mtime(second, END_MS)
        with ZooTracker(artifacts, COLLECTION) as tracker:
            train(tracker, second, skip=3)
        sync_zoo(artifacts, COLLECTION, [first, second], RECIPES, ROWS)
        dumps[kind].append(all_rows(artifacts))
        sync_zoo(artifacts, COLLECTION, [first, second], RECIPES[:4], {network: ROWS[network] for network in range(4)})
        dumps[kind].append(all_rows(artifacts))
    assert dumps["bulk"] == dumps["client"]
    assert dumps["bulk"][0] != dumps["bulk"][1] != dumps["bulk"][2]


ROW_COLUMNS = {
    "runs": "r.name, source_type, user_id, status, lifecycle_stage, start_time, end_time, experiment_id",
    "params": "r.name, key, value",
    "tags": "r.name, key, value",
    "metrics": "r.name, key, value, step, is_nan, timestamp",
    "latest_metrics": "r.name, key, value, step, is_nan, timestamp",
}


def all_rows(artifacts: Artifacts) -> dict[str, list[Any]]:
    """Return the rows of MLflow's tables, with the run's name for its id."""
    dump = {}
    with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
        for table, columns in ROW_COLUMNS.items():
            join = "" if table == "runs" else f"JOIN {table} t ON t.run_uuid = r.run_uuid"
            dump[table] = sorted(database.execute(f"SELECT {columns} FROM runs r {join}").fetchall(), key=repr)
    return dump


# --- searches ---------------------------------------------------------------------------------------------------------

BUDGET = {"trials": 3, "folds": 2}


def searches(artifacts: Artifacts, condition: str = "tags.kind = 'search'") -> list[Run]:
    return list(client_of(artifacts).search_runs([experiment_id(artifacts, "predictors/tiny")], condition))


def search(artifacts: Artifacts, r2: float = 0.9) -> None:
    with search_run(artifacts, "tiny", "linear", "hyper", BUDGET) as run:
        for number, value in ((0, 0.7), (1, None), (2, 0.8), (5, 0.75)):
            run.trial(number, {"l2": 0.1 * number}, value, "FAIL" if value is None else "COMPLETE", 1.5)
        run.metrics({"r2": r2})


def test_the_course_of_a_search_is_a_curve_over_its_trials(artifacts: Artifacts) -> None:
    search(artifacts)
    (run,) = searches(artifacts)
    history = client_of(artifacts).get_metric_history(run.info.run_id, "trial_value")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.7), (2, 0.8), (5, 0.75)]
    trials = {trial.info.run_name: trial for trial in searches(artifacts, "tags.kind = 'trial'")}
    assert sorted(trials) == ["trial 0", "trial 1", "trial 2", "trial 5"]
    assert {trial.data.tags["mlflow.parentRunId"] for trial in trials.values()} == {run.info.run_id}
    assert {trial.info.end_time - trial.info.start_time for trial in trials.values()} == {1500}


def test_the_data_of_a_search_are_told_with_their_size_and_use(artifacts: Artifacts) -> None:
    with search_run(artifacts, "tiny", "linear", "hyper", BUDGET) as run:
        run.dataset("tiny/hyper", "0123456789abcdef" * 4, 30)
    ((data,),) = [run.inputs.dataset_inputs for run in searches(artifacts)]
    assert json.loads(data.dataset.profile) == {"num_rows": 30}
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training"}


def test_failures_with_successes_between_do_not_end_the_record_of_a_search(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    with search_run(artifacts, "tiny", "linear", "hyper", BUDGET) as run:
        for number in range(3):
            run.figure(tmp_path / "not there.png")  # refused
            run.metrics({f"score_{number}": number / 10})
    (found,) = searches(artifacts)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {f"score_{n}": n / 10 for n in range(3)})


@pytest.mark.usefixtures("small_pages")
def test_a_search_that_is_run_again_replaces_all_of_the_former_one(artifacts: Artifacts) -> None:
    for r2 in (0.1, 0.2):
        search(artifacts, r2)
    active = [name for name, stage in names_of(artifacts) if stage == "active"]
    assert active == ["linear on hyper", "trial 0", "trial 1", "trial 2", "trial 5"]


def test_the_saved_view_of_searches_shows_scores_without_trials_best_first(artifacts: Artifacts) -> None:
    search(artifacts, 0.3)
    for features, r2 in (("weights", 0.9), ("probes", 0.6)):
        with search_run(artifacts, "tiny", "dnn", features, BUDGET) as run:
            run.trial(0, {"l2": 0.1}, 0.99, "COMPLETE", 1.0)
            run.metrics({"r2": r2, "kendall_tau": 0.5, "mae": 0.1, "mse": 0.01})
    experiment = client_of(artifacts).get_experiment_by_name("predictors/tiny")
    assert experiment is not None
    assert "one search for a predictor" in experiment.tags["mlflow.note.content"]
    assert "collection `tiny`" in experiment.tags["mlflow.note.content"]
    (view,) = [value for key, value in experiment.tags.items() if key.startswith("mlflow.sharedViewState.")]
    state = json.loads(json.loads(view)["state"])
    order = [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"]
    runs = client_of(artifacts).search_runs([experiment.experiment_id], state["searchFilter"], order_by=order)
    assert [(run.data.params["features"], run.data.metrics["r2"]) for run in runs] == [
        ("weights", 0.9),
        ("probes", 0.6),
        ("hyper", 0.3),
    ]
    data = runs[0].data
    known = {f"metrics.`{key}`" for key in data.metrics} | {f"params.`{key}`" for key in data.params}
    assert set(state["selectedColumns"]) <= known
