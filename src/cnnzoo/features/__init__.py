"""Features: the named inputs of the predictors, computed from rows of weights and from hyperparameters.

`parse` knows the names (`cnnzoo.feature_names`), `compute` streams statistics and norms over a memory map
(`statistics.py`), `describe` makes tables of them (`tables.py`), `write_features` and `read_features` keep them
(`store.py`).
"""

from cnnzoo.feature_names import PUBLISHED, Hyper, Norms, Part, Statistics, Weights, parse
from cnnzoo.features.statistics import compute
from cnnzoo.features.store import feature_columns, read_features, write_features
from cnnzoo.features.tables import CATEGORIES, describe, hyperparameters

__all__ = [
    "CATEGORIES",
    "PUBLISHED",
    "Hyper",
    "Norms",
    "Part",
    "Statistics",
    "Weights",
    "compute",
    "describe",
    "feature_columns",
    "hyperparameters",
    "parse",
    "read_features",
    "write_features",
]
