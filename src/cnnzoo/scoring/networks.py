"""Networks of the family, recognised in tensors of any of the usual names and orders.

Shape letters: n networks, P parameters.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.errors import CnnzooError
from cnnzoo.layout import KERNEL_SIZE, Architecture, Layout, layout_of
from cnnzoo.network import ACTIVATIONS
from cnnzoo.scoring.formats import read_tensors

TORCH_KERNEL = "weight"
"""Last word of a kernel's name in torch: its order is OIHW or (out, in). All others are HWIO or (in, out)."""


@dataclass(frozen=True)
class GivenNetwork:
    """A network that somebody wants to know about."""

    name: str
    """The file, and the row if the file holds several."""
    row: NDArray[np.float32]
    """Parameters (P,) in the published order."""
    layout: Layout
    activation: str | None
    """None if the file does not tell."""


def read_networks(path: Path, layout: Layout) -> list[GivenNetwork]:
    """Return the networks of a file: one, or the rows of a .npy matrix (n, P) of the given layout.

    Raises `CnnzooError` that names file, tensor, the shape got and the one wanted, if there is no such network in it.
    """
    tensors = read_tensors(path)
    if tensors.activation is not None and tensors.activation not in ACTIVATIONS:
        raise CnnzooError(f"{path}: activation `{tensors.activation}`; the zoo has {', '.join(ACTIVATIONS)}")
    if set(tensors.values) == {""}:
        return list(_rows(path, tensors.values[""], layout))
    row, found = _recognise(path, tensors.values)
    return [GivenNetwork(str(path), row, found, tensors.activation)]


def _rows(path: Path, matrix: NDArray[Any], layout: Layout) -> Iterator[GivenNetwork]:
    if matrix.ndim not in {1, 2} or matrix.shape[-1] != layout.size or not matrix.size:
        raise CnnzooError(
            f"{path}: shape {matrix.shape}; wanted ({layout.size},), or (n, {layout.size}) for n networks"
        )
    for index, row in enumerate(np.atleast_2d(_as_floats(path, "", matrix))):
        name = str(path) if matrix.ndim == 1 else f"{path}[{index}]"
        yield GivenNetwork(name, row, layout, None)


def _recognise(path: Path, tensors: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], Layout]:
    """Return parameters (P,) and layout of the network that named tensors make up."""
    layers = [_read_layer(path, name, parts) for name, parts in _by_layer(path, tensors).items()]
    convolutions = [layer for layer in layers if layer.kernel.ndim == 4]
    dense = [layer for layer in layers if layer.kernel.ndim == 2]
    if not convolutions or len(dense) != 1:
        raise CnnzooError(
            f"{path}: {len(convolutions)} convolutions and {len(dense)} dense layers; "
            "wanted one convolution or more, then one dense layer"
        )
    first = convolutions[0].kernel
    architecture = Architecture(first.shape[3], len(convolutions), first.shape[2], dense[0].kernel.shape[1])
    layout = layout_of(architecture)
    values: dict[str, NDArray[np.float32]] = {}
    for (bias, kernel), layer in zip(layout.layers, [*convolutions, *dense], strict=True):
        for variable, name, value in ((bias, layer.bias_name, layer.bias), (kernel, layer.kernel_name, layer.kernel)):
            if value.shape != variable.shape:
                raise CnnzooError(
                    f"{path}: `{name}` is {value.shape} in the order (height, width, in, out); "
                    f"wanted {variable.shape}, as the first convolution has {architecture.num_units} channels"
                )
            values[variable.name] = value
    return layout.join(values), layout


@dataclass(frozen=True)
class _Layer:
    """Bias (out,) and kernel, HWIO or (in, out), of one layer, with their names in the file."""

    bias_name: str
    bias: NDArray[np.float32]
    kernel_name: str
    kernel: NDArray[np.float32]


def _by_layer(path: Path, tensors: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, NDArray[Any]]]:
    """Group tensors by what their names have in common; layers in the order of their numbers."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, value in tensors.items():
        layer = re.sub(r"[./]?[^./]*$", "", name)
        groups.setdefault(layer, {})[name] = value
    for layer, parts in groups.items():
        if len(parts) != 2:
            raise CnnzooError(
                f"{path}: layer `{layer}` has {', '.join(f'`{name}` {value.shape}' for name, value in parts.items())}; "
                "wanted a bias and a kernel in each layer"
            )
    return {layer: groups[layer] for layer in sorted(groups, key=_number_key)}


def _number_key(name: str) -> list[tuple[int, str]]:
    """Sort `conv2d` before `conv2d_2` before `conv2d_10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read_layer(path: Path, layer: str, parts: Mapping[str, NDArray[Any]]) -> _Layer:
    (bias_name, bias), (kernel_name, kernel) = sorted(parts.items(), key=lambda part: part[1].ndim)
    if bias.ndim != 1 or kernel.ndim not in {2, 4}:
        raise CnnzooError(
            f"{path}: layer `{layer}` has `{bias_name}` {bias.shape} and `{kernel_name}` {kernel.shape}; "
            "wanted a bias (out,) and a kernel with 4 (convolution) or 2 (dense) dimensions"
        )
    if kernel_name.endswith(TORCH_KERNEL):
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
    if kernel.ndim == 4 and kernel.shape[:2] != (KERNEL_SIZE, KERNEL_SIZE):
        raise CnnzooError(f"{path}: `{kernel_name}` has a kernel of {kernel.shape[0]}x{kernel.shape[1]}, wanted 3x3")
    return _Layer(bias_name, _as_floats(path, bias_name, bias), kernel_name, _as_floats(path, kernel_name, kernel))


def _as_floats(path: Path, name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    where = f"{path}: `{name}`" if name else str(path)
    if not np.issubdtype(values.dtype, np.floating):
        raise CnnzooError(f"{where} holds {values.dtype}, wanted floating point numbers")
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(floats).all():
        raise CnnzooError(f"{where} holds NaN or infinity (or values beyond float32): the network has diverged")
    return floats
