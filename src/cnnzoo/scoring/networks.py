"""Networks of the family, recognised in tensors of any of the usual names and orders.

Shape letters: n networks, P parameters.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import VALUES
from cnnzoo.network.layout import Layout
from cnnzoo.scoring.formats import Tensors, read_tensors
from cnnzoo.zoo import Collection

TORCH_KERNEL = "weight"
"""Last word of a kernel's name in torch: its order is OIHW or (out, in). All others are HWIO or (in, out)."""

SHOWN = 4
"""Tensors that a message names."""


@dataclass(frozen=True)
class GivenNetwork:
    """A network to be scored."""

    name: str
    """The file, and the row if the file holds several."""
    row: NDArray[np.float32]
    """Parameters (P,) in the published order."""
    activation: str | None
    """None if the file does not say."""
    fault: str | None = None
    """Why it cannot be scored: a row of a matrix that is not finite."""


def read_networks(path: Path, layout: Layout) -> list[GivenNetwork]:
    """Return the networks of a file: one, or, if it holds a single tensor, the rows of that matrix (n, P).

    Raises `CnnzooError` that names file, tensor, the shape got and the one wanted, if it is no network of that layout.
    """
    tensors = read_tensors(path)
    if tensors.activation is not None and tensors.activation not in VALUES["activation"]:
        raise CnnzooError(f"{path}: activation `{tensors.activation}`; the zoo has {', '.join(VALUES['activation'])}")
    if len(tensors.values) == 1:
        rows = list(_rows(path, next(iter(tensors.values.values())), layout))
        return [replace(network, activation=tensors.activation) for network in rows]
    return [GivenNetwork(str(path), _recognise(path, tensors, layout), tensors.activation)]


def network_of(zoo: Collection) -> GivenNetwork:
    """Return a final network of a collection, as an example."""
    row = zoo.final()[0]
    metrics = zoo.metrics.iloc[row]
    return GivenNetwork(str(metrics["modeldir"]), np.array(zoo.weights[row]), str(metrics["config.activation"]))


def _rows(path: Path, matrix: NDArray[Any], layout: Layout) -> Iterator[GivenNetwork]:
    if matrix.ndim not in {1, 2} or matrix.shape[-1] != layout.size or not matrix.size:
        raise CnnzooError(
            f"{path}: one tensor of shape {matrix.shape}; wanted ({layout.size},), or (n, {layout.size}) for n "
            "networks, or the tensors of all layers by name"
        )
    if matrix.ndim == 1:
        yield GivenNetwork(str(path), _as_floats(path, "", matrix), None)
        return
    for index, values in enumerate(matrix):
        row = _as_floats(path, "", values, finite=False)
        fault = None if np.isfinite(row).all() else f"{path}: row {index} {NOT_FINITE}"
        yield GivenNetwork(f"{path}[{index}]", row, None, fault)


def _recognise(path: Path, tensors: Tensors, layout: Layout) -> NDArray[np.float32]:
    """Return the parameters (P,) of the network that named tensors make up."""
    named = _named_by_position(_parameters(tensors.values)) if tensors.ordered else _parameters(tensors.values)
    layers = [_read_layer(path, name, parts) for name, parts in _by_layer(path, named).items()]
    convolutions = _in_order(path, [layer for layer in layers if layer.kernel.values.ndim == 4], tensors)
    dense = [layer for layer in layers if layer.kernel.values.ndim == 2]
    wanted = layout.architecture
    if len(convolutions) != wanted.num_layers or len(dense) != 1:
        listed = ", ".join(f"`{layer.kernel.name}` {layer.kernel.values.shape}" for layer in (*convolutions, *dense))
        raise CnnzooError(
            f"{path}: {len(convolutions)} convolutions and {len(dense)} dense layers ({listed or 'nothing'}); wanted "
            f"{wanted.num_layers} convolutions of {wanted.num_units} channels and 1 dense layer of "
            f"{wanted.num_classes} classes"
        )
    values: dict[str, NDArray[np.float32]] = {}
    for variables, layer in zip(layout.layers, [*convolutions, *dense], strict=True):
        for variable, tensor in zip(variables, (layer.bias, layer.kernel), strict=True):
            if tensor.shape_of(variable.shape) != tensor.values.shape:
                raise CnnzooError(
                    f"{path}: `{tensor.name}` has shape {tensor.values.shape}, wanted {tensor.shape_of(variable.shape)}"
                )
            values[variable.name] = tensor.in_published_order(path)
    return layout.join(values)


def _parameters(tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Return the tensors that can be parameters of a layer: no scalars, and no counters."""
    kept = {name: value for name, value in tensors.items() if value.ndim and np.issubdtype(value.dtype, np.inexact)}
    return kept or tensors


def _named_by_position(tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Give names to tensors that have only numbers, as `numpy.savez(file, *model.get_weights())` stores them."""
    if not all(re.fullmatch(r"arr_\d+|\d+", name) for name in tensors):
        return tensors
    in_torch = any(v.ndim == 4 and v.shape[2:] == (3, 3) != v.shape[:2] for v in tensors.values())
    names, layer = [], -1
    for value in tensors.values():
        layer += value.ndim > 1
        names.append(f"layer_{layer}." + ("bias" if value.ndim == 1 else "weight" if in_torch else "kernel"))
    return dict(zip(names, tensors.values(), strict=True)) if len(set(names)) == len(names) else tensors


@dataclass(frozen=True)
class _Tensor:
    """A parameter tensor as it lies in the file."""

    name: str
    values: NDArray[Any]

    @property
    def _axes(self) -> tuple[int, ...]:
        """The file's axes in the published order: HWIO, (in, out)."""
        axes = tuple(range(self.values.ndim))
        if self.values.ndim < 2 or not self.name.endswith(TORCH_KERNEL):
            return axes
        return (2, 3, 1, 0) if self.values.ndim == 4 else (1, 0)

    def shape_of(self, published: tuple[int, ...]) -> tuple[int, ...]:
        """Return a shape of the published order in the file's order."""
        return tuple(published[self._axes.index(axis)] for axis in range(self.values.ndim))

    def in_published_order(self, path: Path) -> NDArray[np.float32]:
        """Return the values, checked."""
        return _as_floats(path, self.name, self.values.transpose(self._axes))


@dataclass(frozen=True)
class _Layer:
    """A layer's bias, with 1 dimension, and its kernel, with 4 (convolution) or 2 (dense)."""

    name: str
    bias: _Tensor
    kernel: _Tensor


def _by_layer(path: Path, tensors: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, NDArray[Any]]]:
    """Group tensors by what their names have in common."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, value in tensors.items():
        layer = re.sub(r"[./]?[^./]*$", "", name)
        groups.setdefault(layer, {})[name] = value
    for layer, parts in groups.items():
        if len(parts) != 2:
            shown = ", ".join(f"`{name}` {value.shape}" for name, value in list(parts.items())[:SHOWN])
            more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
            raise CnnzooError(
                f"{path}: layer `{layer}` has {shown}{more}; wanted a bias and a kernel in each layer, with names such "
                "as `conv1.bias` and `conv1.weight`, or `conv1/bias` and `conv1/kernel`"
            )
    return groups


def _in_order(path: Path, layers: list[_Layer], tensors: Tensors) -> list[_Layer]:
    """Sort layers by the numbers in their names; where names differ in more, by the file's order or their titles."""
    if _are_numbered([layer.name for layer in layers]):
        return sorted(layers, key=lambda layer: _number_key(layer.name))
    if tensors.ordered:
        return layers
    titles = {layer.name: tensors.titles.get(layer.name, layer.name) for layer in layers}
    if len(set(titles.values())) == len(layers) and _are_numbered(list(titles.values())):
        return sorted(layers, key=lambda layer: _number_key(titles[layer.name]))
    names = ", ".join(f"`{layer.name}`" for layer in layers)
    raise CnnzooError(f"{path}: which of {names} comes first? Name the convolutions alike but for a number")


def _are_numbered(names: list[str]) -> bool:
    """Return whether names are alike but for numbers."""
    return len({re.sub(r"_?[0-9]+", "", name) for name in names}) <= 1


def _number_key(name: str) -> list[tuple[int, str]]:
    """Sort `conv2d` before `conv2d_2` before `conv2d_10`."""
    parts = re.split(r"([0-9]+)", name)  # every second one a number, of any length: the longer is the larger
    numbers = [part.lstrip("0") for part in parts]
    return [(len(number), number) if place % 2 else (-1, parts[place]) for place, number in enumerate(numbers)]


def _read_layer(path: Path, layer: str, parts: Mapping[str, NDArray[Any]]) -> _Layer:
    bias, kernel = sorted((_Tensor(*part) for part in parts.items()), key=lambda tensor: tensor.values.ndim)
    if bias.values.ndim != 1 or kernel.values.ndim not in {2, 4}:
        raise CnnzooError(
            f"{path}: layer `{layer}` has `{bias.name}` {bias.values.shape} and `{kernel.name}` {kernel.values.shape}; "
            "wanted a bias with 1 dimension and a kernel with 4 (convolution) or 2 (dense)"
        )
    return _Layer(layer, bias, kernel)


NOT_FINITE = "holds NaN or infinity (or values beyond float32): the network has diverged"


def _as_floats(path: Path, name: str, values: NDArray[Any], finite: bool = True) -> NDArray[np.float32]:
    where = f"{path}: `{name}`" if name else str(path)
    if not np.issubdtype(values.dtype, np.floating):
        raise CnnzooError(f"{where} holds {values.dtype}, wanted floating point numbers")
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(values, dtype=np.float32)
    if finite and not np.isfinite(floats).all():
        raise CnnzooError(f"{where} {NOT_FINITE}")
    return floats
