"""The record of a collection's searches, made complete from the files of the searches.

`search_run` writes it, as it does while a search runs. Light: importing this module does not import mlflow.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.tracking.finished import FinishedSearch
from cnnzoo.tracking.location import dvc_experiment
from cnnzoo.tracking.notes import PREDICTORS, predictors_experiment
from cnnzoo.tracking.reach import reach
from cnnzoo.tracking.runs import EXPERIMENT, FINISHED
from cnnzoo.tracking.searches import DIGEST_LENGTH, end_killed, find_runs, running_searches, search_identity, search_run

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


def sync_searches(artifacts: Artifacts, collection: str, searches: Iterable[FinishedSearch]) -> list[FinishedSearch]:
    """Record each search that is not on record whole already; returns those that are not whole on record afterwards.

    Searches that were killed are marked as such. The caller holds the collection's search lock
    (`cnnzoo.search.only_search`), so that no running search is taken for a killed one. Raises `CnnzooError` if the
    store cannot be reached.
    """
    from cnnzoo.tracking.client import ensure_experiment

    client = reach(artifacts)
    experiment = ensure_experiment(client, artifacts, predictors_experiment(collection))
    end_killed(client, experiment.experiment_id, artifacts)
    runs = _Runs(client, experiment.experiment_id)
    left = []
    for search in searches:
        if not runs.hold(search):
            _record(artifacts, search)
            if not runs.hold(search):
                left.append(search)
    return left


def end_killed_searches(artifacts: Artifacts) -> None:
    """Mark searches as killed whose process is gone, in all collections; where one is under way, none of them.

    Raises `CnnzooError` if the store cannot be reached.
    """
    client = reach(artifacts)
    for experiment in client.search_experiments():
        if experiment.name.startswith(PREDICTORS) and running_searches(client, experiment.experiment_id):
            from cnnzoo.search import only_search

            with suppress(CnnzooError), only_search(artifacts, experiment.name.removeprefix(PREDICTORS)):
                end_killed(client, experiment.experiment_id, artifacts)


def _record(artifacts: Artifacts, search: FinishedSearch) -> None:
    """Tell `search_run` what it was told while the search ran, in the same order (`cnnzoo.search.runs`)."""
    with search_run(artifacts, search.collection, search.predictor, search.features, search.budget) as run:
        run.dataset(search.data_name, search.data.digest, search.data.networks_train)
        for trial in search.trials:
            run.trial(trial.number, trial.params, trial.value, trial.state, seconds=0.0)
        for figure in search.figures:
            run.figure(figure)
        run.metrics(search.metrics)
        run.model(search.model, search.data.example, search.predicted)


@dataclass(frozen=True)
class _Runs:
    """The runs of one experiment."""

    client: "MlflowClient"
    experiment_id: str

    def hold(self, search: FinishedSearch) -> bool:
        """Return whether a finished run of this DVC experiment holds all of a search."""
        identity = search_identity({"predictor": search.predictor, "features": search.features, **search.budget})
        condition = f"tags.search = '{identity}' and attributes.status = '{FINISHED}'"
        return any(
            run.data.tags.get(EXPERIMENT) == dvc_experiment() and self._holds(run, search)
            for run in find_runs(self.client, self.experiment_id, condition)
        )

    def _holds(self, run: "Run", search: FinishedSearch) -> bool:
        return (
            {name: value for name, value in run.data.metrics.items() if name != "trial_value"} == search.metrics
            and self._data_sets(run) == [(search.data_name, search.data.digest[:DIGEST_LENGTH])]
            and self._trials(run) == sorted(_words(t.number, t.params, t.value) for t in search.trials)
            and self._figures(run) == {figure.name for figure in search.figures}
            and self._has_model(run)
        )

    def _data_sets(self, run: "Run") -> list[tuple[str, str]]:
        return [
            (found.dataset.name, found.dataset.digest) for found in (run.inputs.dataset_inputs if run.inputs else ())
        ]

    def _trials(self, run: "Run") -> list[str]:
        trials = find_runs(self.client, self.experiment_id, f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        return sorted(
            _words(trial.info.run_name.removeprefix("trial "), trial.data.params, trial.data.metrics.get("value"))
            for trial in trials
        )

    def _figures(self, run: "Run") -> set[str]:
        return {file.path.rpartition("/")[2] for file in self.client.list_artifacts(run.info.run_id, "figures")}

    def _has_model(self, run: "Run") -> bool:
        outputs = run.outputs.model_outputs if run.outputs else []
        return any(self.client.get_logged_model(output.model_id).status == "READY" for output in outputs)


def _words(number: int | str, params: Mapping[str, str], value: float | None) -> str:
    """Return what distinguishes one trial of a search from another."""
    return f"{number} {sorted(params.items())} {value}"
