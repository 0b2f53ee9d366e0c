"""Search: tune each predictor on each feature set, refit it, and score it on the held-out half.

Protocol: the final checkpoints; half of the networks train, half test (split.csv). Tuning minimises the mean squared
error of cross-validation inside the training half; folds are drawn by network and are the same for all predictors and
feature sets of a collection. The best settings are then fitted to the whole training half, which alone also supplies
what scales features and stops training early. The test half is read once, after that, to be predicted.

What it writes is a function of the collection, the features and the parameters: computed on one thread, except for
CatBoost, whose result does not depend on its threads. Times are not written, only tracked.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cnnzoo import config, drawing, predictors, scores, seeds
from cnnzoo.artifacts import Artifacts
from cnnzoo.atomic import atomic_folder
from cnnzoo.collection import Collection, Half
from cnnzoo.errors import CnnzooError
from cnnzoo.features import parse, read_features
from cnnzoo.predictors import Predictor

TARGET = "test_accuracy"
SMALLEST_TRAINING_HALF = 12
"""Below this, folds and what is set aside for early stopping hold too few networks to mean anything."""
PRUNING_STARTUP_TRIALS = 3
"""Trials that are never cut short: the median of fewer says little."""
EXAMPLE_ROWS = 3

MODEL, STUDY, BEST, PREDICTIONS, METRICS = "model", "study.csv", "params.json", "predictions.csv", "metrics.json"
FIGURE = "predicted.png"
"""The files of a tuned predictor's folder."""


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


@dataclass(frozen=True)
class Sample:
    """Networks with their features and accuracies."""

    rows: NDArray[np.int64]
    """Rows of the collection (n,)."""
    networks: Sequence[str]
    features: pd.DataFrame
    target: NDArray[np.float64]

    def digest(self) -> str:
        """Return a hash of features and targets."""
        content = pd.util.hash_pandas_object(self.features, index=True).to_numpy().tobytes()
        return hashlib.sha256(content + self.target.tobytes()).hexdigest()


@dataclass(frozen=True)
class Task:
    """One predictor to tune on one feature set."""

    collection: str
    predictor: str
    features: str
    seed: int
    search: config.Search
    jobs: int
    """Threads of predictors whose result does not depend on them."""

    @property
    def kind(self) -> type[Predictor]:
        """The class of the predictor."""
        return predictors.REGISTRY[self.predictor]

    def build(self, settings: Mapping[str, Any]) -> Predictor:
        """Return an unfitted predictor with these settings, this task's limits and its random state."""
        limits = {"iterations": self.search.max_trees, "max_epochs": self.search.max_epochs, "n_jobs": self.jobs}
        limits["random_state"] = self.draw("search.random_state")
        predictor = self.kind(**settings)
        known = predictor.get_params()
        predictor.set_params(**{name: value for name, value in limits.items() if name in known})
        return predictor

    def draw(self, purpose: str) -> int:
        """Return the seed of one purpose of this task."""
        rng = seeds.generator(self.seed, purpose, self.collection, self.predictor, self.features)
        return int(rng.integers(2**31))


def search(artifacts: Artifacts, params: config.Params, collection: str, track: Tracker) -> None:
    """Tune `params.search.predictors` on `params.features.sets` and write `artifacts.predictor(...)` for each.

    Each folder appears whole when its search is done: `model/` (for `cnnzoo.predictors.load`), `study.csv` (the
    trials), `params.json` (the best settings), `predictions.csv` and `metrics.json` (of the test half). `track` opens
    the record of a search (`cnnzoo.tracking.searches.search_run`). Raises `CnnzooError` if there are too few networks.
    """
    zoo = Collection.open(artifacts.zoo(collection))
    for name in params.features.sets:
        parse(name)  # a wrong name is told before the first search, not after an hour
    _check_size(zoo, params.search)
    jobs = params.runtime.threads or os.cpu_count() or 1
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with threadpool_limits(1):
        for features in params.features.sets:
            halves = {half: read_sample(artifacts, zoo, collection, features, half) for half in ("train", "test")}
            for predictor in params.search.predictors:
                task = Task(collection, predictor, features, params.seed, params.search, jobs)
                with track(artifacts, collection, predictor, features, _budget(params)) as record:
                    metrics = _run(task, halves["train"], halves["test"], artifacts, record)
                print(_summary(task, metrics), flush=True)


def read_sample(artifacts: Artifacts, zoo: Collection, collection: str, features: str, half: Half) -> Sample:
    """Return the final checkpoints of one half of a collection, as a predictor sees them."""
    rows = zoo.final(half)
    table = read_features(zoo, artifacts.features(collection), features, rows)
    metrics = zoo.metrics.iloc[rows]
    return Sample(rows, metrics["modeldir"].tolist(), table, metrics[TARGET].to_numpy(dtype=np.float64))


def draw_folds(networks: int, folds: int, seed: int, collection: str) -> list[NDArray[np.int64]]:
    """Return the validation networks of each fold: a partition of 0 ... networks - 1."""
    order = seeds.generator(seed, "search.folds", collection).permutation(networks)
    return [np.sort(fold) for fold in np.array_split(order, folds)]


def tune(task: Task, train: Sample, report: Callable[[FrozenTrial], None]) -> optuna.Study:
    """Return the study of a task: TPE, its first trial the predictor's `start`, bad trials pruned between folds.

    Raises `CnnzooError` if no trial came to an end.
    """
    study = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=task.draw("search.sampler")),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNING_STARTUP_TRIALS),
    )
    study.enqueue_trial(task.kind.start)
    folds = draw_folds(len(train.target), task.search.folds, task.seed, task.collection)
    study.optimize(
        lambda trial: _cross_validate(task.build(task.kind.suggest(trial)), train, folds, trial),
        n_trials=task.search.trials,
        callbacks=[lambda _, trial: report(trial)],
    )
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise CnnzooError(
            f"search of `{task.predictor}` on `{task.features}`: none of {task.search.trials} trials gave a finite "
            "error. Look at the features for infinite or huge values, or raise `search.trials` in params.yaml."
        )
    return study


def _cross_validate(
    predictor: Predictor, train: Sample, folds: Sequence[NDArray[np.int64]], trial: optuna.Trial
) -> float:
    """Return the mean squared error over all networks, each predicted by a model that did not see it."""
    errors: list[NDArray[np.float64]] = []
    for step, held in enumerate(folds):
        learned = np.setdiff1d(np.arange(len(train.target)), held)
        predictor.fit(train.features.iloc[learned], train.target[learned])
        errors.append((predictor.predict(train.features.iloc[held]) - train.target[held]) ** 2)
        error = float(np.mean(np.concatenate(errors)))
        if not np.isfinite(error):
            return error  # Optuna counts it as failed
        trial.report(error, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return error


def _run(
    task: Task, train: Sample, test: Sample, artifacts: Artifacts, record: Record
) -> dict[str, float | int | None]:
    """Tune, refit, predict the test half, write the folder and record everything; returns the metrics."""
    record.dataset(f"{task.collection} {task.features}", train.digest(), len(train.target))
    study = tune(task, train, lambda trial: _record_trial(record, trial))
    settings = task.kind.suggest(optuna.trial.FixedTrial(study.best_params))
    predictor = task.build(settings).fit(train.features, train.target)
    predicted = predictor.predict(test.features)
    metrics = _metrics(task, study, train, test, predicted)
    folder = artifacts.predictor(task.collection, task.predictor, task.features)
    with atomic_folder(folder) as new:
        if "n_jobs" in predictor.get_params():
            predictor.set_params(n_jobs=None)  # how many cores this machine has is no part of the result
        predictors.save(predictor, new / MODEL)
        _study_table(study).to_csv(new / STUDY, index=False, lineterminator="\n")
        table = {"row": test.rows, "network": test.networks, TARGET: test.target, "predicted": predicted}
        pd.DataFrame(table).to_csv(new / PREDICTIONS, index=False, lineterminator="\n")
        _write_json(new / BEST, settings)
        _write_json(new / METRICS, metrics)
        (new / FIGURE).write_bytes(_draw(task, test.target, predicted))
    record.figure(folder / FIGURE)
    record.metrics({name: value for name, value in metrics.items() if value is not None})
    record.model(folder / MODEL, _example(test.features), predicted[:EXAMPLE_ROWS])
    return metrics


def _draw(task: Task, target: NDArray[np.float64], predicted: NDArray[np.float64]) -> bytes:
    """Return the PNG of predicted against true accuracies of the test half."""

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        drawing.against_truth(axis, target, predicted)
        axis.set(xlabel="true test accuracy", ylabel="predicted", title=f"{task.predictor} on\n{task.features}")

    return drawing.draw(4, 4.3, paint)


def _metrics(
    task: Task, study: optuna.Study, train: Sample, test: Sample, predicted: NDArray[np.float64]
) -> dict[str, float | int | None]:
    """Return the scores on the test half and the facts they need; None where a score is undefined."""
    found = scores.score(test.target, predicted) | {
        "cv_mse": study.best_value,
        "cv_r2": 1 - study.best_value / np.var(train.target) if np.ptp(train.target) > 0 else np.nan,
    }
    values: dict[str, float | int | None] = {
        name: float(value) if np.isfinite(value) else None for name, value in found.items()
    }
    return values | {
        "networks_train": len(train.target),
        "networks_test": len(test.target),
        "trials": len(study.trials),
    }


def _study_table(study: optuna.Study) -> pd.DataFrame:
    table = study.trials_dataframe(attrs=("number", "value", "state", "params"))
    return table.rename(columns=lambda name: name.replace("params_", "params.", 1))


def _example(features: pd.DataFrame) -> pd.DataFrame:
    """Return a few rows as a caller would send them: words as strings, for MLflow's schemas know no categories."""
    words = features.select_dtypes("category").columns
    return features.iloc[:EXAMPLE_ROWS].astype(dict.fromkeys(words, object))


def _record_trial(record: Record, trial: FrozenTrial) -> None:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    record.trial(trial.number, trial.params, trial.value, trial.state.name, seconds)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _budget(params: config.Params) -> dict[str, object]:
    """Return what distinguishes one search of a predictor on a feature set from another."""
    return {"seed": params.seed, **params.search.model_dump(exclude={"predictors"})}


def _summary(task: Task, metrics: Mapping[str, float | int | None]) -> str:
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
