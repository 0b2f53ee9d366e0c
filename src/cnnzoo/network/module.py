"""One network of the family as a runnable torch module, and the conversion between a module and a row of weights.

Shape letters: B images, C channels, H W pixels, P parameters.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import KERNEL_SIZE, STRIDE, Architecture, Layout

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class SmallCNN(nn.Module):
    """Convolutions 3x3, stride 2, each followed by activation and dropout; global average pooling; a dense layer.

    Input: float32 (B, C, H, W) in [-1, 1], as `cnnzoo.images.network_input` scales images (it returns (B, H, W)).
    Output: logits (B, classes). Dropout acts only in training mode, so a network made `from_row` evaluates as it was
    scored; pass `dropout` to train it further. Raises `CnnzooError` for an unknown activation or a rate outside [0, 1).
    """

    def __init__(
        self, architecture: Architecture | None = None, activation: str = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise CnnzooError(f"`activation` must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        if not 0 <= dropout < 1:
            raise CnnzooError(f"`dropout` must lie in [0, 1), got {dropout}")
        self.architecture = architecture or Architecture()
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        units, layers = self.architecture.num_units, self.architecture.num_layers
        channels = [self.architecture.num_channels] + [units] * layers
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[layer], units, KERNEL_SIZE, stride=STRIDE) for layer in range(layers)
        )
        self.dense = nn.Linear(units, self.architecture.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, classes) of images (B, C, H, W)."""
        features = images
        for convolution in self.convolutions:
            features = self.dropout(ACTIVATIONS[self.activation](convolution(features)))
        logits: Tensor = self.dense(features.mean(dim=(2, 3)))
        return logits

    @classmethod
    def from_row(cls, row: NDArray[np.float32], layout: Layout, activation: str, dropout: float = 0.0) -> "SmallCNN":
        """Return the network that a row float32 (P,) of a weight matrix describes, in evaluation mode.

        The parameters are copies, bit for bit. Raises `CnnzooError` if the row does not fit the layout.
        """
        row = np.asarray(row)
        if row.dtype != np.float32 or row.shape != (layout.size,):
            raise CnnzooError(f"a row of this layout is float32 ({layout.size},), got {row.dtype} {row.shape}")
        with torch.device("meta"):  # no storage, and no draw from torch's global generator
            network = cls(layout.architecture, activation, dropout)
        tensors = layout.split(row)
        parameters = {}
        for prefix, (bias, kernel) in zip(network._layer_names(), layout.layers, strict=True):
            parameters[f"{prefix}.bias"] = torch.from_numpy(tensors[bias.name].copy())
            parameters[f"{prefix}.weight"] = torch.from_numpy(_to_torch(tensors[kernel.name]).copy(order="C"))
        network.load_state_dict(parameters, assign=True)
        return network.eval()

    def to_row(self, layout: Layout) -> NDArray[np.float32]:
        """Return the parameters as a row float32 (P,), bit for bit; raises `CnnzooError` if the layout differs."""
        if layout.architecture != self.architecture:
            raise CnnzooError(f"the layout is that of {layout.architecture}, the network is {self.architecture}")
        parameters = {name: value.detach().cpu().numpy() for name, value in self.named_parameters()}
        values: dict[str, NDArray[Any]] = {}
        for prefix, (bias, kernel) in zip(self._layer_names(), layout.layers, strict=True):
            values[bias.name] = parameters[f"{prefix}.bias"]
            values[kernel.name] = _from_torch(parameters[f"{prefix}.weight"])
        wrong = sorted({str(value.dtype) for value in values.values()} - {"float32"})
        if wrong:
            raise CnnzooError(
                f"parameters must be float32, got {', '.join(wrong)}; call `.float()` on the network first"
            )
        return layout.join(values)

    def _layer_names(self) -> list[str]:
        """Names of the torch layers, input layer first: the order of `Layout.layers`."""
        return [f"convolutions.{layer}" for layer in range(self.architecture.num_layers)] + ["dense"]


def _to_torch(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a kernel in torch's order: HWIO -> OIHW, (in, out) -> (out, in)."""
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T


def _from_torch(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a kernel in the published order: OIHW -> HWIO, (out, in) -> (in, out)."""
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
