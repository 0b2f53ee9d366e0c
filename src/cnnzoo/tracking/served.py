"""How MLflow opens a predictor that it keeps: it imports this module by name and hands it the model's folder.

So `mlflow.pyfunc.load_model` and `mlflow models serve` work, and no pickle is loaded.
"""

from pathlib import Path
from typing import Any

from cnnzoo import predictors


def _load_pyfunc(data_path: str) -> Any:
    """Return the estimator; its `predict` takes what the model's signature says."""
    return predictors.load(Path(data_path))
