"""Search: a predictor is tuned on a feature set; `runs.py` does so for all of a collection.

Protocol: the final checkpoints; half of the networks train, half test (split.csv). Tuning minimises the mean squared
error of cross-validation inside the training half; folds are drawn by network and are the same for all predictors and
feature sets of a collection. The best settings are then fitted to the whole training half, which alone also supplies
what scales features and stops training early. The test half is read once, after that, to be predicted.

`sample.py` is what is learned from, `task.py` one search, `study.py` its trials, `journal.py` their memory over kills
and reruns, `outcome.py` the files of a tuned predictor, `importance.py` what it relies on.
"""

from cnnzoo.search.journal import Journal, Trials, only_search
from cnnzoo.search.outcome import Outcome, Scores
from cnnzoo.search.sample import Sample, read_sample
from cnnzoo.search.study import draw_folds, tune
from cnnzoo.search.task import Task

__all__ = [
    "Journal",
    "Outcome",
    "Sample",
    "Scores",
    "Task",
    "Trials",
    "draw_folds",
    "only_search",
    "read_sample",
    "tune",
]
