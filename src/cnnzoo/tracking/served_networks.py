"""How MLflow opens a registered scorer: it imports this module by name and hands it the model's folder.

Input: a table with a column `weights`, each entry the P parameters of a network in the published order, and, if the
model's signature has it, a column `activation` (relu or tanh). Output: `predicted`, `low` and `high`, fractions.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnzoo.core.errors import CnnzooError
from cnnzoo.scoring.scorer import Scorer

WEIGHTS, ACTIVATION = "weights", "activation"


class ServedScorer:
    """What MLflow calls."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def predict(self, table: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return predictions with intervals; raises `CnnzooError` for weights that are no network of this layout."""
        rows = [np.asarray(row, dtype=np.float32) for row in table[WEIGHTS]]
        size = self._scorer.layout.size
        wrong = [index for index, row in enumerate(rows) if row.shape != (size,) or not np.isfinite(row).all()]
        if wrong:
            shape = rows[wrong[0]].shape
            raise CnnzooError(f"`{WEIGHTS}` of row {wrong[0]}: wanted {size} finite numbers, got shape {shape}")
        known = list(table[ACTIVATION]) if ACTIVATION in table else [None] * len(rows)
        return self._scorer.score(np.stack(rows), known)


def _load_pyfunc(data_path: str) -> ServedScorer:
    """Return the scorer in a folder."""
    return ServedScorer(Scorer.load(Path(data_path)))
