"""How the parameters of one network are laid out in one row of a weight matrix.

The order is that of the published Small CNN Zoo: per layer the bias before the kernel, convolution kernels HWIO
(height, width, in, out), the dense kernel (in, out), each flattened in C order.

Shape letters: N networks, P parameters.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError

KERNEL_SIZE = 3
STRIDE = 2
COLUMNS = ("varname", "start_idx", "end_idx", "size", "shape")
SHAPE = re.compile(r"\(\d{1,9}(, ?\d{1,9})*,?\)")
"""A tuple literal of sides, as `str` writes it."""


@dataclass(frozen=True)
class Architecture:
    """The network family: `num_layers` convolutions of `num_units` channels, pooling, a dense layer."""

    num_units: int = 16
    num_layers: int = 3
    num_channels: int = 1
    num_classes: int = 10

    def feature_sizes(self, image_size: int) -> tuple[int, ...]:
        """Return the side of the feature map after each convolution (28 -> 13, 6, 2).

        Raises `CnnzooError` if the image is too small for the number of layers.
        """
        sizes = []
        side = image_size
        for _ in range(self.num_layers):
            side = (side - KERNEL_SIZE) // STRIDE + 1
            if side < 1:
                raise CnnzooError(
                    f"images of {image_size} x {image_size} pixels are too small for `num_layers={self.num_layers}`: "
                    f"each layer halves the image and needs at least {KERNEL_SIZE} pixels. Use fewer layers."
                )
            sizes.append(side)
        return tuple(sizes)

    def multiply_adds(self, image_size: int) -> int:
        """Return the multiply-adds of one image's forward and backward pass (325,632 for the defaults at 28 pixels).

        Each kernel is used three times: forward, for its gradient, and for that of its input; the first has none.
        """
        total, channels = 3 * self.num_units * self.num_classes, self.num_channels
        for layer, side in enumerate(self.feature_sizes(image_size)):
            passes = 3 if layer else 2
            total += passes * KERNEL_SIZE**2 * channels * self.num_units * side**2
            channels = self.num_units
        return total


@dataclass(frozen=True)
class Variable:
    """One parameter tensor: its published name, its half-open range in a row, its shape."""

    name: str
    start: int
    end: int
    shape: tuple[int, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether L2 regularisation applies (biases are not penalised)."""
        return self.name.endswith("/kernel:0")


@dataclass(frozen=True)
class Layout:
    """The variables of a row, in order, without gaps."""

    variables: tuple[Variable, ...]

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return self.variables[-1].end

    @cached_property
    def layers(self) -> tuple[tuple[Variable, Variable], ...]:
        """(bias, kernel) of each layer, input layer first."""
        return tuple(zip(self.variables[0::2], self.variables[1::2], strict=True))

    @cached_property
    def kernel_mask(self) -> NDArray[np.bool_]:
        """Bool (P,): which parameters belong to a kernel."""
        mask = np.zeros(self.size, dtype=bool)
        for variable in self.variables:
            mask[variable.start : variable.end] = variable.is_kernel
        return mask

    def split(self, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return views of `weights` (..., P) by variable name, each (..., *shape)."""
        if weights.shape[-1] != self.size:
            raise CnnzooError(f"a row of this layout has {self.size} parameters, got {weights.shape[-1]}")
        lead = weights.shape[:-1]
        return {v.name: weights[..., v.start : v.end].reshape(lead + v.shape) for v in self.variables}

    def join(self, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the row float32 (P,) made of the tensors of one network, by variable name."""
        row = np.empty(self.size, dtype=np.float32)
        for variable in self.variables:
            value = np.asarray(values[variable.name])
            if value.shape != variable.shape:
                raise CnnzooError(f"`{variable.name}` has shape {value.shape}, the layout wants {variable.shape}")
            row[variable.start : variable.end] = value.reshape(-1)
        return row

    @cached_property
    def architecture(self) -> Architecture:
        """The network family that has this layout; raises `CnnzooError` if no network of the family has it."""
        kernel = self.variables[1].shape
        if len(kernel) == 4:
            found = Architecture(
                num_units=kernel[3],
                num_layers=len(self.layers) - 1,
                num_channels=kernel[2],
                num_classes=self.variables[-1].shape[-1],
            )
            if layout_of(found) == self:
                return found
        raise CnnzooError("the layout is not that of a network of this family (3x3 convolutions, then one dense layer)")

    def to_csv(self) -> str:
        """Return the text of layout.csv."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for v in self.variables:
            writer.writerow((v.name, v.start, v.end, v.end - v.start, str(v.shape)))
        return text.getvalue()

    @classmethod
    def from_csv(cls, text: str) -> "Layout":
        """Read the text of layout.csv; raises `CnnzooError` that names the wrong line."""
        try:
            rows = list(csv.reader(io.StringIO(text)))
        except csv.Error as error:
            raise CnnzooError(f"layout.csv: cannot be read ({error})") from error
        if not rows or tuple(rows[0]) != COLUMNS:
            raise CnnzooError(
                f"layout.csv: the header must be {','.join(COLUMNS)}, got {','.join(rows[0]) if rows else 'nothing'}"
            )
        variables: list[Variable] = []
        for number, row in enumerate(rows[1:], start=2):
            variables.append(_read_variable(row, number, start=variables[-1].end if variables else 0))
        if not variables or len(variables) % 2:
            raise CnnzooError(f"layout.csv: every layer has a bias and a kernel, got {len(variables)} variables")
        return cls(tuple(variables))


def _read_variable(row: list[str], number: int, start: int) -> Variable:
    try:
        name, begin, end, size, shape_text = row
        if not SHAPE.fullmatch(shape_text):
            raise ValueError(f"shape {shape_text[:40]} is not a tuple of numbers")
        variable = Variable(name, int(begin), int(end), tuple(map(int, re.findall(r"\d+", shape_text))))
        count = int(size)
    except ValueError as error:
        raise CnnzooError(
            f"layout.csv, line {number}: cannot be read ({error}); expected {','.join(COLUMNS)}"
        ) from error
    if variable.start != start or variable.end - variable.start != count or count != prod(variable.shape):
        raise CnnzooError(
            f"layout.csv, line {number}: `{name}` has range {begin}-{end}, size {size} and shape {shape_text}, "
            f"which do not agree with each other or with the line before (expected start {start})"
        )
    return variable


def layout_of(architecture: Architecture) -> Layout:
    """Return the published layout of a network family (4,970 parameters for the defaults)."""
    variables: list[Variable] = []

    def add(name: str, shape: tuple[int, ...]) -> None:
        start = variables[-1].end if variables else 0
        variables.append(Variable(f"sequential/{name}:0", start, start + prod(shape), shape))

    channels = architecture.num_channels
    for index in range(architecture.num_layers):
        layer = "conv2d" if index == 0 else f"conv2d_{index}"
        add(f"{layer}/bias", (architecture.num_units,))
        add(f"{layer}/kernel", (KERNEL_SIZE, KERNEL_SIZE, channels, architecture.num_units))
        channels = architecture.num_units
    add("dense/bias", (architecture.num_classes,))
    add("dense/kernel", (channels, architecture.num_classes))
    return Layout(tuple(variables))
