"""Golden predictions: code that predicts otherwise needs another `version`, or searches would mix old and new trials.

Run this file as a script to write the values again, after `version` of the predictor was raised.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnnzoo import predictors
from cnnzoo.features import Weights
from cnnzoo.network.layout import Architecture, layout_of

GOLDEN = Path(__file__).with_name("golden_predictions.json")
TOLERANCE = 2e-3
"""Training rounds otherwise on another CPU; a changed default or formula moves predictions much further."""
BRIEF = {
    "linear": {},
    "catboost": {"iterations": 20},
    "dnn": {"max_epochs": 8},
    "learned_probes": {"probes": 4, "epochs": 3, "members": 1},
    "stack": {"iterations": 20, "max_epochs": 8},
}


def sample() -> tuple[pd.DataFrame, np.ndarray]:
    """Forty networks of two channels with their activation, and accuracies that their weights tell."""
    layout = layout_of(Architecture(num_units=2, num_layers=1))
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 1.0, (40, 1))
    columns = Weights("weights", None).columns(layout)
    table = pd.DataFrame((scale * rng.standard_normal((40, layout.size))).astype(np.float32), columns=columns)
    table.insert(0, "config.activation", pd.Categorical(["relu", "tanh"] * 20, categories=["relu", "tanh"]))
    return table, 0.1 + 0.8 * scale[:, 0]


def predictions(name: str) -> np.ndarray:
    table, target = sample()
    model = predictors.REGISTRY[name](**BRIEF[name]).fit(table, target)
    return np.asarray(model.predict(table.iloc[:8]))


@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_a_predictor_of_this_version_predicts_as_it_did(name):
    kept = json.loads(GOLDEN.read_text())[name]
    advice = f"predictions changed: raise `version` of {predictors.REGISTRY[name].__name__} and write this file again"
    assert kept["version"] == predictors.REGISTRY[name].version, "write the golden predictions again"
    np.testing.assert_allclose(predictions(name), kept["predictions"], rtol=0, atol=TOLERANCE, err_msg=advice)


if __name__ == "__main__":
    values = {
        name: {"version": kind.version, "predictions": predictions(name).round(5).tolist()}
        for name, kind in predictors.REGISTRY.items()
    }
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n")
