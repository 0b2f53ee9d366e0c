"""Features: the named inputs of the predictors, computed from rows of weights and from hyperparameters.

`parse` knows the names (`cnnzoo.features.names`). `compute` streams what `statistics.py`, `invariants.py` and
`probes.py` describe over a memory map (`streaming.py`), `describe` makes tables of it (`tables.py`), `write_features`
and `read_features` keep them (`store.py`).
"""

from cnnzoo.features.names import PUBLISHED, parse
from cnnzoo.features.parts import Channels, Hyper, Norms, Part, Probes, Products, Spectra, Statistics, Weights
from cnnzoo.features.store import feature_columns, read_features, write_features
from cnnzoo.features.streaming import compute
from cnnzoo.features.tables import CATEGORIES, describe, hyperparameters

VERSION = 2
"""To be raised when a feature set holds other values: predictors that compute features are then tuned again."""

__all__ = [
    "CATEGORIES",
    "PUBLISHED",
    "VERSION",
    "Channels",
    "Hyper",
    "Norms",
    "Part",
    "Probes",
    "Products",
    "Spectra",
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
