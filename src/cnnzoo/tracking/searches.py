"""The record of a predictor search: a run with its trials nested, its scores, plots, data set and model.

Light: importing this module does not import mlflow.
"""

import hashlib
import json
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import (
    dvc_experiment,
    keeper,
    own_database,
    prepare_environment,
    tracking_uri,
    without_password,
)
from cnnzoo.tracking.notes import predictors_experiment
from cnnzoo.tracking.runs import EXPERIMENT, FAILED, FINISHED, KILLED, RUNNING, now_ms
from cnnzoo.tracking.store import reason

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

LOADER = "cnnzoo.tracking.served"
PATIENCE = 2
"""Failures in a row after which the search goes on without the store."""
DIGEST_LENGTH = 36
"""What MLflow's tables keep of a data set's digest."""
PROJECT = "project"
"""The tag with a digest of the machine and the folder that a search runs in: a store may be shared."""


P = ParamSpec("P")


@contextmanager
def search_run(
    artifacts: Artifacts, collection: str, predictor: str, features: str, params: Mapping[str, object]
) -> Iterator["SearchRun"]:
    """Record a search: the run ends as FAILED if the block raises, as KILLED if it is interrupted.

    A finished search takes the place of former ones with the same predictor, features and `params` in the same DVC
    experiment; others stay, to be compared. A store that cannot be reached is a warning, never an error.
    """
    run = SearchRun(artifacts, collection, {"predictor": predictor, "features": features, **params})
    try:
        yield run
    except BaseException as error:
        run.end(FAILED if isinstance(error, Exception) else KILLED)
        raise
    run.end(FINISHED)


Action = Callable[Concatenate["SearchRun", P], None]


def _recorded(action: Action[P]) -> Action[P]:
    """Make a failure of the store a warning; after PATIENCE of them in a row the search goes on unrecorded."""

    def attempt(self: "SearchRun", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.failures >= PATIENCE:
            return
        try:
            action(self, *args, **kwargs)
            self.failures = 0
        except Exception as error:  # whatever MLflow, a driver or the network raise
            self.failures += 1
            shown = without_password(self.uri)
            log.warning("the search is not fully recorded in MLflow at %s (%s); it goes on", shown, reason(error))

    update_wrapper(attempt, action)
    return attempt


class SearchRun:
    """One search in progress. No method raises because of the store."""

    client: "MlflowClient"
    experiment_id: str
    run_id: str

    def __init__(self, artifacts: Artifacts, collection: str, params: Mapping[str, object]) -> None:
        self.uri = tracking_uri(artifacts)
        self.identity = search_identity(params)
        self.failures = PATIENCE - 1  # without a run there is nothing to add to
        self._open(artifacts, collection, params)
        self._end_killed(artifacts)

    @_recorded
    def _open(self, artifacts: Artifacts, collection: str, params: Mapping[str, object]) -> None:
        prepare_environment()
        from mlflow.entities import Param

        from cnnzoo.tracking.client import connect, ensure_experiment

        self.client = connect(artifacts)
        experiment = ensure_experiment(self.client, artifacts, predictors_experiment(collection))
        self.experiment_id = experiment.experiment_id
        name = f"{params['predictor']} on {params['features']}"
        tags = {"kind": "search", "search": self.identity, PROJECT: _project(artifacts)} | _experiment_tag()
        self.run_id = self.client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id
        self.client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in params.items()])
        _OPENED.add(self.run_id)

    @_recorded
    def _end_killed(self, artifacts: Artifacts) -> None:
        end_killed(self.client, self.experiment_id, artifacts)

    @_recorded
    def trial(self, number: int, params: Mapping[str, object], value: float | None, state: str, seconds: float) -> None:
        """Record a finished trial, nested below the search; `state` is Optuna's: COMPLETE, PRUNED or FAIL."""
        from mlflow.entities import Metric, Param

        end = now_ms()
        start = end - round(seconds * 1000)
        tags = {"mlflow.parentRunId": self.run_id, "kind": "trial", "state": state}
        run_id = self.client.create_run(self.experiment_id, start, tags, f"trial {number}").info.run_id
        metrics = [] if value is None else [Metric("value", value, end, 0)]
        self.client.log_batch(run_id, metrics, [Param(key, str(item)) for key, item in params.items()])
        self.client.set_terminated(run_id, FAILED if state == "FAIL" else FINISHED, end)
        if value is not None:  # the course of the search as a curve
            self.client.log_batch(self.run_id, [Metric("trial_value", value, end, number)])

    @_recorded
    def metrics(self, values: Mapping[str, float]) -> None:
        """Record scores."""
        from mlflow.entities import Metric

        time_ms = now_ms()
        self.client.log_batch(self.run_id, [Metric(key, float(value), time_ms, 0) for key, value in values.items()])

    @_recorded
    def figure(self, path: Path) -> None:
        """Keep a copy of a plot with the run."""
        self.client.log_artifact(self.run_id, str(path), "figures")

    @_recorded
    def dataset(self, name: str, digest: str, rows: int) -> None:
        """Record which data set the predictor learned from."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = json.dumps({"num_rows": rows})
        dataset = Dataset(name, digest[:DIGEST_LENGTH], "code", json.dumps({"name": name}), profile=profile)
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    @_recorded
    def model(self, folder: Path, input_example: Any, prediction: Any) -> None:
        """Keep the tuned model: the folder that `cnnzoo.predictors.load` reads, with its signature; no pickle.

        As `Model.log` does, but without MLflow's global tracking address and active run.
        """
        from mlflow import pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, infer_signature

        input_example = _with_strings(input_example)
        model = self.client.create_logged_model(self.experiment_id, "predictor", self.run_id)
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "model"
            pyfunc.save_model(
                path,
                loader_module=LOADER,
                data_path=str(folder),
                mlflow_model=Model(run_id=self.run_id, model_id=model.model_id, model_uuid=model.model_id),
                signature=infer_signature(input_example, prediction),
                input_example=input_example,
                pip_requirements=["cnnzoo"],  # inferring them takes seconds and finds the same
            )
            self.client.log_model_artifacts(model.model_id, str(path))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])

    @_recorded
    def end(self, status: str) -> None:
        """Close the run; a finished one replaces its predecessors."""
        self.client.set_terminated(self.run_id, status)
        if status == FINISHED:
            for former in self._find(f"tags.search = '{self.identity}'"):
                same_experiment = former.data.tags.get(EXPERIMENT) == dvc_experiment()
                if former.info.run_id != self.run_id and same_experiment:
                    self._discard(former)

    def _discard(self, former: "Run") -> None:
        for trial in self._find(f"tags.`mlflow.parentRunId` = '{former.info.run_id}'"):
            self.client.delete_run(trial.info.run_id)
        for output in former.outputs.model_outputs if former.outputs else ():
            self.client.delete_logged_model(output.model_id)
        self.client.delete_run(former.info.run_id)

    def _find(self, condition: str) -> list["Run"]:
        return find_runs(self.client, self.experiment_id, condition)


def running_searches(client: "MlflowClient", experiment_id: str) -> "list[Run]":
    """Return the runs of searches that count as running."""
    return find_runs(client, experiment_id, f"tags.kind = 'search' and attributes.status = '{RUNNING}'")


def end_killed(client: "MlflowClient", experiment_id: str, artifacts: Artifacts) -> None:
    """Mark as killed what still counts as running and was opened by a process that is gone, with its trials.

    The caller holds the collection's search lock (`cnnzoo.search.only_search`): one process at a time searches, so
    every other run of this project and DVC experiment has lost its own. In the project's own database all runs are
    the project's.
    """
    alone = own_database(artifacts) is not None
    for run in running_searches(client, experiment_id):
        tags = run.data.tags
        mine = alone or tags.get(PROJECT) == _project(artifacts)
        if mine and run.info.run_id not in _OPENED and tags.get(EXPERIMENT) == dvc_experiment():
            below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and attributes.status = '{RUNNING}'"
            for dead in (*find_runs(client, experiment_id, below), run):
                client.set_terminated(dead.info.run_id, KILLED)


def find_runs(client: "MlflowClient", experiment_id: str, condition: str) -> "list[Run]":
    """Return all active runs of an experiment that meet a condition, however many pages they take."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


_OPENED: set[str] = set()
"""The runs that this process has opened."""


def _project(artifacts: Artifacts) -> str:
    place = f"{socket.gethostname()}:{keeper(artifacts).root.resolve()}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _experiment_tag() -> dict[str, str]:
    name = dvc_experiment()
    return {} if name is None else {EXPERIMENT: name}


def search_identity(params: Mapping[str, object]) -> str:
    """Return the tag that searches with the same parameters share, those of which the latest stays."""
    content = json.dumps({key: str(value) for key, value in params.items()}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _with_strings(table: Any) -> Any:
    """Return a table whose categories are strings: MLflow's signatures know no categories."""
    strings = {name: object for name, dtype in getattr(table, "dtypes", {}).items() if str(dtype) == "category"}
    return table.astype(strings) if strings else table
