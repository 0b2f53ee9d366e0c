"""The project that is disturbed: one small collection, every stage, and all that must be as if nothing had happened."""

import hashlib
import json
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnzoo.core.atomic import TEMPORARY
from disturbances.processes import temporary_folder
from small_project import ALPHA, NORMS, STATISTICS, SmallProject

DATASET = "mnist5k"
STAGES = {
    "images": (DATASET, "data/images"),
    "recipes": (ALPHA, "data/recipes"),
    "train": (ALPHA, "data/checkpoints"),
    "assemble": (ALPHA, "data/zoo"),
    "features": (ALPHA, "data/features"),
    "search": (ALPHA, "models/predictors"),
    "forecast": (ALPHA, "models/forecast"),
    "evaluate": ("", "models/evaluation"),
    "report": ("", "models/report"),
}
"""Each stage's argument, and what it writes."""
CHANGES: dict[str, Any] = {
    "datasets": [DATASET],
    "populations": {ALPHA: {"dataset": DATASET, "networks": 26, "minibatch": 64, "num_units": 3, "num_layers": 2}},
    "collections": [ALPHA],
    "recipes.train_fraction": {"choice": [0.1, 0.25]},
    "recipes.epochs": 4,
    "recipes.epochs_between_checkpoints": 2,
    "features.sets": ["hyper", STATISTICS],
    "search.predictors": ["linear", "catboost"],
    "search.only": {"linear": ["hyper"], "catboost": [STATISTICS]},
    "search.trials": 2,
    "forecast.features": NORMS,
    "runtime.resume_interval_s": 0.02,
}
"""Four cohorts, whose states are saved often."""
EXPERIMENTS = {"zoo/": "train", "predictors/": "search"}
"""The beginnings of the names of MLflow's experiments, and which stage records there."""
CACHE = "torchinductor_"
"""The beginning of the name of PyTorch's own cache, which stays between runs."""
UNVERSIONED = ("data/unfinished", "data/downloads")

Files = dict[str, str]
"""SHA-256 by path."""
Record = dict[str, Any]
"""Runs by what identifies them, without ids and times."""


@dataclass(frozen=True)
class State:
    """What a project has in the end."""

    files: Files
    record: Record
    top: frozenset[str]
    """The names in its folder."""

    @classmethod
    def of(cls, root: Path) -> "State":
        """Return what a project has."""
        names = frozenset(path.name for path in root.iterdir())
        return cls(files_below(root), record_of(root / "mlruns" / "mlflow.db"), names)

    def until(self, stage: str) -> "State":
        """Return what it has when a stage and all before it have run."""
        done = list(STAGES)[: list(STAGES).index(stage) + 1]
        folders = tuple(f"{STAGES[name][1]}/" for name in done)
        experiments = tuple(name for name, recording in EXPERIMENTS.items() if recording in done)
        return State(
            {name: digest for name, digest in self.files.items() if name.startswith(folders)},
            {name: run for name, run in self.record.items() if name.startswith(experiments)} if experiments else {},
            self.top,
        )


def make_project(root: Path, changes: Mapping[str, Any] | None = None) -> SmallProject:
    """Write params.yaml into a new folder."""
    project = SmallProject(root)
    root.mkdir(parents=True)
    project.configure(CHANGES | dict(changes or {}))
    return project


def files_below(root: Path, folders: tuple[str, ...] = ("data", "models")) -> Files:
    """Return the versioned files."""
    found = {}
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if not name.startswith(UNVERSIONED) and path.name != ".gitignore":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return a line for each key that is missing, too much or other."""
    return [
        f"{name}: {'missing' if name not in found else 'too much' if name not in expected else 'another'}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


def faults_of(root: Path, expected: State) -> list[str]:
    """Return what is wrong with a project that should equal another one and have nothing left behind."""
    try:
        found = State.of(root)
    except sqlite3.DatabaseError as error:
        return [f"MLflow: {error}"]
    wrong = differences(found.files, expected.files)
    wrong += [f"MLflow: {line}" for line in differences(found.record, expected.record)]
    wrong += [f"{name}: too much" for name in sorted(found.top - expected.top)]
    return wrong + leftovers(root)


def leftovers(root: Path) -> list[str]:
    """Return the unfinished and temporary files of a project."""
    left = [*root.rglob(f"{TEMPORARY}*"), *(root / "data" / "unfinished").glob("*/*.safetensors")]
    left += (root / "mlruns" / "spool").rglob("*.json")
    return [f"{path}: left behind" for path in (*left, *temporary_folder(root).glob("*")) if CACHE not in path.name]


def record_of(database: Path) -> Record:
    """Return the active runs of all experiments: networks by name, searches by what they tune with their trials."""
    if not database.exists():
        return {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        runs = _runs(connection)
    trials: dict[str, list[str]] = defaultdict(list)
    for run in runs.values():
        if run["parent"] is not None:
            trials[run["parent"]].append(json.dumps({k: v for k, v in run.items() if k not in {"id", "parent"}}))
    record: Record = {f"trial of the deleted run {parent}": trials[parent] for parent in trials.keys() - runs.keys()}
    for run in runs.values():
        if run["parent"] is None:
            name = f"{run['experiment']}: {run['name']}"
            while name in record:
                name += " again"
            record[name] = {k: v for k, v in run.items() if k != "id"} | {"trials": sorted(trials[run["id"]])}
    return record


def _runs(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Return the active runs by id."""
    query = """SELECT r.run_uuid, r.name, r.status, e.name AS experiment, t.value AS parent
        FROM runs r JOIN experiments e USING (experiment_id)
        LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'mlflow.parentRunId'
        WHERE r.lifecycle_stage = 'active'"""
    runs: dict[str, dict[str, Any]] = {}
    for row in connection.execute(query):
        runs[row["run_uuid"]] = {"id": row["run_uuid"], **{key: row[key] for key in row.keys()[1:]}}
    for table, columns in (
        ("params", "key, value"),
        ("metrics", "key, step, value, is_nan"),
        ("latest_metrics", "key, step, value, is_nan"),
    ):
        content = defaultdict(list)
        for run_id, *values in connection.execute(f"SELECT run_uuid, {columns} FROM {table}"):
            content[run_id].append(values)
        for run_id, run in runs.items():
            run[table] = sorted(content[run_id])
    return runs


def remove_outputs(root: Path, stage: str) -> None:
    """Delete what a stage writes, with what it keeps to go on from."""
    for folder in (STAGES[stage][1], *UNVERSIONED):
        shutil.rmtree(root / folder, ignore_errors=True)
