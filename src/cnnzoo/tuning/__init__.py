"""Tuning: one search of one predictor on one feature set.

Protocol: the final checkpoints; half of the networks train, half test (split.csv). Tuning minimises the mean squared
error of cross-validation inside the training half; folds are drawn by network and are the same for all predictors and
feature sets of a collection. The best settings are then fitted to the whole training half, which alone also supplies
what scales features and stops training early. The test half is read once, after that, to be predicted.

`sample.py` is what is learned from, `task.py` one search, `study.py` its trials, `journal.py` their memory over kills
and reruns, `outcome.py` the files of a tuned predictor, `importance.py` what it relies on. `cnnzoo.search` runs and
records all searches of a collection.
"""

from cnnzoo.tuning.journal import Journal, only_search
from cnnzoo.tuning.outcome import (
    BEST,
    FIGURE,
    IMPORTANCE,
    IMPORTANCE_FIGURE,
    METRICS,
    MODEL,
    PREDICTIONS,
    STUDY,
    Outcome,
    Scores,
)
from cnnzoo.tuning.sample import TARGET, Sample, read_sample
from cnnzoo.tuning.study import draw_folds, tune
from cnnzoo.tuning.task import Task

__all__ = [
    "BEST",
    "FIGURE",
    "IMPORTANCE",
    "IMPORTANCE_FIGURE",
    "METRICS",
    "MODEL",
    "PREDICTIONS",
    "STUDY",
    "TARGET",
    "Journal",
    "Outcome",
    "Sample",
    "Scores",
    "Task",
    "draw_folds",
    "only_search",
    "read_sample",
    "tune",
]
