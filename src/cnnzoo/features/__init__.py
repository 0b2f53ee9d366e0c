"""Features: the named inputs of the predictors, computed from rows of weights and from hyperparameters.

`parse` knows the names (`cnnzoo.feature_names`), `compute` streams statistics and norms over a memory map
(`statistics.py`), `write_features` and `read_features` keep them (`store.py`).
"""

from cnnzoo.feature_names import PUBLISHED, Hyper, Norms, Part, Statistics, Weights, parse
from cnnzoo.features.statistics import compute
from cnnzoo.features.store import CATEGORIES, feature_columns, hyperparameters, read_features, write_features

__all__ = [
    "CATEGORIES",
    "PUBLISHED",
    "Hyper",
    "Norms",
    "Part",
    "Statistics",
    "Weights",
    "compute",
    "feature_columns",
    "hyperparameters",
    "parse",
    "read_features",
    "write_features",
]
