"""Names for people: of predictors, of feature sets and features, and of what kind of knowledge a feature set is."""

import re
from collections.abc import Callable
from typing import Literal

Kind = Literal["weights", "both", "hyperparameters"]

PREDICTORS = {
    "linear": "Logit-linear",
    "catboost": "CatBoost",
    "dnn": "DNN",
    "learned_probes": "Learned probes",
    "stack": "Stacked",
}
KINDS: dict[Kind, str] = {
    "weights": "weights only",
    "both": "weights and hyperparameters",
    "hyperparameters": "hyperparameters only",
}
ACTIVATION = "hyper.activation"
"""The one hyperparameter that is part of the architecture: no network can be run, or stored whole, without it."""

_LAYERS = r"(-?\d+(?:,-?\d+)*)"
_FEATURE_SETS: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"weights", lambda: "all weights"),
    (r"weights\.(-?\d+)", lambda layer: f"weights of {_layers(layer)}"),
    (r"hyper", lambda: "hyperparameters"),
    (r"hyper\.(\w+)", lambda name: name.replace("_", " ")),
    (r"wstats-glob", lambda: "statistics of all weights"),
    (rf"wstats-layers:{_LAYERS}-qts:.*", lambda layers: f"statistics of {_layers(layers)}"),
    (rf"wnorm-layers:{_LAYERS}-l([12])", lambda layers, order: f"l{order} norms of {_layers(layers)}"),
    (rf"wspectra-layers:{_LAYERS}.*", lambda layers: f"singular values of {_layers(layers)}"),
    (rf"wchannels-layers:{_LAYERS}.*", lambda layers: f"sorted channel norms of {_layers(layers)}"),
    (rf"wproducts-layers:{_LAYERS}.*", lambda layers: f"products of {_layers(layers)}"),
    (r"probes", lambda: "responses to synthetic images"),
)
_STATISTICS: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"q0", lambda: "minimum"),
    (r"q25", lambda: "lower quartile"),
    (r"q50", lambda: "median"),
    (r"q75", lambda: "upper quartile"),
    (r"q100", lambda: "maximum"),
    (r"q([\d.]+)", lambda percentile: f"percentile {percentile}"),
    (r"std", lambda: "standard deviation"),
    (r"l([12])", lambda order: f"l{order} norm"),
    (r"s(\d+)", lambda place: f"singular value {int(place) + 1}"),
    (r"sum\.s(\d+)", lambda place: f"singular value {int(place) + 1} of its sum"),
)
_TENSORS: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"all", lambda: "all weights"),
    (r"conv2d(?:_(\d+))?", lambda number: f"convolution {int(number or 0) + 1}"),
    (r"dense|layer-1", lambda: "dense layer"),
    (r"layer(-?\d+)", lambda number: f"layer {number}".replace("-", "−")),
)


def predictor_label(predictor: str) -> str:
    """Return a predictor's name in a sentence; an unknown one keeps its own."""
    return PREDICTORS.get(predictor, predictor)


def features_label(features: str) -> str:
    """Return what a feature set holds, in words: `wstats-layers:0,1,2,3-qts:...` -> `statistics of layers 0–3`."""
    if re.fullmatch(r"hyper\.\w+", features):
        return f"{_named(features, _FEATURE_SETS)} alone"
    return " + ".join(_named(part, _FEATURE_SETS) for part in features.split("+"))


def kind_of(features: str) -> Kind:
    """Return whether a feature set knows the weights, the hyperparameters, or both.

    The activation beside weights is no hyperparameter here but part of the architecture, as the shapes of the layers
    are: it says how to run the network, not how it was trained. (Alone it is all that is known: a hyperparameter.)
    """
    parts = features.split("+")
    of_hyper = [part for part in parts if re.fullmatch(r"hyper(\.\w+)?", part)]
    if len(of_hyper) == len(parts):
        return "hyperparameters"
    return "both" if set(of_hyper) - {ACTIVATION} else "weights"


def feature_label(feature: str) -> str:
    """Return what a single feature is: `conv2d_1/kernel:q75` -> `convolution 2, kernel: upper quartile`."""
    hyperparameter = re.fullmatch(r"config\.(\w+)", feature)
    if hyperparameter:
        return hyperparameter[1].replace("_", " ")
    where, separator, statistic = feature.partition(":")
    if not separator:
        return feature
    tensors, _, variable = where.partition("/")
    place = " × ".join(_named(tensor, _TENSORS) for tensor in tensors.split("*"))
    return f"{place}{f', {variable}' if variable else ''}: {_named(statistic, _STATISTICS)}"


def _named(name: str, labels: tuple[tuple[str, Callable[..., str]], ...]) -> str:
    """Return the label of the first pattern that the whole name follows; an unknown name keeps itself."""
    for pattern, label in labels:
        match = re.fullmatch(pattern, name)
        if match:
            return label(*match.groups())
    return name


def _layers(layers: str) -> str:
    """Return layers in words; those below 0 count from the top: `0,-3,-2,-1` -> `the input and top three layers`."""
    numbers = [int(number) for number in layers.split(",")]
    top = [number for number in numbers if number < 0]
    if not top:
        return _numbered(numbers)
    if top != list(range(-len(top), 0)):
        return f"layers {', '.join(map(str, numbers)).replace('-', '−')}"
    words = "top layer" if len(top) == 1 else f"top {_counted(len(top))} layers"
    below = numbers[: -len(top)]
    if not below:
        return f"the {words}"
    return f"the input and {words}" if below == [0] else f"{_numbered(below)} and the {words}"


def _numbered(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]}–{numbers[-1]}"
    return f"layers {', '.join(map(str, numbers))}"


def _counted(number: int) -> str:
    return {2: "two", 3: "three", 4: "four"}.get(number, str(number))
