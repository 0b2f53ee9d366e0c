"""The trials of one search: Optuna's TPE over cross-validated errors, bad trials cut short."""

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from cnnzoo.core import seeds
from cnnzoo.core.errors import CnnzooError
from cnnzoo.predictors import Predictor
from cnnzoo.search.journal import Trials
from cnnzoo.search.sample import Sample
from cnnzoo.search.task import Task

PRUNING_STARTUP_TRIALS = 3
"""Trials that are never cut short: the median of fewer says little."""


def draw_folds(
    networks: int, folds: int, seed: int, collection: str, groups: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Return the validation networks of each fold: a partition of 0 ... networks - 1 that divides no group.

    `groups` (networks,) is the group of each network; None: each is one of its own.
    """
    units = np.arange(networks) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = seeds.generator(seed, "search.folds", collection).permutation(int(units.max()) + 1)
    return [np.flatnonzero(np.isin(units, fold)) for fold in np.array_split(order, folds)]


def tune(
    task: Task, train: Sample, report: Callable[[FrozenTrial], None], journal: Trials | None = None
) -> optuna.Study:
    """Return the study of a task: TPE, its first trial the predictor's `start`, bad trials pruned between folds.

    Trials that `journal` holds are taken from there, new ones are kept in it. A trial is a function of the task, its
    number and the finished trials before it: the sampler is a new one for each, with a seed of the trial's own. So a
    study that goes on from a journal equals an undisturbed one. `report` is called with each trial, old or new.
    Raises `CnnzooError` if no trial came to an end.
    """
    study = optuna.create_study(
        direction="minimize", pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNING_STARTUP_TRIALS)
    )
    for trial in journal.trials[: task.search.trials] if journal else ():
        study.add_trial(trial)
        report(trial)
    folds = draw_folds(len(train.target), task.search.folds, task.seed, task.collection, train.groups)

    def keep(_: optuna.Study, trial: FrozenTrial) -> None:
        if journal:
            journal.add(trial)
        report(trial)

    for number in range(len(study.trials), task.search.trials):
        study.sampler = optuna.samplers.TPESampler(seed=task.draw("search.sampler", number))
        if number == 0:
            study.enqueue_trial(task.kind.start)
        study.optimize(
            lambda trial: _cross_validate(task.build(task.kind.suggest(trial)), train, folds, trial),
            n_trials=1,
            callbacks=[keep],
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
