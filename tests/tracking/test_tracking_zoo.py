import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from mlflow.entities import ViewType
from mlflow_record import (
    MISSING,
    client_of,
    expected_history,
    experiment_id,
    record_of,
    run_of,
    runs_of,
    select,
    train,
    train_all,
    with_database,
    write_shards,
)

from builders import COLLECTION, epochs_of, make_recipe, make_recipes, make_shard
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker, sync_zoo
from cnnzoo.tracking.location import OVERRIDE
from cnnzoo.tracking.runs import Operation
from cnnzoo.tracking.store import Store, apply, open_zoo
from cnnzoo.tracking.zoo import git_commit
from cnnzoo.zoo.shards import write_shard

pytestmark = pytest.mark.slow

RECIPES = make_recipes(6)
ROWS = {recipe.network: 9 * index for index, recipe in enumerate(RECIPES)}


@pytest.mark.usefixtures("each_store")
def test_a_network_is_a_run_with_its_hyperparameters_metrics_and_tags(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    train_all(artifacts, shards)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    record = record_of(artifacts)
    assert sorted(record) == [f"tiny/{recipe.network:06d}" for recipe in RECIPES]
    for recipe, cohort in [(recipe, shard.name) for shard in shards for recipe in shard.recipes]:
        run = record[f"tiny/{recipe.network:06d}"]
        values = recipe.config() | {"minibatch": shards[0].origin.minibatch}
        assert run["params"] == {name.removeprefix("config."): str(value) for name, value in values.items()}
        assert run["history"] == expected_history(recipe, epochs_of(recipe))
        assert run["latest"] == {name: points[-1][1] for name, points in run["history"].items()}
        assert run["status"] == "FINISHED"
        assert run["tags"] == {
            "mlflow.runName": f"tiny/{recipe.network:06d}",
            "network": f"tiny/{recipe.network:06d}",
            "cohort": cohort,
            "engine": "reference",
            "numerics": shards[0].origin.numerics,
            "images": shards[0].origin.images,
            "shard": f"data/checkpoints/tiny/{cohort}.safetensors",
            "rows": f"{9 * recipe.network}-{9 * recipe.network + 9}",
        }


@pytest.mark.usefixtures("each_store")
def test_runs_can_be_filtered_and_sorted(artifacts: Artifacts) -> None:
    train_all(artifacts, write_shards(artifacts, RECIPES))
    found = runs_of(
        artifacts, "params.optimizer = 'adam' and metrics.test_accuracy > 0.3", order=["metrics.test_accuracy DESC"]
    )
    accuracies = [run.data.metrics["test_accuracy"] for run in found]
    everything = [run.data for run in runs_of(artifacts)]
    expected = [data.metrics["test_accuracy"] for data in everything if data.params["optimizer"] == "adam"]
    assert accuracies == sorted((value for value in expected if value > 0.3), reverse=True)
    assert accuracies


@pytest.mark.usefixtures("each_store")
def test_metrics_are_logged_as_the_checkpoints_are_reached(artifacts: Artifacts) -> None:
    (shard,) = [make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:3])]
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=4)
    for recipe in shard.recipes:
        run = record_of(artifacts)[f"tiny/{recipe.network:06d}"]
        assert run["status"] == "RUNNING"
        assert run["history"] == {name: points[:4] for name, points in expected_history(recipe, shard.epochs).items()}


@pytest.mark.usefixtures("each_store")
def test_checkpoints_that_wait_are_written_together_and_recorded_as_one_by_one(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:3])
    sizes, may_open = [], Event()

    def open_later(artifacts: Artifacts, collection: str) -> Store:
        assert may_open.wait(60)
        return open_zoo(artifacts, collection)

    def note(store: Store, operation: Operation) -> None:
        sizes.append((operation.action, len(operation.records)))
        apply(store, operation)

    monkeypatch.setattr("cnnzoo.tracking.zoo.open_zoo", open_later)
    monkeypatch.setattr("cnnzoo.tracking.writer.apply", note)
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=8)  # before the store is open
        may_open.set()
    assert sizes == [("begin", 3), ("log", 3 * 8)]
    for recipe in shard.recipes:
        run = record_of(artifacts)[f"tiny/{recipe.network:06d}"]
        assert run["history"] == {name: points[:8] for name, points in expected_history(recipe, shard.epochs).items()}
        assert run["latest"] == {name: points[7][1] for name, points in expected_history(recipe, shard.epochs).items()}


@pytest.mark.usefixtures("each_store")
def test_a_checkpoint_that_was_never_logged_is_on_record_once_the_shard_is(artifacts: Artifacts) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:3])
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=5)
        tracker.finish(shard)
    for recipe in shard.recipes:
        run = record_of(artifacts)[f"tiny/{recipe.network:06d}"]
        assert (run["status"], run["history"]) == ("FINISHED", expected_history(recipe, shard.epochs))


@pytest.mark.usefixtures("each_store")
def test_a_diverged_network_is_failed_and_keeps_its_nan(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES, diverged={5: 20})
    train_all(artifacts, shards)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, {key: row for key, row in ROWS.items() if key != 5})
    (failed,) = runs_of(artifacts, "attributes.status = 'FAILED'")
    assert failed.data.tags["diverged_epoch"] == "20"
    assert "rows" not in failed.data.tags
    run = record_of(artifacts)["tiny/000005"]
    assert [value for _, value in run["history"]["test_loss"][4:]] == [MISSING] * 5
    assert run["latest"]["test_loss"] == MISSING
    assert all("diverged_epoch" not in run.data.tags for run in runs_of(artifacts, "attributes.status = 'FINISHED'"))


@pytest.mark.usefixtures("each_store")
def test_an_infinite_loss_is_kept_as_the_largest_number_as_mlflow_does(artifacts: Artifacts) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    metrics = {name: values.copy() for name, values in shard.metrics.items()}
    metrics["test_loss"][0, 2:] = [np.inf, -np.inf, np.nan, 1, 2, 3, np.inf]
    changed = write_shard(
        shard.path.parent, shard.origin, shard.recipes, shard.weights(), metrics, shard.diverged_epoch
    )
    train_all(artifacts, [changed])
    first = record_of(artifacts)
    run = first["tiny/000000"]
    largest = sys.float_info.max
    assert [value for _, value in run["history"]["test_loss"][2:]] == [largest, -largest, MISSING, 1, 2, 3, largest]
    sync_zoo(artifacts, COLLECTION, [changed], RECIPES[:2])
    assert record_of(artifacts) == first


def test_both_stores_write_the_same_rows(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = []
    for kind in ("bulk", "client"):
        if kind == "client":
            monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())
        artifacts = with_database(tmp_path / kind, empty_database)
        shards = write_shards(artifacts, RECIPES, diverged={5: 20, 2: 0})
        train_all(artifacts, shards)
        sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
        dumps.append(rows_of(artifacts))
    assert dumps[0] == dumps[1]
    assert {table: len(rows) for table, rows in dumps[0].items()} == {
        "runs": 6,
        "params": 6 * 17,
        "tags": 6 * 8 + 2,  # two diverged
        "metrics": 6 * 4 * 9,
        "latest_metrics": 6 * 4,
    }


COLUMNS = {
    "runs": ["source_type", "source_name", "entry_point_name", "user_id", "status", "lifecycle_stage", "deleted_time"],
    "params": ["key", "value"],
    "tags": ["key", "value"],
    "metrics": ["key", "value", "step", "is_nan"],
    "latest_metrics": ["key", "value", "step", "is_nan"],
}
CLOCKS = {"runs": ["start_time", "end_time"], "metrics": ["timestamp"], "latest_metrics": ["timestamp"]}


def rows_of(artifacts: Artifacts, times: bool = False) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of MLflow's tables of runs, with the run's name for its id; times only if asked for."""
    dump = {}
    for table, columns in COLUMNS.items():
        names = ", ".join(f"t.{name}" for name in columns + (CLOCKS.get(table, []) if times else []))
        query = f"SELECT r.name, {names} FROM {table} t JOIN runs r ON t.run_uuid = r.run_uuid"
        dump[table] = sorted(select(artifacts, query), key=repr)
    return dump


@pytest.mark.usefixtures("each_store")
def test_sync_twice_changes_nothing_and_keeps_times(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES, diverged={5: 20})
    train_all(artifacts, shards)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    first = rows_of(artifacts, times=True)
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    assert rows_of(artifacts, times=True) == first


@pytest.mark.usefixtures("each_store")
def test_the_record_is_rebuilt_from_the_shards(
    artifacts: Artifacts, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(artifacts, RECIPES, diverged={5: 20})
    train_all(artifacts, shards)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    logged = record_of(artifacts)
    monkeypatch.delenv(OVERRIDE, raising=False)  # rebuilt in SQLite, whatever the first one was
    rebuilt = with_database(tmp_path / "rebuilt", empty_database)
    shards = write_shards(rebuilt, RECIPES, diverged={5: 20})
    sync_zoo(rebuilt, COLLECTION, shards, RECIPES, ROWS)
    assert record_of(rebuilt) == logged


@pytest.mark.usefixtures("each_store")
def test_a_network_trained_under_other_parameters_replaces_its_run(artifacts: Artifacts) -> None:
    first = write_shards(artifacts, RECIPES)
    train_all(artifacts, first)
    sync_zoo(artifacts, COLLECTION, first, RECIPES)
    before = record_of(artifacts)
    others = [make_recipe(recipe.network, l2reg=0.5) for recipe in RECIPES]
    second = write_shards(artifacts, others)
    train_all(artifacts, second)
    assert {run["params"]["l2reg"] for run in record_of(artifacts).values()} == {"0.5"}  # during training already
    sync_zoo(artifacts, COLLECTION, second, others)
    assert len(record_of(artifacts)) == 6
    assert len(runs_of(artifacts, view=ViewType.DELETED_ONLY)) == 6
    train_all(artifacts, first)  # and back again: the shards are gone, so all are trained again
    sync_zoo(artifacts, COLLECTION, first, RECIPES)
    assert record_of(artifacts) == before


@pytest.mark.usefixtures("each_store")
def test_networks_that_left_the_collection_are_deleted(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    fewer = write_shards(artifacts, RECIPES[:5])
    sync_zoo(artifacts, COLLECTION, fewer, RECIPES[:5])
    assert sorted(record_of(artifacts)) == [f"tiny/{network:06d}" for network in range(5)]


@pytest.mark.usefixtures("each_store")
def test_a_network_is_recorded_from_the_shard_of_its_wanted_recipe(artifacts: Artifacts) -> None:
    mixed, other = write_shards(artifacts, RECIPES)
    train_all(artifacts, [mixed, other])
    sync_zoo(artifacts, COLLECTION, [mixed, other], RECIPES, ROWS)
    changed = [make_recipe(network, l2reg=0.5) for network in (1, 2)]
    wanted = [RECIPES[0], *changed, *RECIPES[3:]]
    again = make_shard(artifacts.checkpoints(COLLECTION), changed)  # `mixed` stays: network 0 is wanted as it was
    train_all(artifacts, [again])
    shards = [mixed, other, again]
    sync_zoo(artifacts, COLLECTION, shards, wanted, ROWS)
    record = record_of(artifacts)
    assert {name: run["tags"]["cohort"] for name, run in record.items()} == {
        f"tiny/{network:06d}": shard.name for network, shard in enumerate([mixed, again, again, other, other, other])
    }
    assert [record[f"tiny/{network:06d}"]["params"]["l2reg"] for network in (1, 2)] == ["0.5", "0.5"]
    first = rows_of(artifacts, times=True)
    sync_zoo(artifacts, COLLECTION, shards, wanted, ROWS)
    assert rows_of(artifacts, times=True) == first


@pytest.mark.usefixtures("each_store")
def test_networks_that_are_no_longer_wanted_are_deleted_though_a_shard_holds_them(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4], {key: ROWS[key] for key in range(4)})
    assert sorted(record_of(artifacts)) == [f"tiny/{network:06d}" for network in range(4)]
    deleted = runs_of(artifacts, view=ViewType.DELETED_ONLY)
    assert sorted(run.info.run_name for run in deleted) == ["tiny/000004", "tiny/000005"]
    sync_zoo(artifacts, COLLECTION, shards, RECIPES, ROWS)
    assert len(record_of(artifacts)) == 6


def test_of_two_equal_networks_the_shard_first_by_name_is_on_record(artifacts: Artifacts) -> None:
    folder = artifacts.checkpoints(COLLECTION)
    shards = [make_shard(folder, RECIPES[:2]), make_shard(folder, RECIPES[1:3])]
    first = min(shard.name for shard in shards)
    for order in (shards, shards[::-1]):
        sync_zoo(artifacts, COLLECTION, order, RECIPES[:3])
        assert record_of(artifacts)["tiny/000001"]["tags"]["cohort"] == first


@pytest.mark.usefixtures("each_store")
def test_what_was_never_finished_is_killed_and_can_be_resumed(artifacts: Artifacts) -> None:
    done, broken = (make_shard(artifacts.checkpoints(COLLECTION), RECIPES[a:b]) for a, b in ((0, 3), (3, 6)))
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, done)
        train(tracker, broken, epochs=5)
    sync_zoo(artifacts, COLLECTION, [done], RECIPES[:6])
    assert sorted(run.info.run_name for run in runs_of(artifacts, "attributes.status = 'KILLED'")) == [
        "tiny/000003",
        "tiny/000004",
        "tiny/000005",
    ]
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, broken, epochs=6, skip=3)  # two checkpoints come again after the resume
    resumed = record_of(artifacts)["tiny/000004"]
    assert resumed["status"] == "RUNNING"
    assert resumed["history"] == {
        name: points[:6] for name, points in expected_history(RECIPES[4], broken.epochs).items()
    }
    assert resumed["latest"]["test_loss"] == resumed["history"]["test_loss"][-1][1]


def test_a_resume_from_an_earlier_epoch_keeps_the_latest_value(artifacts: Artifacts) -> None:
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:2])
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, shard, epochs=7)
        train(tracker, shard, epochs=4, skip=2)
    run = record_of(artifacts)["tiny/000000"]
    assert run["latest"]["test_loss"] == run["history"]["test_loss"][6][1]


KILLED_TRAINING = """
import os, signal, sqlite3, sys, time
from pathlib import Path
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker
from cnnzoo.zoo.shards import read_shards
artifacts = Artifacts(Path(sys.argv[1]))
database = sqlite3.connect(artifacts.mlruns / "mlflow.db")
STARTED = "SELECT count(*) FROM runs WHERE status = 'RUNNING' AND name = ?"
with ZooTracker(artifacts, "tiny") as tracker:
    for count, shard in enumerate(read_shards(artifacts.checkpoints("tiny"))):
        tracker.start(shard.name, shard.origin, shard.recipes)
        for index, epoch in enumerate(shard.epochs):
            tracker.checkpoint(shard.name, epoch, {name: v[:, index] for name, v in shard.metrics.items()})
            if count == 1 and index == 4:
                name = f"tiny/{shard.recipes[0].network:06d}"
                while database.execute(STARTED, (name,)).fetchone() == (0,):
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGKILL)
        tracker.finish(shard)
"""


def test_a_kill_in_the_middle_loses_nothing_after_sync(
    artifacts: Artifacts, tmp_path: Path, empty_database: Path
) -> None:
    shards = write_shards(artifacts, RECIPES, diverged={5: 20})
    command = [sys.executable, "-c", KILLED_TRAINING, str(artifacts.root)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    partial = record_of(artifacts)
    assert partial != {}
    assert "RUNNING" in {run["status"] for run in partial.values()}
    sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    undisturbed = with_database(tmp_path / "undisturbed", empty_database)
    shards = write_shards(undisturbed, RECIPES, diverged={5: 20})
    train_all(undisturbed, shards)
    assert record_of(artifacts) == record_of(undisturbed)
    assert len(runs_of(artifacts, view=ViewType.ALL)) == 6


def test_sync_mends_rows_that_were_altered_and_leaves_what_people_added(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    before = record_of(artifacts)
    client_of(artifacts).set_tag(run_of(artifacts, 4).info.run_id, "mlflow.note.content", "look at this one")
    with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
        database.execute("UPDATE params SET value = '1' WHERE key = 'dropout'")
        database.execute("DELETE FROM params WHERE key IN ('l2reg', 'minibatch')")
        database.execute("DELETE FROM tags WHERE key IN ('numerics', 'images')")
        database.execute("UPDATE metrics SET value = 0.5 WHERE step = 40")
        database.execute("DELETE FROM latest_metrics WHERE key = 'test_loss'")
        database.execute("UPDATE tags SET value = 'x' WHERE key = 'engine'")
        database.execute("UPDATE runs SET status = 'RUNNING', lifecycle_stage = 'deleted' WHERE name = 'tiny/000003'")
    assert record_of(artifacts) != before
    sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert run_of(artifacts, 4).data.tags["mlflow.note.content"] == "look at this one"
    client_of(artifacts).delete_tag(run_of(artifacts, 4).info.run_id, "mlflow.note.content")
    assert record_of(artifacts) == before


def test_a_client_writes_again_what_it_cannot_mend(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())
    shards = write_shards(artifacts, RECIPES[:4])
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    before = record_of(artifacts)
    with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
        database.execute("UPDATE latest_metrics SET value = 0.5 WHERE key = 'test_loss'")
        database.execute("UPDATE runs SET status = 'RUNNING'")
        database.execute("UPDATE runs SET status = 'FINISHED' WHERE name < 'tiny/000002'")
        database.execute("UPDATE metrics SET value = 0.5 WHERE step = 40")
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    assert record_of(artifacts) == before


def test_rows_follow_the_matrix(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES[:4])
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4], {0: 0, 1: 9, 2: 18})
    assert [run_of(artifacts, network).data.tags.get("rows") for network in range(4)] == ["0-9", "9-18", "18-27", None]
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])  # without rows: they stay
    assert run_of(artifacts, 2).data.tags["rows"] == "18-27"
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4], {0: 0, 2: 9, 3: 18})
    assert [run_of(artifacts, network).data.tags.get("rows") for network in range(4)] == ["0-9", None, "9-18", "18-27"]


def test_a_deleted_database_is_made_again(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES[:4])
    (artifacts.mlruns / "mlflow.db").unlink()
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    assert len(record_of(artifacts)) == 4


def test_a_deleted_experiment_comes_back(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES[:4])
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    client_of(artifacts).delete_experiment(experiment_id(artifacts))
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    assert len(record_of(artifacts)) == 4


def test_an_edited_note_stays(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES[:4])
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    client = client_of(artifacts)
    assert "Every run is one small CNN" in client.get_experiment(experiment_id(artifacts)).tags["mlflow.note.content"]
    client.set_experiment_tag(experiment_id(artifacts), "mlflow.note.content", "mine")
    sync_zoo(artifacts, COLLECTION, shards, RECIPES[:4])
    assert client.get_experiment(experiment_id(artifacts)).tags["mlflow.note.content"] == "mine"


def test_two_collections_share_a_database(artifacts: Artifacts) -> None:
    other = make_shard(artifacts.checkpoints("other"), RECIPES[:4], collection="other")
    sync_zoo(artifacts, "other", [other], RECIPES[:4])
    shards = write_shards(artifacts, RECIPES)
    train_all(artifacts, shards)
    sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    found = client_of(artifacts).search_runs([experiment_id(artifacts, "zoo/other")])
    assert sorted(run.info.run_name for run in found) == [f"other/{network:06d}" for network in range(4)]
    assert len(record_of(artifacts)) == 6


def test_the_record_is_analyzed_for_fast_sorting(artifacts: Artifacts) -> None:
    sync_zoo(artifacts, COLLECTION, write_shards(artifacts, RECIPES[:4]), RECIPES[:4])
    with sqlite3.connect(artifacts.mlruns / "mlflow.db") as database:
        assert "latest_metrics" in {row[0] for row in database.execute("SELECT tbl FROM sqlite_stat1")}
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_live_runs_name_the_commit(artifacts: Artifacts) -> None:
    assert git_commit(artifacts) is None  # tmp_path is no repository
    subprocess.run(["git", "init", "-q", artifacts.root], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", artifacts.root, *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    shard = make_shard(artifacts.checkpoints(COLLECTION), RECIPES[:1])
    train_all(artifacts, [shard])
    sync_zoo(artifacts, COLLECTION, [shard], RECIPES[:1])
    commit = run_of(artifacts, 0).data.tags["git_commit"]
    assert commit == git_commit(artifacts)
    assert len(commit) == 40


def test_importing_tracking_does_not_import_mlflow() -> None:
    code = "import cnnzoo.tracking, sys; print([m for m in ('mlflow', 'torch', 'sqlalchemy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
