"""The record of a predictor search: a run with its trials nested, its scores, plots, data set and model.

Light: importing this module does not import mlflow.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cnnzoo.artifacts import Artifacts
from cnnzoo.tracking.location import prepare_environment, tracking_uri
from cnnzoo.tracking.notes import predictors_experiment
from cnnzoo.tracking.runs import FAILED, FINISHED, KILLED, now_ms
from cnnzoo.tracking.store import reason

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

LOADER = "cnnzoo.tracking.served"
PATIENCE = 2
"""Failures after which the store is taken to be gone and the search goes on without it."""
DIGEST_LENGTH = 36
"""What MLflow's tables keep of a data set's digest."""


@contextmanager
def search_run(
    artifacts: Artifacts, collection: str, predictor: str, features: str, params: Mapping[str, object]
) -> Iterator["SearchRun"]:
    """Record a search: the run ends as FAILED if the block raises, as KILLED if it is interrupted.

    A finished search takes the place of former ones with the same predictor, features and `params`; searches with
    other parameters stay, to be compared. A store that cannot be reached is a warning, never an error.
    """
    run = SearchRun(artifacts, collection, {"predictor": predictor, "features": features, **params})
    try:
        yield run
    except BaseException as error:
        run.end(FAILED if isinstance(error, Exception) else KILLED)
        raise
    run.end(FINISHED)


class SearchRun:
    """One search in progress. No method raises because of the store."""

    def __init__(self, artifacts: Artifacts, collection: str, params: Mapping[str, object]) -> None:
        self._uri = tracking_uri(artifacts)
        self._failures = 0
        self._run: _Run | None = None
        try:
            self._run = _open(artifacts, collection, params)
        except Exception as error:  # whatever MLflow, a driver or the network raise
            self._warn(error)

    def trial(self, number: int, params: Mapping[str, object], value: float | None, state: str, seconds: float) -> None:
        """Record a finished trial, nested below the search; `state` is Optuna's: COMPLETE, PRUNED or FAIL."""
        self._attempt(lambda run: run.trial(number, params, value, state, seconds))

    def metrics(self, values: Mapping[str, float]) -> None:
        """Record scores."""
        self._attempt(lambda run: run.metrics(values))

    def figure(self, path: Path) -> None:
        """Keep a copy of a plot with the run."""
        self._attempt(lambda run: run.client.log_artifact(run.run_id, str(path), "figures"))

    def dataset(self, name: str, digest: str, rows: int) -> None:
        """Say what was learned from."""
        self._attempt(lambda run: run.dataset(name, digest, rows))

    def model(self, folder: Path, input_example: Any, prediction: Any) -> None:
        """Keep the tuned model: the folder that `cnnzoo.predictors.load` reads, with its signature; no pickle."""
        self._attempt(lambda run: run.model(folder, input_example, prediction))

    def end(self, status: str) -> None:
        """Close the run; a finished one replaces its predecessors."""
        self._attempt(lambda run: run.end(status))

    def _attempt(self, action: Callable[["_Run"], None]) -> None:
        if self._run is None or self._failures >= PATIENCE:
            return
        try:
            action(self._run)
            self._failures = 0
        except Exception as error:  # whatever MLflow, a driver or the network raise
            self._failures += 1
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        log.warning("the search is not fully recorded in MLflow at %s (%s); it goes on", self._uri, reason(error))


def _open(artifacts: Artifacts, collection: str, params: Mapping[str, object]) -> "_Run":
    prepare_environment()
    from cnnzoo.tracking.client import connect, ensure_experiment  # noqa: PLC0415 - mlflow takes seconds to import

    client = connect(artifacts)
    return _Run(client, ensure_experiment(client, artifacts, predictors_experiment(collection)), params)


class _Run:
    """The run in the store; every method raises what MLflow raises."""

    def __init__(self, client: "MlflowClient", experiment: "Experiment", params: Mapping[str, object]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        self.client = client
        self.experiment_id = experiment.experiment_id
        self.identity = _identity(params)
        name = f"{params['predictor']} on {params['features']}"
        tags = {"kind": "search", "search": self.identity}
        self.run_id = client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id
        client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def trial(self, number: int, params: Mapping[str, object], value: float | None, state: str, seconds: float) -> None:
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        end = now_ms()
        start = end - round(seconds * 1000)
        tags = {"mlflow.parentRunId": self.run_id, "kind": "trial", "state": state}
        run_id = self.client.create_run(self.experiment_id, start, tags, f"trial {number}").info.run_id
        metrics = [] if value is None else [Metric("value", value, end, 0)]
        self.client.log_batch(run_id, metrics, [Param(key, str(item)) for key, item in params.items()])
        self.client.set_terminated(run_id, FAILED if state == "FAIL" else FINISHED, end)
        if value is not None:  # the course of the search as a curve
            self.client.log_batch(self.run_id, [Metric("trial_value", value, end, number)])

    def metrics(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        time_ms = now_ms()
        self.client.log_batch(self.run_id, [Metric(key, float(value), time_ms, 0) for key, value in values.items()])

    def dataset(self, name: str, digest: str, rows: int) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

        profile = json.dumps({"num_rows": rows})
        dataset = Dataset(name, digest[:DIGEST_LENGTH], "code", json.dumps({"name": name}), profile=profile)
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def model(self, folder: Path, input_example: Any, prediction: Any) -> None:
        """Save as MLflow does in `Model.log`, but without its global tracking address and active run."""
        from mlflow import pyfunc  # noqa: PLC0415
        from mlflow.entities import LoggedModelOutput  # noqa: PLC0415
        from mlflow.models import Model, infer_signature  # noqa: PLC0415

        input_example = _plain_words(input_example)
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

    def end(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)
        if status == FINISHED:
            for former in self._find(f"tags.search = '{self.identity}'"):
                if former.info.run_id != self.run_id:
                    self._discard(former)

    def _discard(self, former: "Run") -> None:
        for trial in self._find(f"tags.`mlflow.parentRunId` = '{former.info.run_id}'"):
            self.client.delete_run(trial.info.run_id)
        for output in former.outputs.model_outputs if former.outputs else ():
            self.client.delete_logged_model(output.model_id)
        self.client.delete_run(former.info.run_id)

    def _find(self, condition: str) -> list["Run"]:
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], condition, page_token=token)
            found += page
            token = page.token
            if not token:
                return found


def _identity(params: Mapping[str, object]) -> str:
    content = json.dumps({key: str(value) for key, value in params.items()}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _plain_words(table: Any) -> Any:
    """Return a table whose categories are plain words: MLflow's signatures know no categories."""
    words = {name: object for name, dtype in getattr(table, "dtypes", {}).items() if str(dtype) == "category"}
    return table.astype(words) if words else table
