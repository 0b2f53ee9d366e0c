"""What every engine does: train the networks of one cohort, step for step, with the same arithmetic.

Engines differ in speed and in rounding, in nothing else. Everything random is decided before they start: initial
weights, minibatches and dropout keys are handed in.

Shape letters: N networks, P parameters, S steps, B images of a minibatch, M images, H W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cnnzoo.network.layout import Architecture, Layout, layout_of
from cnnzoo.training.dropout import MaskPlan

ADAM_BETA_1 = 0.9
ADAM_BETA_2 = 0.999
RMSPROP_RHO = 0.9
EPSILON = 1e-7
"""Keras 2 defaults (tf.keras.optimizers, TensorFlow 2.x)."""
SLOTS = {"sgd": (), "rmsprop": ("v",), "adam": ("m", "v")}
"""What each optimizer remembers of every parameter."""


@dataclass(frozen=True)
class Cohort:
    """The networks to train side by side: one architecture, optimizer and activation, hyperparameters each."""

    architecture: Architecture
    image_size: int
    optimizer: str
    activation: str
    learning_rate: NDArray[np.float64]  # (N,)
    l2reg: NDArray[np.float64]  # (N,)
    dropout: NDArray[np.float64]  # (N,)
    dropout_keys: NDArray[np.uint32]  # (N, 2)

    @property
    def size(self) -> int:
        """Number of networks N."""
        return len(self.learning_rate)

    def part(self, networks: slice) -> "Cohort":
        """Return the cohort of some of the networks."""
        per_network = ("learning_rate", "l2reg", "dropout", "dropout_keys")
        return replace(self, **{name: getattr(self, name)[networks] for name in per_network})

    @property
    def state_names(self) -> tuple[str, ...]:
        """What an engine keeps of every network, each (N, P): `weights` and the optimizer's slots."""
        return ("weights", *SLOTS[self.optimizer])

    @property
    def layout(self) -> Layout:
        """Where each parameter lies in a row of weights."""
        return layout_of(self.architecture)

    @property
    def mask_plan(self) -> MaskPlan:
        """Where each dropout mask lies among the words of an image."""
        sides = self.architecture.feature_sizes(self.image_size)
        return MaskPlan(tuple(side * side for side in sides), self.architecture.num_units)


@dataclass(frozen=True)
class Scores:
    """Accuracy (a fraction) and loss (mean cross-entropy + L2 term) of each network on one set of images."""

    accuracy: NDArray[np.float64]  # (N,)
    loss: NDArray[np.float64]  # (N,)


class Engine(Protocol):
    """Trains one cohort. `step` counts minibatches since the initialisation; the first is 0."""

    name: str
    numerics: str
    """Version of the arithmetic: raised whenever the same input would give other bits."""

    def load_images(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Take the training images (M, H, W, C) that minibatch indices point into. Called once, before `train`."""

    def train(self, minibatches: NDArray[np.int64], first_step: int) -> None:
        """Run S steps on minibatches (S, B) of image indices; the optimizer's step number is first_step + 1 ..."""

    def evaluate(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Scores:
        """Score every network on images (M, H, W, C), without dropout."""

    def weights(self) -> NDArray[np.float32]:
        """Return a copy of all weights (N, P)."""

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of everything that later steps depend on: `weights` and the optimizer's slots, each (N, P)."""

    def load_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Continue from what `state` returned; slots that are missing start at zero."""
