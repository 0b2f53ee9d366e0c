"""The grammar of feature set names: those of the published study, and their natural neighbours.

    set        = part { "+" part }                                    hyper+weights
    part       = "weights" [ "." layer ]                              weights.3
               | "hyper" [ "." hyperparameter ]                       hyper.learning_rate
               | "wstats-glob"
               | "wstats-layers:" layers "-qts:" percentiles          wstats-layers:0,3-qts:0,25,50,75,100
               | "wnorm-layers:" layers "-" ( "l1" | "l2" )           wnorm-layers:0,1,2,3-l2

The names are those of best_configs.json in google-research/dnn_predict_accuracy. What `wstats-*` hold is defined by
`extract_summary_features` of its notebook (dnn_predict_accuracy.ipynb): np.percentile at the given percentiles, then
np.std, then np.mean, of each layer's bias and kernel apart, or (`wstats-glob`) once of the whole flat vector: 7
numbers. The notebook has no code for `wnorm-*`; here it is the norm of each layer's bias and kernel apart: 8 numbers.
"""

import difflib
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

from cnnzoo.errors import CnnzooError
from cnnzoo.hyperparameters import SAMPLED
from cnnzoo.layout import Layout, Variable

PUBLISHED = (
    "weights",
    "weights.0",
    "weights.1",
    "weights.2",
    "weights.3",
    "hyper",
    "hyper.learning_rate",
    "hyper+weights",
    "wstats-glob",
    "wstats-layers:3-qts:0,25,50,75,100",
    "wstats-layers:0,3-qts:0,25,50,75,100",
    "wstats-layers:0,1,2,3-qts:0,25,50,75,100",
    "wnorm-layers:0,1,2,3-l1",
    "wnorm-layers:0,1,2,3-l2",
)
"""The input sets of the published study."""

GLOBAL_PERCENTILES = (0.0, 25.0, 50.0, 75.0, 100.0)


@dataclass(frozen=True)
class Span:
    """A labelled range of a row of weights that one statistic describes."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Weights:
    """The parameters themselves, of all layers (`layer=None`) or of one."""

    name: str
    layer: int | None

    def span(self, layout: Layout) -> Span:
        """Return the range of these parameters in a row."""
        if self.layer is None:
            return Span("weights", 0, layout.size)
        variables = _layer(layout, self.layer, self.name)
        return Span(self.name, variables[0].start, variables[-1].end)

    def columns(self, layout: Layout) -> list[str]:
        """Return a name for each parameter, such as `conv2d/kernel:17`: its index in the flattened tensor."""
        span = self.span(layout)
        inside = [v for v in layout.variables if span.start <= v.start and v.end <= span.end]
        return [f"{_short(v)}:{index}" for v in inside for index in range(v.end - v.start)]


@dataclass(frozen=True)
class Hyper:
    """Sampled hyperparameters, by the names of `hyperparameters.SAMPLED`."""

    name: str
    hyperparameters: tuple[str, ...]

    def columns(self) -> list[str]:
        """Return the names of their columns in metrics.csv.gz."""
        return [f"config.{name}" for name in self.hyperparameters]


@dataclass(frozen=True)
class Statistics:
    """Percentiles, standard deviation and mean, per layer, or of the whole row (`layers=None`)."""

    name: str
    layers: tuple[int, ...] | None
    percentiles: tuple[float, ...]

    def spans(self, layout: Layout) -> list[Span]:
        """Return the ranges that are described, in column order."""
        if self.layers is None:
            return [Span("all", 0, layout.size)]
        return _variables(layout, self.layers, self.name)

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `conv2d_1/kernel:q75`, `conv2d_1/kernel:std`, `conv2d_1/kernel:mean`."""
        statistics = [*(f"q{percentile:g}" for percentile in self.percentiles), "std", "mean"]
        return [f"{span.label}:{statistic}" for span in self.spans(layout) for statistic in statistics]


@dataclass(frozen=True)
class Norms:
    """The l1 or l2 norm of each layer's bias and kernel."""

    name: str
    layers: tuple[int, ...]
    order: int

    def spans(self, layout: Layout) -> list[Span]:
        """Return the ranges that are described, in column order."""
        return _variables(layout, self.layers, self.name)

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `dense/kernel:l2`."""
        return [f"{span.label}:l{self.order}" for span in self.spans(layout)]


Part = Weights | Hyper | Statistics | Norms


def parse(name: str) -> tuple[Part, ...]:
    """Return the parts of a feature set, in column order.

    Raises `CnnzooError` that shows the nearest published name if `name` does not follow the grammar, and that names
    two parts which hold the same columns.
    """
    parts = tuple(_parse_part(part, name) for part in name.split("+"))
    for first, second in itertools.combinations(parts, 2):
        if _overlap(first, second):
            raise CnnzooError(
                f"feature set `{name}`: `{first.name}` and `{second.name}` hold the same columns; each may stand once"
            )
    return parts


def _overlap(first: Part, second: Part) -> bool:
    """Tell whether two parts have a column in common, in networks of any shape."""
    match first, second:
        case Weights(), Weights():
            return first.layer is None or second.layer is None or first.layer == second.layer
        case Hyper(), Hyper():
            return not set(first.hyperparameters).isdisjoint(second.hyperparameters)
        case Statistics(), Statistics():  # std and mean of a layer are there whatever the percentiles
            if first.layers is None or second.layers is None:
                return first.layers == second.layers
            return not set(first.layers).isdisjoint(second.layers)
        case Norms(), Norms():
            return first.order == second.order and not set(first.layers).isdisjoint(second.layers)
    return False


def _parse_part(text: str, whole: str) -> Part:
    for pattern, build in _RULES:
        match = re.fullmatch(pattern, text)
        part = build(text, *match.groups()) if match else None
        if part is not None:
            return part
    close = difflib.get_close_matches(whole, PUBLISHED, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else "."
    raise CnnzooError(
        f"unknown feature set `{whole}`{hint} Valid: {', '.join(f'`{name}`' for name in PUBLISHED)}, other layers and "
        f"percentiles (strictly ascending, percentiles from 0 to 100), `hyper.` with one of {', '.join(SAMPLED)}, "
        f"and sets joined by `+`."
    )


def _build_hyper(text: str, hyperparameter: str | None) -> Hyper | None:
    if hyperparameter is None:
        return Hyper(text, SAMPLED)
    return Hyper(text, (hyperparameter,)) if hyperparameter in SAMPLED else None


def _build_statistics(text: str, layers: str, percentiles: str) -> Statistics | None:
    chosen, ranks = _ascending(layers), _ascending(percentiles)
    if chosen is None or ranks is None or ranks[-1] > 100:
        return None
    return Statistics(text, tuple(int(layer) for layer in chosen), ranks)


def _build_norms(text: str, layers: str, order: str) -> Norms | None:
    chosen = _ascending(layers)
    return None if chosen is None else Norms(text, tuple(int(layer) for layer in chosen), int(order))


def _ascending(text: str) -> tuple[float, ...] | None:
    """Return the numbers of a comma-separated list, or None if they do not strictly ascend."""
    values = tuple(float(value) for value in text.split(","))
    return values if all(a < b for a, b in itertools.pairwise(values)) else None


_LAYERS = r"(\d+(?:,\d+)*)"
_NUMBERS = r"(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)"
_RULES: tuple[tuple[str, Callable[..., Part | None]], ...] = (
    (r"weights", lambda text: Weights(text, None)),
    (r"weights\.(\d+)", lambda text, layer: Weights(text, int(layer))),
    (r"hyper(?:\.(\w+))?", _build_hyper),
    (r"wstats-glob", lambda text: Statistics(text, None, GLOBAL_PERCENTILES)),
    (rf"wstats-layers:{_LAYERS}-qts:{_NUMBERS}", _build_statistics),
    (rf"wnorm-layers:{_LAYERS}-l([12])", _build_norms),
)


def columns_of(part: Part, layout: Layout) -> list[str]:
    """Return the names of a part's features; raises `CnnzooError` for a layer that networks of `layout` lack."""
    return part.columns() if isinstance(part, Hyper) else part.columns(layout)


def _variables(layout: Layout, layers: tuple[int, ...], name: str) -> list[Span]:
    variables = [variable for layer in layers for variable in _layer(layout, layer, name)]
    return [Span(_short(variable), variable.start, variable.end) for variable in variables]


def _layer(layout: Layout, layer: int, name: str) -> tuple[Variable, ...]:
    """Return bias and kernel of one layer; raises `CnnzooError` if the network has no such layer."""
    if layer >= len(layout.layers):
        raise CnnzooError(
            f"feature set `{name}`: the networks of this collection have layers 0 to {len(layout.layers) - 1}, "
            f"there is no layer {layer}"
        )
    return layout.layers[layer]


def _short(variable: Variable) -> str:
    """Return `conv2d_1/kernel` for `sequential/conv2d_1/kernel:0`."""
    return variable.name.removeprefix("sequential/").removesuffix(":0")
