"""Names for people: of predictors, of feature sets, and of what kind of knowledge a feature set is."""

import re
from collections.abc import Callable
from typing import Literal

Kind = Literal["weights", "hyperparameters", "both"]

PREDICTORS = {"linear": "Logit-linear", "catboost": "CatBoost", "dnn": "DNN"}

_FEATURES: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"weights", lambda: "all weights"),
    (r"weights\.(\d+)", lambda layer: f"weights of layer {layer}"),
    (r"hyper", lambda: "hyperparameters"),
    (r"hyper\.(\w+)", lambda name: f"{name.replace('_', ' ')} alone"),
    (r"wstats-glob", lambda: "statistics of all weights"),
    (r"wstats-layers:([\d,]+)-qts:.*", lambda layers: f"statistics of {_layers(layers)}"),
    (r"wnorm-layers:([\d,]+)-l([12])", lambda layers, order: f"l{order} norms of {_layers(layers)}"),
)


def predictor_label(predictor: str) -> str:
    """Return a predictor's name in a sentence; an unknown one keeps its own."""
    return PREDICTORS.get(predictor, predictor)


def features_label(features: str) -> str:
    """Return what a feature set holds, in words: `wstats-layers:0,1,2,3-qts:...` -> `statistics of layers 0–3`."""
    return " + ".join(_part_label(part) for part in features.split("+"))


def kind_of(features: str) -> Kind:
    """Tell whether a feature set knows the weights, the hyperparameters, or both."""
    of_hyper = [part.startswith("hyper") for part in features.split("+")]
    if all(of_hyper):
        return "hyperparameters"
    return "both" if any(of_hyper) else "weights"


def _part_label(part: str) -> str:
    for pattern, label in _FEATURES:
        match = re.fullmatch(pattern, part)
        if match:
            return label(*match.groups())
    return part


def _layers(layers: str) -> str:
    numbers = [int(number) for number in layers.split(",")]
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]}–{numbers[-1]}"
    return f"layers {', '.join(map(str, numbers))}"
