"""Search: tune each predictor on each feature set of a collection, refit it, score it on the held-out half, record it.

`cnnzoo.search` has the protocol. What is written is a function of the collection, the features and the parameters:
computed on one thread, except for CatBoost, whose result does not depend on its threads; searches run side by side on
all cores. Times are not written, only tracked. A search that was killed goes on from its finished trials and ends with
the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import optuna
import pandas as pd
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_limits

from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.cores import divide_cores
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import FIGURE, IMPORTANCE_FIGURE, MODEL
from cnnzoo.core.workers import run_jobs
from cnnzoo.features import parse
from cnnzoo.search import Journal, Outcome, Sample, Scores, Task, Trials, only_search, read_sample, tune
from cnnzoo.zoo import Collection

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


Listen = Callable[["Search"], AbstractContextManager[Record]]
"""Opens the record of a search."""
Runner = Callable[[Sequence["Search"], Listen], Iterator[tuple["Search", Scores]]]
"""Carries out searches, `Search.__call__` or the same elsewhere; yields each with its scores as it ends."""


def search(
    artifacts: Artifacts, params: config.Params, collection: str, track: Tracker, run: Runner | None = None
) -> None:
    """Do all of `params.searches` and write `artifacts.predictor(...)` for each.

    Each folder appears whole when its search is done: `model/` (for `cnnzoo.predictors.load`), `study.csv` (the
    trials), `params.json` (the best settings), `predictions.csv` and `metrics.json` (of the test half), and what the
    predictor relies on (`importance.csv`), with figures. Trials that a former run has finished are not repeated
    (`Journal`). `track` opens the record of a search (`cnnzoo.tracking.searches.search_run`); `run` carries out the
    searches; without one, processes on the cores of this machine do. Raises `CnnzooError` if there are too few
    networks, or if another search of the collection is under way.
    """
    for name in params.features.sets:
        parse(name)  # a wrong name is reported before the first search, not after an hour
    _check_size(Collection.open(artifacts.zoo(collection)), params.search)
    workers, threads = divide_cores(params.runtime.threads, len(params.searches))
    tasks = [Task(collection, *pair, params.seed, params.search, jobs=threads) for pair in params.searches]
    searches = [Search(artifacts, task) for task in tasks]

    def listen(one: Search) -> AbstractContextManager[Record]:
        return track(artifacts, collection, one.task.predictor, one.task.features, params.search_budget)

    with only_search(artifacts, collection):
        for one, metrics in run(searches, listen) if run else run_jobs(searches, listen, workers):
            print(_summary(one.task, metrics), flush=True)


@dataclass(frozen=True, eq=False)
class Search:
    """One search, as a job for `run_jobs`."""

    artifacts: Artifacts
    task: Task

    def __call__(self, record: Record) -> Scores:
        """Tune, refit, predict the test half, write the folder and record everything; returns the metrics."""
        halves = self.halves()
        return carry_out(self.task, halves, Journal.of(self.artifacts, self.task, halves.train), self.folder, record)

    def halves(self) -> "Halves":
        """Read what is learned from and predicted."""
        zoo = Collection.open(self.artifacts.zoo(self.task.collection))
        read = partial(read_sample, self.artifacts, zoo, self.task.collection, self.task.features)
        return Halves(read("train"), read("test"))

    @property
    def folder(self) -> Path:
        """Where the predictor is written."""
        return self.artifacts.predictor(self.task.collection, self.task.predictor, self.task.features)


@dataclass(frozen=True)
class Halves:
    """The networks that train and those that test."""

    train: Sample
    test: Sample


def carry_out(task: Task, halves: Halves, trials: Trials, folder: Path, record: Record) -> Scores:
    """Tune from the finished `trials` on, refit, predict the test half, write the folder; returns the metrics."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train, test = halves.train, halves.test
    with threadpool_limits(1):
        record.dataset(f"{task.collection} {task.features}", train.digest(), len(train.target))
        study = tune(task, train, lambda trial: _record_trial(record, trial), trials)
        outcome = Outcome.of(task, study, train, test)
        outcome.write(folder)
        _record(outcome, folder, record)
    return outcome.metrics()


def _record(outcome: Outcome, folder: Path, record: Record) -> None:
    defined = {name: value for name, value in outcome.metrics().items() if value is not None}
    for figure in (FIGURE, IMPORTANCE_FIGURE):
        record.figure(folder / figure)
    record.metrics(defined)
    record.model(folder / MODEL, _example(outcome.test.features), outcome.predicted[:EXAMPLE_ROWS])


def _example(features: pd.DataFrame) -> pd.DataFrame:
    """Return a few rows as a caller would send them: categories as strings (MLflow's schemas have none)."""
    return features.iloc[:EXAMPLE_ROWS].astype(dict.fromkeys(features.select_dtypes("category").columns, object))


def _record_trial(record: Record, trial: FrozenTrial) -> None:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    record.trial(trial.number, trial.params, trial.value, trial.state.name, seconds)


def _summary(task: Task, metrics: Scores) -> str:
    shown = {name: "undefined" if metrics[name] is None else f"{metrics[name]:.3f}" for name in ("r2", "kendall_tau")}
    ceiling = metrics["kendall_tau_ceiling"] or 0.0
    return (
        f"{task.collection}: {task.predictor} on {task.features}: R2 {shown['r2']}, "
        f"tau {shown['kendall_tau']} of {ceiling:.3f}, on {metrics['networks_test']} held-out networks"
    )


def _check_size(zoo: Collection, settings: config.Search) -> None:
    train, test = len(zoo.final("train")), len(zoo.final("test"))
    least = settings.least_training_networks
    if train < least or test < 2:
        raise CnnzooError(
            f"{zoo.path}: {train} networks to train and {test} to test predictors, at least {least} and 2 are needed "
            f"for `search.folds={settings.folds}`. Raise `networks` in params.yaml to {2 * least} or more."
        )
