"""The batched engine: all networks of a cohort at once, in tensor operations on any torch device. The GPU path.

A convolution is one batched matrix product over im2col patches; the first layer's patches are the same for all
networks. Gradients are written out by hand: autograd would keep every intermediate of every network alive, and its
backward of a strided window is an index-add. Nothing in `train` waits for the device.

Shape letters: N networks, P parameters, S steps, B images, H W sides of a feature map, Q = H * W positions,
C channels in, U channels out, K = 9 * C inputs of one position.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cnnzoo.network.layout import KERNEL_SIZE, STRIDE, Architecture, Variable
from cnnzoo.network.stacked import matrix, run_networks
from cnnzoo.training import dropout
from cnnzoo.training.engines.base import ADAM_BETA_1, ADAM_BETA_2, EPSILON, RMSPROP_RHO, Cohort, Scores

EVALUATION_BYTES = {"cpu": 1 << 21}
DEFAULT_EVALUATION_BYTES = 1 << 28
"""Size of the largest intermediate of one evaluation block: a CPU's cache, a small part of an accelerator's memory."""


def network_bytes(architecture: Architecture, image_size: int, minibatch: int) -> int:
    """Return the memory that one network takes in a training step, by a high estimate.

    Patches twice (kept, and those of the gradient), activations eight times (kept, masked, masks and what they are
    made of, gradients); measured: 32,437 floats an image of the published network with tanh, estimated: 38,272.
    """
    positions = [side**2 for side in architecture.feature_sizes(image_size)]
    patches = sum(positions[1:]) * KERNEL_SIZE**2 * architecture.num_units
    activations = sum(positions) * architecture.num_units
    return 4 * minibatch * (2 * patches + 8 * activations)


class BatchedEngine:
    """Trains a cohort on `device` in stacks of at most `stack_size` networks (default: all in one)."""

    name = "batched"
    numerics = "2"

    def __init__(self, cohort: Cohort, device: str | torch.device = "cpu", stack_size: int | None = None) -> None:
        self.cohort = cohort
        self.device = torch.device(device)
        self._slices = list(_blocks(cohort.size, stack_size or cohort.size))
        self._stacks = [_Stack(cohort.part(networks), self.device) for networks in self._slices]

    def load_images(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """See `Engine.load_images`; images stay on the device as uint8."""
        self._images = torch.from_numpy(images).to(self.device)
        self._labels = torch.from_numpy(labels).to(self.device, torch.int64)

    def train(self, minibatches: NDArray[np.int64], first_step: int) -> None:
        """See `Engine.train`."""
        indices = torch.from_numpy(minibatches).to(self.device)  # (S, B)
        with torch.no_grad():
            for stack in self._stacks:
                stack.train(self._images, self._labels, indices, first_step)

    def evaluate(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Scores:
        """See `Engine.evaluate`."""
        inputs = torch.from_numpy(images).to(self.device)
        targets = torch.from_numpy(labels).to(self.device, torch.int64)
        with torch.no_grad():
            scores = [stack.evaluate(inputs, targets) for stack in self._stacks]
        accuracy, loss = (torch.cat(parts).cpu().numpy() for parts in zip(*scores, strict=True))
        return Scores(accuracy, loss)

    def weights(self) -> NDArray[np.float32]:
        """See `Engine.weights`."""
        return self.state()["weights"]

    def state(self) -> dict[str, NDArray[np.float32]]:
        """See `Engine.state`."""
        names = self.cohort.state_names
        return {name: torch.cat([stack.tensors[name] for stack in self._stacks]).cpu().numpy() for name in names}

    def load_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """See `Engine.load_state`."""
        for networks, stack in zip(self._slices, self._stacks, strict=True):
            for name, tensor in stack.tensors.items():
                tensor.copy_(torch.from_numpy(state[name][networks])) if name in state else tensor.zero_()


class _Stack:
    """Networks whose tensors are stacked: one launch of each operation serves all of them."""

    def __init__(self, cohort: Cohort, device: torch.device) -> None:
        self.cohort = cohort
        self.device = device
        self.layout = cohort.layout
        self.sides = cohort.architecture.feature_sizes(cohort.image_size)
        self.tensors = {
            name: torch.zeros(cohort.size, self.layout.size, device=device)  # (N, P)
            for name in cohort.state_names
        }
        self._learning_rate = self._column(cohort.learning_rate)
        self._l2reg = self._column(cohort.l2reg)
        self._kernel_mask = torch.from_numpy(self.layout.kernel_mask).to(device)  # (P,)
        self._dropout = _Dropout(cohort, device) if cohort.dropout.any() else None

    def _column(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)[:, None]  # (N, 1)

    def train(self, images: Tensor, labels: Tensor, indices: Tensor, first_step: int) -> None:
        """Run S steps on minibatches (S, B) of indices into images (M, H, W, C) and labels (M,)."""
        keys = self._dropout.step_keys(first_step, len(indices)) if self._dropout else None  # (S, N, 2)
        for offset, rows in enumerate(indices):
            masks = self._dropout.masks(keys[offset], len(rows)) if self._dropout and keys is not None else None
            gradient = self.gradient(_normalised(images[rows]), labels[rows], masks)
            self._update(gradient, first_step + offset + 1)

    def gradient(self, inputs: Tensor, labels: Tensor, masks: list[Tensor] | None) -> Tensor:
        """Return the gradient (N, P) of each network's loss on one minibatch: inputs (B, H, W), labels (B,)."""
        weights = self.tensors["weights"]
        trace = self._forward(weights, inputs, masks)
        probabilities = trace.logits.softmax(dim=-1)  # (N, B, 10)
        probabilities[:, torch.arange(len(labels), device=self.device), labels] -= 1
        gradient = self._backward(weights, trace, probabilities / len(labels), masks)
        return gradient.addcmul_(2 * self._l2reg * self._kernel_mask, weights)

    def _forward(self, weights: Tensor, inputs: Tensor, masks: list[Tensor] | None) -> "_Trace":
        patches, activations = [], []

        def keep(columns: Tensor, activated: Tensor) -> Tensor:
            patches.append(columns)
            activations.append(activated)
            return activated if masks is None else activated * masks[len(activations) - 1]

        activate = Tensor.relu_ if self.cohort.activation == "relu" else Tensor.tanh_
        pooled, logits = run_networks(weights, inputs[..., None], self.layout, _patches, activate, on_layer=keep)
        return _Trace(patches, activations, pooled, logits)

    def _backward(self, weights: Tensor, trace: "_Trace", upstream: Tensor, masks: list[Tensor] | None) -> Tensor:
        """Return d loss / d weights (N, P), given d loss / d logits (N, B, 10)."""
        result = torch.empty_like(weights)
        *convolutions, (bias, kernel) = self.layout.layers
        _store(result, bias, upstream.sum(dim=1))
        _store(result, kernel, trace.pooled.transpose(1, 2) @ upstream)
        networks, images = upstream.shape[:2]
        side = self.sides[-1]
        pooled = (upstream @ matrix(weights, kernel).transpose(1, 2)) / side**2  # (N, B, U)
        gradient = pooled[:, :, None, None].expand(-1, -1, side, side, -1)  # (N, B, H, W, U)
        for index in reversed(range(len(convolutions))):
            bias, kernel = convolutions[index]
            if masks is not None:
                gradient = gradient * masks[index]
            activated = trace.activations[index]
            slope = activated > 0 if self.cohort.activation == "relu" else 1 - activated.square()
            gradient = (gradient * slope).reshape(networks, -1, bias.shape[0])  # (N, B * Q, U)
            _store(result, bias, gradient.sum(dim=1))
            _store(result, kernel, trace.patches[index].transpose(1, 2) @ gradient)
            if index > 0:
                columns = gradient @ matrix(weights, kernel).transpose(1, 2)  # (N, B * Q, K)
                gradient = _fold(columns, images, self.sides[index], self.sides[index - 1])
        return result

    def _update(self, gradient: Tensor, step: int) -> None:
        """Apply the optimizer to all networks; `step` counts from 1."""
        weights = self.tensors["weights"]
        if self.cohort.optimizer == "sgd":
            weights.sub_(self._learning_rate * gradient)
        elif self.cohort.optimizer == "rmsprop":
            v = self.tensors["v"].mul_(RMSPROP_RHO).addcmul_(gradient, gradient, value=1 - RMSPROP_RHO)
            weights.sub_(self._learning_rate * gradient / (v.sqrt() + EPSILON))
        else:
            m = self.tensors["m"].mul_(ADAM_BETA_1).add_(gradient, alpha=1 - ADAM_BETA_1)
            v = self.tensors["v"].mul_(ADAM_BETA_2).addcmul_(gradient, gradient, value=1 - ADAM_BETA_2)
            correction = (1 - ADAM_BETA_2**step) ** 0.5 / (1 - ADAM_BETA_1**step)
            weights.sub_(correction * self._learning_rate * m / (v.sqrt() + EPSILON))

    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return accuracy and loss of each network, float64 (N,), on images (M, H, W, C) and labels (M,)."""
        weights = self.tensors["weights"]
        correct = torch.zeros(len(weights), dtype=torch.int64, device=self.device)
        entropy = torch.zeros(len(weights), dtype=torch.float64, device=self.device)
        for block in _blocks(len(images), self._evaluation_block()):
            targets = labels[block].expand(len(weights), -1)  # (N, B)
            logits = self._forward(weights, _normalised(images[block]), masks=None).logits
            correct += (logits.argmax(dim=-1) == targets).sum(dim=1)
            losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (N, B)
            entropy += losses.sum(dim=1, dtype=torch.float64)
        penalty = self._l2reg[:, 0] * (weights.square() * self._kernel_mask).sum(dim=1)
        return correct.double() / len(labels), entropy / len(labels) + penalty

    def _evaluation_block(self) -> int:
        inputs = KERNEL_SIZE**2 * self.cohort.architecture.num_units
        patch_bytes = 4 * self.cohort.size * max(side**2 for side in self.sides) * inputs
        return max(1, EVALUATION_BYTES.get(self.device.type, DEFAULT_EVALUATION_BYTES) // patch_bytes)


@dataclass(frozen=True)
class _Trace:
    """What the backward pass needs of the forward pass."""

    patches: list[Tensor]  # per convolution (N or 1, B * Q, K)
    activations: list[Tensor]  # per convolution (N, B, H, W, U), before dropout
    pooled: Tensor  # (N, B, U)
    logits: Tensor  # (N, B, 10)


def _normalised(images: Tensor) -> Tensor:
    """(B, H, W, C) uint8 -> (B, H, W) in [-1, 1]; the arithmetic of `images.network_input`."""
    return (images.float() / 255 * 2 - 1).mean(dim=-1)


def _store(rows: Tensor, variable: Variable, value: Tensor) -> None:
    rows[:, variable.start : variable.end] = value.reshape(len(rows), -1)


def _windows(side: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield each kernel position with the rows and columns of the input that it meets."""
    reach = STRIDE * (side - 1) + 1
    for row in range(KERNEL_SIZE):
        for column in range(KERNEL_SIZE):
            yield row, column, slice(row, row + reach, STRIDE), slice(column, column + reach, STRIDE)


def _patches(features: Tensor) -> tuple[Tensor, int]:
    """See `stacked.Patches`."""
    networks, images, before, _, channels = features.shape
    side = (before - KERNEL_SIZE) // STRIDE + 1
    result = features.new_empty(networks, images, side, side, KERNEL_SIZE, KERNEL_SIZE, channels)
    for row, column, rows, columns in _windows(side):
        result[:, :, :, :, row, column] = features[:, :, rows, columns]
    return result.view(networks, images * side * side, -1), side


def _fold(columns: Tensor, images: int, side: int, target_side: int) -> Tensor:
    """The transpose of `_patches`: (N, B * side * side, K) -> (N, B, target_side, target_side, C), summed."""
    networks = len(columns)
    patches = columns.view(networks, images, side, side, KERNEL_SIZE, KERNEL_SIZE, -1)
    result = columns.new_zeros(networks, images, target_side, target_side, patches.shape[-1])
    for row, column, rows, cols in _windows(side):
        result[:, :, rows, cols] += patches[:, :, :, :, row, column]
    return result


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


class _Dropout:
    """The masks of `training.dropout` for all networks of a cohort, drawn on the device.

    torch has no unsigned 32-bit arithmetic on every device; int32 wraps the same way, and a right shift is made
    logical by masking off the copied sign bits.
    """

    def __init__(self, cohort: Cohort, device: torch.device) -> None:
        self.device = device
        self.keys = cohort.dropout_keys
        self.plan = cohort.mask_plan
        self.sides = cohort.architecture.feature_sizes(cohort.image_size)
        thresholds = [dropout.threshold(rate) for rate in cohort.dropout]
        self.thresholds = torch.tensor(thresholds, dtype=torch.int32, device=device)[:, None, None, None]
        scale = torch.from_numpy((1 / (1 - cohort.dropout)).astype(np.float32))
        self.scale = scale.to(device)[:, None, None, None]  # (N, 1, 1, 1)

    def step_keys(self, first_step: int, steps: int) -> Tensor:
        """Return the keys of S steps, int32 (S, N, 2)."""
        counters = np.arange(first_step, first_step + steps, dtype=np.uint32)
        pairs = np.stack([counters, counters + np.uint32(2**31)], axis=1)  # (S, 2)
        keys = np.stack([dropout.words(pairs, (int(a), int(b))) for a, b in self.keys], axis=1)  # (S, N, 2)
        return torch.from_numpy(keys.view(np.int32)).to(self.device)

    def masks(self, keys: Tensor, images: int) -> list[Tensor]:
        """Return, per layer, 0 or 1 / (1 - rate): float32 (N, B, H, W, U). `keys` are those of one step, (N, 2)."""
        starts = torch.arange(images, dtype=torch.int32, device=self.device)[:, None] * self.plan.image_words  # (B, 1)
        result = []
        for side, offset, count in zip(self.sides, self.plan.offsets, self.plan.layer_words, strict=True):
            counters = starts + torch.arange(
                offset, offset + count, dtype=torch.int32, device=self.device
            )  # (B, words)
            drawn = _words(counters, keys[:, 0, None, None], keys[:, 1, None, None])  # (N, B, words)
            drawn = drawn.view(len(keys), images, -1, 1, self.plan.channels)
            halves = torch.cat([drawn & 0xFFFF, (drawn >> 16) & 0xFFFF], dim=3)  # (N, B, pairs, 2, U)
            halves = halves.view(len(keys), images, -1, self.plan.channels)[:, :, : side * side]
            mask = (halves >= self.thresholds) * self.scale
            result.append(mask.view(len(keys), images, side, side, self.plan.channels))
        return result


def _words(counters: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`dropout.words` on int32 tensors."""
    x = counters * _signed(dropout.WEYL) + first
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _signed(dropout.MULTIPLIER_1)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = (x ^ second) * _signed(dropout.MULTIPLIER_2)
    return x ^ ((x >> 15) & 0x1FFFF)


def _signed(word: int) -> int:
    """The int32 with the bits of an unsigned 32-bit word."""
    return word - 2**32 if word >= 2**31 else word
