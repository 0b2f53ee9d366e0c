"""The grammar of feature set names: those of the published study, and their natural neighbours.

    set        = part { "+" part }                                    hyper+weights
    part       = "weights" [ "." layer ]                              weights.3
               | "hyper" [ "." hyperparameter ]                       hyper.learning_rate
               | "wstats-glob"
               | "wstats-layers:" layers "-qts:" percentiles          wstats-layers:0,3-qts:0,25,50,75,100
               | "wnorm-layers:" layers "-" ( "l1" | "l2" )           wnorm-layers:0,1,2,3-l2
               | "wspectra-layers:" layers                            wspectra-layers:0,1,2,3
               | "wchannels-layers:" layers                           wchannels-layers:0,-3,-2,-1
               | "wproducts-layers:" layers                           wproducts-layers:0,1,2,3
               | "probes"
    layers     = layers from the input, then from the output, each ascending: 0,1  0,-3,-2,-1  (-1: the dense layer)

The names above `wspectra` are those of best_configs.json in google-research/dnn_predict_accuracy. What `wstats-*` hold
is defined by `extract_summary_features` of its notebook (dnn_predict_accuracy.ipynb): np.percentile at the given
percentiles, then np.std, then np.mean, of each layer's bias and kernel apart, or (`wstats-glob`) once of the whole flat
vector: 7 numbers. The notebook has no code for `wnorm-*`; here it is the norm of each layer's bias and kernel apart: 8
numbers. `0,-3,-2,-1` are the paper's features for networks of different depth: input layer and top three layers.

`wspectra`, `wchannels`, `wproducts` and `probes` do not change when hidden units change places. `wproducts` takes two
or more layers that follow each other. What each part holds, and how its columns are named, stands in `feature_parts`.
"""

import itertools
import re
from collections.abc import Callable, Sequence

from cnnzoo.config import PUBLISHED, Params
from cnnzoo.core.errors import CnnzooError, did_you_mean
from cnnzoo.features.parts import (
    GLOBAL_PERCENTILES,
    Channels,
    Hyper,
    Norms,
    Part,
    Probes,
    Products,
    Spectra,
    Statistics,
    Weights,
    columns_of,
)
from cnnzoo.network.hyperparameters import LABEL_NOISE, SAMPLED
from cnnzoo.network.layout import layout_of

__all__ = ["PUBLISHED", "check_feature_sets", "columns_of", "parse"]

EXAMPLES = (*PUBLISHED, "wspectra-layers:0,1,2,3", "wchannels-layers:0,1,2,3", "wproducts-layers:0,1,2,3", "probes")
"""What an unknown name is compared with, to show the nearest."""


def parse(name: str) -> tuple[Part, ...]:
    """Return the parts of a feature set, in column order.

    Raises `CnnzooError` that shows the nearest known name if `name` does not follow the grammar, and that names
    two parts which hold the same columns.
    """
    parts = tuple(_parse_part(part, name) for part in name.split("+"))
    for first, second in itertools.combinations(parts, 2):
        if _overlap(first, second):
            raise CnnzooError(
                f"feature set `{name}`: `{first.name}` and `{second.name}` hold the same columns; each may stand once"
            )
    return parts


def check_feature_sets(params: Params, origin: str) -> None:
    """Check that every feature set of the parameters has a valid name and layers that all collections have.

    Raises `CnnzooError` that names `origin`, the parameter and what is wrong.
    """
    named = [("features.sets", name) for name in params.features.sets]
    for key, name in (*named, ("forecast.features", params.forecast.features)):
        try:
            for part in parse(name):
                for collection in params.collections:
                    columns_of(part, layout_of(params.definition(collection).architecture))
        except CnnzooError as error:
            raise CnnzooError(f"{origin} is not valid:\n  - `{key}`: {error}") from error


def _overlap(first: Part, second: Part) -> bool:
    """Return whether two parts have a column in common, in networks of any shape."""
    if isinstance(first, Weights) and isinstance(second, Weights):
        return first.layer is None or second.layer is None or first.layer == second.layer
    return type(first) is type(second) and not _held(first).isdisjoint(_held(second))


def _held(part: Part) -> set[object]:
    """Return what a part describes, such that parts of one kind share columns if they share any of it."""
    match part:
        case Hyper():
            return {*part.hyperparameters, *part.optional}
        case Statistics(layers=None) | Weights() | Probes():
            return {"all"}
        case Products():
            chains = [*itertools.pairwise(part.layers), part.layers]
            return {(min(part.layers) < 0, chain) for chain in chains}
        case Norms():
            return {(part.order, min(part.layers) < 0, layer) for layer in part.layers}
    # Of statistics std and mean of a layer are there whatever the percentiles. Columns are named by numbers if any
    # layer is below 0, else by tensors.
    assert part.layers is not None
    return {(min(part.layers) < 0, layer) for layer in part.layers}


def _parse_part(text: str, whole: str) -> Part:
    for pattern, build in _RULES:
        match = re.fullmatch(pattern, text)
        part = build(text, *match.groups()) if match else None
        if part is not None:
            return part
    hint = did_you_mean(whole, EXAMPLES) or "."
    raise CnnzooError(
        f"unknown feature set `{whole}`{hint} Valid: {', '.join(f'`{name}`' for name in EXAMPLES)}, other layers and "
        f"percentiles (strictly ascending, percentiles from 0 to 100; layers from the input before those from the "
        f"output, which are -1 and below; those of `wproducts` follow each other), `hyper.` with one of "
        f"{', '.join(SAMPLED)}, and sets joined by `+`."
    )


def _build_hyper(text: str, hyperparameter: str | None) -> Hyper | None:
    if hyperparameter is None:
        return Hyper(text, SAMPLED, (LABEL_NOISE,))
    return Hyper(text, (hyperparameter,)) if hyperparameter in (*SAMPLED, LABEL_NOISE) else None


def _build_statistics(text: str, layers: str, percentiles: str) -> Statistics | None:
    chosen, ranks = _layers(layers), tuple(float(value) for value in percentiles.split(","))
    if chosen is None or not _ascends(ranks) or ranks[-1] > 100:
        return None
    return Statistics(text, chosen, ranks)


def _build_norms(text: str, layers: str, order: str) -> Norms | None:
    chosen = _layers(layers)
    return None if chosen is None else Norms(text, chosen, int(order))


def _build_spectra(text: str, layers: str) -> Spectra | None:
    chosen = _layers(layers)
    return None if chosen is None else Spectra(text, chosen)


def _build_channels(text: str, layers: str) -> Channels | None:
    chosen = _layers(layers)
    return None if chosen is None else Channels(text, chosen)


def _build_products(text: str, layers: str) -> Products | None:
    chosen = _layers(layers)
    if chosen is None or len(chosen) < 2 or chosen != tuple(range(chosen[0], chosen[0] + len(chosen))):
        return None
    return None if chosen[0] < 0 <= chosen[-1] else Products(text, chosen)


def _layers(text: str) -> tuple[int, ...] | None:
    """Return a list of layers, or None if those from the input do not ascend before those from the output."""
    layers = tuple(int(layer) for layer in text.split(","))
    from_input, from_output = [n for n in layers if n >= 0], [n for n in layers if n < 0]
    in_order = _ascends(from_input) and _ascends(from_output) and layers == (*from_input, *from_output)
    return layers if in_order else None


def _ascends(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


_LAYER = r"(?:\d+|-[1-9]\d*)"
_LAYERS = rf"({_LAYER}(?:,{_LAYER})*)"
_NUMBERS = r"(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)"
_RULES: tuple[tuple[str, Callable[..., Part | None]], ...] = (
    (r"weights", lambda text: Weights(text, None)),
    (r"weights\.(\d+)", lambda text, layer: Weights(text, int(layer))),
    (r"hyper(?:\.(\w+))?", _build_hyper),
    (r"wstats-glob", lambda text: Statistics(text, None, GLOBAL_PERCENTILES)),
    (rf"wstats-layers:{_LAYERS}-qts:{_NUMBERS}", _build_statistics),
    (rf"wnorm-layers:{_LAYERS}-l([12])", _build_norms),
    (rf"wspectra-layers:{_LAYERS}", _build_spectra),
    (rf"wchannels-layers:{_LAYERS}", _build_channels),
    (rf"wproducts-layers:{_LAYERS}", _build_products),
    (r"probes", Probes),
)
