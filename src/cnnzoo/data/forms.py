"""The forms in which a batch of weights is given: flat or by tensor, in the published order or in torch's.

Shape letters: B rows, P parameters.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Layout

Order = Literal["published", "torch"]
"""published: bias before kernel, HWIO and (in, out). torch: as `SmallCNN.parameters()`, weight before bias, OIHW."""


@dataclass(frozen=True)
class Form:
    """How a row is taken apart."""

    shapes: dict[str, tuple[int, ...]]
    """The shape of each tensor by its name, in the order of the flat row."""
    index: NDArray[np.int64] | None
    """(P,): the place in a published row of each number; None where they are the same."""

    def flat(self, weights: NDArray[np.float32]) -> Tensor:
        """Return float32 (B, P) in this order, of rows (B, P) in the published one."""
        return torch.from_numpy(weights if self.index is None else np.take(weights, self.index, axis=1))

    def tensors(self, weights: NDArray[np.float32]) -> dict[str, Tensor]:
        """Return float32 (B, *shape) by name, views of one array."""
        flat = self.flat(weights)
        parts = torch.split(flat, [prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: part.reshape(len(flat), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def form_of(layout: Layout, order: Order) -> Form:
    """Return the form of an order; raises `CnnzooError` for an unknown one, or a layout that no torch module has."""
    if order == "published":
        return Form({variable.name: variable.shape for variable in layout.variables}, None)
    if order != "torch":
        raise CnnzooError(f'`order` must be "published" or "torch", got {order!r}')
    names = [f"convolutions.{layer}" for layer in range(layout.architecture.num_layers)] + ["dense"]
    places = np.arange(layout.size)
    moved: dict[str, NDArray[np.int64]] = {}
    for name, (bias, kernel) in zip(names, layout.layers, strict=True):
        values = places[kernel.start : kernel.end].reshape(kernel.shape)
        moved[f"{name}.weight"] = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T
        moved[f"{name}.bias"] = places[bias.start : bias.end]
    return Form(
        {name: values.shape for name, values in moved.items()},
        np.concatenate([values.reshape(-1) for values in moved.values()]),
    )
