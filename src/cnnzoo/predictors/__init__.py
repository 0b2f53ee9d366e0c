"""Predictors of a network's accuracy: scikit-learn regressors, one a file.

>>> from cnnzoo import predictors
>>> model = predictors.REGISTRY["linear"](l2=1e-2).fit(features, accuracies)
>>> predictors.save(model, folder)
>>> predictors.load(folder).predict(features)

A new predictor is a subclass of `Predictor` and one more line in REGISTRY; the tests take it from there.
"""

from pathlib import Path

from cnnzoo.predictors.base import Predictor
from cnnzoo.predictors.boosting import BoostedTrees
from cnnzoo.predictors.learned_probes import LearnedProbes
from cnnzoo.predictors.linear import LogitLinear
from cnnzoo.predictors.mlp import DNN
from cnnzoo.predictors.stacking import Stack
from cnnzoo.predictors.storage import load_predictor, save_predictor

REGISTRY: dict[str, type[Predictor]] = {
    "linear": LogitLinear,
    "catboost": BoostedTrees,
    "dnn": DNN,
    "learned_probes": LearnedProbes,
    "stack": Stack,
}
"""The predictors by their names in params.yaml (`config.PredictorName`)."""


def save(predictor: Predictor, folder: Path) -> None:
    """Write a fitted predictor to `folder`, without pickle; the folder appears whole or not at all."""
    name = next(name for name, kind in REGISTRY.items() if type(predictor) is kind)
    save_predictor(name, predictor, folder)


def load(folder: Path) -> Predictor:
    """Read a saved predictor, which predicts the same bit for bit; raises `CnnzooError` if it is not whole."""
    return load_predictor(REGISTRY, folder)


__all__ = ["DNN", "REGISTRY", "BoostedTrees", "LearnedProbes", "LogitLinear", "Predictor", "Stack", "load", "save"]
