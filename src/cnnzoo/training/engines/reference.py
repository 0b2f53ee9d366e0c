"""The reference engine: one network at a time, plain PyTorch, made to be read. The oracle of all tests; never fast.

Shape letters: N networks, P parameters, S steps, B images, C channels, H W pixels.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cnnzoo.images import network_input
from cnnzoo.network.layout import STRIDE
from cnnzoo.network.module import ACTIVATIONS
from cnnzoo.training.dropout import masks, step_key
from cnnzoo.training.engines.base import ADAM_BETA_1, ADAM_BETA_2, EPSILON, RMSPROP_RHO, Cohort, Scores

EVALUATION_BATCH = 1000


class ReferenceEngine:
    """One network after the other, each with `torch.autograd`."""

    name = "reference"
    numerics = "2"

    def __init__(self, cohort: Cohort, dtype: torch.dtype = torch.float32) -> None:
        self.cohort = cohort
        self.dtype = dtype
        self.networks = [_Network(cohort, index, dtype) for index in range(cohort.size)]

    def load_images(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """See `Engine.load_images`."""
        self.inputs = _inputs(images, self.dtype)
        self.labels = torch.from_numpy(labels.astype(np.int64))

    def train(self, minibatches: NDArray[np.int64], first_step: int) -> None:
        """See `Engine.train`."""
        for network in self.networks:
            for step, indices in enumerate(torch.from_numpy(minibatches), start=first_step):
                network.step(self.inputs[indices], self.labels[indices], step)

    def evaluate(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Scores:
        """See `Engine.evaluate`."""
        inputs, targets = _inputs(images, self.dtype), torch.from_numpy(labels.astype(np.int64))
        scores = [network.evaluate(inputs, targets) for network in self.networks]
        accuracy, loss = zip(*scores, strict=True)
        return Scores(np.array(accuracy), np.array(loss))

    def weights(self) -> NDArray[np.float32]:
        """See `Engine.weights`."""
        return self.state()["weights"]

    def state(self) -> dict[str, NDArray[np.float32]]:
        """See `Engine.state`."""
        names = self.cohort.state_names
        return {name: np.stack([network.tensors[name].numpy() for network in self.networks]) for name in names}

    def load_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """See `Engine.load_state`."""
        for index, network in enumerate(self.networks):
            for name, tensor in network.tensors.items():
                tensor.copy_(torch.from_numpy(state[name][index])) if name in state else tensor.zero_()


class _Network:
    """One network: its row of weights, its optimizer slots, its hyperparameters."""

    def __init__(self, cohort: Cohort, index: int, dtype: torch.dtype) -> None:
        self.layout = cohort.layout
        self.plan = cohort.mask_plan
        self.activation = ACTIVATIONS[cohort.activation]
        self.optimizer = cohort.optimizer
        self.learning_rate = float(cohort.learning_rate[index])
        self.l2reg = float(cohort.l2reg[index])
        self.rate = float(cohort.dropout[index])
        self.key = (int(cohort.dropout_keys[index, 0]), int(cohort.dropout_keys[index, 1]))
        self.tensors = {name: torch.zeros(self.layout.size, dtype=dtype) for name in cohort.state_names}  # (P,) each

    def step(self, inputs: Tensor, labels: Tensor, step: int) -> None:
        """One minibatch: inputs (B, 1, H, W), labels (B,)."""
        weights = self.tensors["weights"].requires_grad_()
        kept = masks(self.plan, step_key(self.key, step), self.rate, len(inputs)) if self.rate > 0 else None
        loss = F.cross_entropy(self.logits(weights, inputs, kept), labels) + self.penalty(weights)
        (gradient,) = torch.autograd.grad(loss, weights)
        self.tensors["weights"] = weights.detach()
        self.update(gradient, step + 1)

    def logits(self, weights: Tensor, inputs: Tensor, kept: list[NDArray[np.bool_]] | None = None) -> Tensor:
        """Forward pass: inputs (B, 1, H, W) -> logits (B, 10); `kept` holds the dropout mask of each layer."""
        features = inputs
        *convolutions, dense = self.layout.layers
        for index, (bias, kernel) in enumerate(convolutions):
            hwio = weights[kernel.start : kernel.end].reshape(kernel.shape)
            features = F.conv2d(features, hwio.permute(3, 2, 0, 1), weights[bias.start : bias.end], stride=STRIDE)
            features = self.activation(features)  # (B, C, H, W)
            if kept is not None:
                mask = torch.from_numpy(kept[index]).transpose(1, 2).reshape(features.shape)
                features = features * mask / (1 - self.rate)
        pooled = features.mean(dim=(2, 3))  # (B, C)
        bias, kernel = dense
        return pooled @ weights[kernel.start : kernel.end].reshape(kernel.shape) + weights[bias.start : bias.end]

    def penalty(self, weights: Tensor) -> Tensor:
        """L2 term of the loss: l2reg * sum of squares of the kernels."""
        return self.l2reg * weights[torch.from_numpy(self.layout.kernel_mask)].square().sum()

    def update(self, gradient: Tensor, step: int) -> None:
        """Apply the optimizer as Keras 2 defines it; `step` counts from 1."""
        weights, rate = self.tensors["weights"], self.learning_rate
        if self.optimizer == "sgd":
            weights -= rate * gradient
        elif self.optimizer == "rmsprop":
            v = self.tensors["v"]
            v.mul_(RMSPROP_RHO).add_((1 - RMSPROP_RHO) * gradient.square())
            weights -= rate * gradient / (v.sqrt() + EPSILON)
        else:
            m, v = self.tensors["m"], self.tensors["v"]
            m.mul_(ADAM_BETA_1).add_((1 - ADAM_BETA_1) * gradient)
            v.mul_(ADAM_BETA_2).add_((1 - ADAM_BETA_2) * gradient.square())
            step_size = rate * (1 - ADAM_BETA_2**step) ** 0.5 / (1 - ADAM_BETA_1**step)
            weights -= step_size * m / (v.sqrt() + EPSILON)

    def evaluate(self, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
        """Return accuracy and loss on inputs (B, 1, H, W)."""
        weights = self.tensors["weights"]
        correct, entropy = 0, 0.0
        with torch.no_grad():
            for start in range(0, len(labels), EVALUATION_BATCH):
                y = labels[start : start + EVALUATION_BATCH]
                logits = self.logits(weights, inputs[start : start + EVALUATION_BATCH])
                correct += int((logits.argmax(dim=1) == y).sum())
                entropy += float(F.cross_entropy(logits, y, reduction="sum"))
            return correct / len(labels), entropy / len(labels) + float(self.penalty(weights))


def _inputs(images: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(network_input(images)).to(dtype)[:, None]  # (B, 1, H, W)
