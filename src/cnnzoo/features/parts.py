"""The parts of feature sets: what each describes of a network, and the names of its columns.

What they hold is computed in `cnnzoo.features`; here is only what can be known without weights, so that the
configuration can be checked before any work.

Layers are counted from the input (0, 1, ...) or from the output: -1 is the dense layer. Columns of a part with a layer
counted from the output are named by the layer as written (`layer0/kernel:q50`, `layer-1/bias:std`), so they are the
same for networks with any number of layers; other columns by the tensor (`conv2d_1/kernel:q50`).
"""

import itertools
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Layout, Variable

GLOBAL_PERCENTILES = (0.0, 25.0, 50.0, 75.0, 100.0)

FAMILIES = ("grating", "blobs", "texture", "strokes", "edge", "shapes")
"""The kinds of synthetic images that networks are probed with."""
VARIANTS = ("plain", "inverted", "shifted", "noisy")
"""The variants that each probe image comes in."""
PROBE_QUANTILES = (5, 25, 50, 75, 95)
HIDDEN_QUANTILES = (0, 25, 50, 75, 100)


@dataclass(frozen=True)
class Span:
    """A labelled range of a row of weights that one statistic describes."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Layer:
    """One layer of a network under the label that its columns bear."""

    label: str
    bias: Variable
    kernel: Variable

    @property
    def spans(self) -> tuple[Span, Span]:
        """The ranges of bias and kernel in a row."""
        bias, kernel = self.bias, self.kernel
        return Span(f"{self.label}/bias", bias.start, bias.end), Span(f"{self.label}/kernel", kernel.start, kernel.end)

    @property
    def inputs(self) -> int:
        """Number of input channels, C."""
        return self.kernel.shape[-2]

    @property
    def outputs(self) -> int:
        """Number of output channels, U."""
        return self.kernel.shape[-1]

    @property
    def positions(self) -> int:
        """Number of positions of the kernel: 9, or 1 for the dense layer."""
        return math.prod(self.kernel.shape[:-2])


@dataclass(frozen=True)
class Weights:
    """The parameters themselves, of all layers (`layer=None`) or of one."""

    name: str
    layer: int | None

    def span(self, layout: Layout) -> Span:
        """Return the range of these parameters in a row."""
        if self.layer is None:
            return Span("weights", 0, layout.size)
        (layer,) = select_layers(layout, (self.layer,), self.name)
        return Span(self.name, layer.bias.start, layer.kernel.end)

    def columns(self, layout: Layout) -> list[str]:
        """Return a name for each parameter, such as `conv2d/kernel:17`: its index in the flattened tensor."""
        span = self.span(layout)
        inside = [v for v in layout.variables if span.start <= v.start and v.end <= span.end]
        return [f"{_short(v)}:{index}" for v in inside for index in range(v.end - v.start)]


@dataclass(frozen=True)
class Hyper:
    """Sampled hyperparameters, by their names in `network.hyperparameters`."""

    name: str
    hyperparameters: tuple[str, ...]
    optional: tuple[str, ...] = ()
    """Those that are sampled in some collections only."""

    def columns(self, known: Container[str] = ()) -> list[str]:
        """Return the names of their columns in a metrics.csv.gz with the columns `known`."""
        optional = [f"config.{name}" for name in self.optional]
        return [f"config.{name}" for name in self.hyperparameters] + [name for name in optional if name in known]


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
        return _spans(layout, self.layers, self.name)

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
        return _spans(layout, self.layers, self.name)

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `dense/kernel:l2`."""
        return [f"{span.label}:l{self.order}" for span in self.spans(layout)]


@dataclass(frozen=True)
class Spectra:
    """Singular values of each layer's kernel as a matrix, descending, as log(1 + s).

    The matrix is [fan_in, out]; for convolutions also the kernel summed over its positions, [in, out]: what the layer
    does to an image without detail.
    """

    name: str
    layers: tuple[int, ...]

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `conv2d_1/kernel:s0`, and `conv2d_1/kernel:sum.s0` for the summed kernel."""
        columns = []
        for layer in select_layers(layout, self.layers, self.name):
            columns += _numbered(f"{layer.label}/kernel:s", min(layer.positions * layer.inputs, layer.outputs))
            if layer.positions > 1:
                columns += _numbered(f"{layer.label}/kernel:sum.s", min(layer.inputs, layer.outputs))
        return columns


@dataclass(frozen=True)
class Channels:
    """What each channel of a layer has, sorted: its bias, and the norms and means of its weights."""

    name: str
    layers: tuple[int, ...]

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `conv2d_1/bias:sorted0`, `conv2d_1/kernel:out.l2.0`, `...in.l2.0`, `...out.mean.0`."""
        columns = []
        for layer in select_layers(layout, self.layers, self.name):
            columns += _numbered(f"{layer.label}/bias:sorted", layer.outputs)
            columns += _numbered(f"{layer.label}/kernel:out.l2.", layer.outputs)
            columns += _numbered(f"{layer.label}/kernel:in.l2.", layer.inputs)
            columns += _numbered(f"{layer.label}/kernel:out.mean.", layer.outputs)
        return columns


@dataclass(frozen=True)
class Products:
    """Singular values of the products of neighbouring layers' matrices, descending, as log(1 + s).

    Of each layer and the next, and, if there are more than two, of all. The first kernel is taken as it is,
    [fan_in, out], the others summed over their positions, [in, out].
    """

    name: str
    layers: tuple[int, ...]

    def chains(self, layout: Layout) -> list[tuple[Layer, ...]]:
        """Return the layers of each product, in column order."""
        layers = select_layers(layout, self.layers, self.name)
        pairs: list[tuple[Layer, ...]] = list(itertools.pairwise(layers))
        return [*pairs, layers] if len(layers) > 2 else pairs

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `conv2d*conv2d_1:s0`, `conv2d*conv2d_1*conv2d_2*dense:s0`."""
        columns = []
        for chain in self.chains(layout):
            columns += _numbered(f"{'*'.join(layer.label for layer in chain)}:s", chain_rank(chain))
        return columns


@dataclass(frozen=True)
class Probes:
    """What a network says to synthetic images: how sure, how varied, how steady. See `features.probes`."""

    name: str

    def columns(self, layout: Layout) -> list[str]:
        """Return names such as `confidence:q50`; raises `CnnzooError` for a network of fewer than two classes."""
        classes = layout.architecture.num_classes
        if classes < 2:
            raise CnnzooError(f"feature set `{self.name}`: probing needs two classes at least, got {classes}")
        return probe_columns(classes)


Computed = Statistics | Norms | Spectra | Channels | Products | Probes
"""The parts that are computed from rows of weights."""
Part = Weights | Hyper | Computed


def probe_columns(classes: int) -> list[str]:
    """Return the names of what `features.probes` describes, in order, for networks of K classes."""
    summary = [*(f"q{quantile}" for quantile in PROBE_QUANTILES), "mean", "std"]
    columns = [
        f"{quantity}:{statistic}" for quantity in ("confidence", "entropy", "gap", "spread") for statistic in summary
    ]
    for name, count in (
        ("gap", classes - 1),
        ("probability", classes),
        ("balance", classes),
        ("share", classes),
        ("offset", classes),
        ("deviation", classes),
        ("logits:s", classes - 1),
        ("logits:relative.s", classes - 1),
        ("probabilities:s", classes - 1),
    ):
        columns += _numbered(name, count)
    columns += ["balance:entropy", "share:entropy", "information", "rank"]
    family = ("confidence", "entropy", "gap", "information", "within", "variance", "balance0")
    columns += [f"{quantity}:{kind}" for quantity in family for kind in FAMILIES]
    changed = VARIANTS[1:]
    pair = ("agreement", "change", "distance", "correlation", "scale")
    columns += [f"{quantity}:{variant}" for quantity in pair for variant in changed]
    columns += [f"change:{kind}:{variant}" for kind in FAMILIES for variant in changed]
    hidden = [f"hidden:{what}:q{q}" for what in ("mean", "std", "saturated", "varied") for q in HIDDEN_QUANTILES]
    return [*columns, *hidden, "hidden:dead", "hidden:rank"]


def chain_rank(chain: Sequence[Layer]) -> int:
    """Return the number of singular values of a product of layers' matrices that can be above zero."""
    return min(chain[0].positions * chain[0].inputs, *(layer.outputs for layer in chain))


def columns_of(part: Part, layout: Layout) -> list[str]:
    """Return the names of a part's features; raises `CnnzooError` for a layer that networks of `layout` lack."""
    return part.columns() if isinstance(part, Hyper) else part.columns(layout)


def select_layers(layout: Layout, layers: Sequence[int], name: str) -> tuple[Layer, ...]:
    """Return the chosen layers of the feature set `name`; raises `CnnzooError` if the network has no such layer."""
    count = len(layout.layers)
    for layer in layers:
        if not -count <= layer < count:
            raise CnnzooError(
                f"feature set `{name}`: the networks of this collection have layers 0 to {count - 1}, "
                f"there is no layer {layer}"
            )
    return tuple(Layer(_label(layout, layer, layers), *layout.layers[layer]) for layer in layers)


def _label(layout: Layout, layer: int, layers: Sequence[int]) -> str:
    """Return `conv2d_1`, or `layer1` where a layer is counted from the output."""
    return f"layer{layer}" if min(layers) < 0 else _short(layout.layers[layer][0]).split("/")[0]


def _spans(layout: Layout, layers: Sequence[int], name: str) -> list[Span]:
    return [span for layer in select_layers(layout, layers, name) for span in layer.spans]


def _short(variable: Variable) -> str:
    """Return `conv2d_1/kernel` for `sequential/conv2d_1/kernel:0`."""
    return variable.name.removeprefix("sequential/").removesuffix(":0")


def _numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}" for index in range(count)]
