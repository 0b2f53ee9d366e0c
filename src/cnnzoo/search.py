"""Search: tune each predictor on each feature set of a collection, refit it, score it on the held-out half, record it.

`cnnzoo.tuning` has the protocol. What is written is a function of the collection, the features and the parameters:
computed on one thread, except for CatBoost, whose result does not depend on its threads. Times are not written, only
tracked. A search that was killed goes on from its finished trials and ends with the same bytes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import optuna
import pandas as pd
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cnnzoo import config
from cnnzoo.artifacts import Artifacts
from cnnzoo.collection import Collection
from cnnzoo.cores import usable_cores
from cnnzoo.errors import CnnzooError
from cnnzoo.features import parse
from cnnzoo.tuning import (
    FIGURE,
    IMPORTANCE_FIGURE,
    METRICS,
    MODEL,
    PREDICTIONS,
    TARGET,
    Journal,
    Outcome,
    Sample,
    Scores,
    Task,
    only_search,
    read_sample,
    tune,
)

__all__ = ["METRICS", "MODEL", "PREDICTIONS", "TARGET", "Record", "Tracker", "read_sample", "search"]

SMALLEST_TRAINING_HALF = 12
"""Below this, folds and what is set aside for early stopping hold too few networks to mean anything."""
EXAMPLE_ROWS = 3


class Record(Protocol):
    """Where a search is recorded while it runs; see `cnnzoo.tracking.searches.SearchRun`."""

    def trial(self, number: int, params: Mapping[str, object], value: float | None, state: str, seconds: float) -> None:
        """Record a finished trial."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """Record scores."""

    def dataset(self, name: str, digest: str, rows: int) -> None:
        """Say what was learned from."""

    def figure(self, path: Path) -> None:
        """Keep a plot."""

    def model(self, folder: Path, input_example: Any, prediction: Any) -> None:
        """Keep the tuned model."""


Tracker = Callable[[Artifacts, str, str, str, Mapping[str, object]], AbstractContextManager[Record]]
"""Opens the record of one search: artifacts, collection, predictor, feature set, parameters."""


def search(artifacts: Artifacts, params: config.Params, collection: str, track: Tracker) -> None:
    """Tune `params.search.predictors` on `params.features.sets` and write `artifacts.predictor(...)` for each.

    Each folder appears whole when its search is done: `model/` (for `cnnzoo.predictors.load`), `study.csv` (the
    trials), `params.json` (the best settings), `predictions.csv` and `metrics.json` (of the test half), and what the
    predictor relies on (`importance.csv`), with figures. Trials that a former run has finished are not repeated
    (`tuning.Journal`). `track` opens the record of a search (`cnnzoo.tracking.searches.search_run`), which is also told
    the ends of the scores' intervals, as `params.evaluate` wants them. Raises `CnnzooError` if there are too few
    networks, or if another search of the collection is under way.
    """
    zoo = Collection.open(artifacts.zoo(collection))
    for name in params.features.sets:
        parse(name)  # a wrong name is told before the first search, not after an hour
    _check_size(zoo, params.search)
    jobs = params.runtime.threads or usable_cores()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with only_search(artifacts, collection), threadpool_limits(1):
        for features in params.features.sets:
            train, test = (read_sample(artifacts, zoo, collection, features, half) for half in ("train", "test"))
            for predictor in params.search.predictors:
                task = Task(collection, predictor, features, params.seed, params.search, jobs)
                with track(artifacts, collection, predictor, features, _budget(params)) as record:
                    metrics = _run(task, train, test, artifacts, record, params.evaluate)
                print(_summary(task, metrics), flush=True)


def _run(
    task: Task, train: Sample, test: Sample, artifacts: Artifacts, record: Record, evaluate: config.Evaluate
) -> Scores:
    """Tune, refit, predict the test half, write the folder and record everything; returns the metrics."""
    record.dataset(f"{task.collection} {task.features}", train.digest(), len(train.target))
    study = tune(task, train, lambda trial: _record_trial(record, trial), Journal.of(artifacts, task, train))
    outcome = Outcome.of(task, study, train, test)
    folder = artifacts.predictor(task.collection, task.predictor, task.features)
    outcome.write(folder)
    metrics = outcome.metrics()
    for figure in (FIGURE, IMPORTANCE_FIGURE):
        record.figure(folder / figure)
    record.metrics({name: value for name, value in metrics.items() if value is not None} | outcome.intervals(evaluate))
    record.model(folder / MODEL, _example(test.features), outcome.predicted[:EXAMPLE_ROWS])
    return metrics


def _example(features: pd.DataFrame) -> pd.DataFrame:
    """Return a few rows as a caller would send them: words as strings, for MLflow's schemas know no categories."""
    words = features.select_dtypes("category").columns
    return features.iloc[:EXAMPLE_ROWS].astype(dict.fromkeys(words, object))


def _record_trial(record: Record, trial: FrozenTrial) -> None:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    record.trial(trial.number, trial.params, trial.value, trial.state.name, seconds)


def _budget(params: config.Params) -> dict[str, object]:
    """Return what distinguishes one search of a predictor on a feature set from another."""
    return {"seed": params.seed, **params.search.model_dump(exclude={"predictors"})}


def _summary(task: Task, metrics: Scores) -> str:
    shown = {name: "undefined" if metrics[name] is None else f"{metrics[name]:.3f}" for name in ("r2", "kendall_tau")}
    ceiling = metrics["kendall_tau_ceiling"] or 0.0
    return (
        f"{task.collection}: {task.predictor} on {task.features}: R2 {shown['r2']}, "
        f"tau {shown['kendall_tau']} of {ceiling:.3f}, on {metrics['networks_test']} held-out networks"
    )


def _check_size(zoo: Collection, settings: config.Search) -> None:
    train, test = len(zoo.final("train")), len(zoo.final("test"))
    least = max(SMALLEST_TRAINING_HALF, 2 * settings.folds)
    if train < least or test < 2:
        raise CnnzooError(
            f"{zoo.path}: {train} networks to train and {test} to test predictors, at least {least} and 2 are needed "
            f"for `search.folds={settings.folds}`. Raise `networks` in params.yaml to {2 * least} or more."
        )
