"""Which images a network sees, and in which order.

Networks of one collection with the same training fraction see the same images in the same order; a new order every
epoch. All of it is a function of (root seed, collection, fraction, epoch).

Shape letters: M images, S steps of one epoch, B images of a minibatch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core import seeds
from cnnzoo.core.errors import CnnzooError


@dataclass(frozen=True)
class Schedule:
    """The minibatches of every epoch, for all networks of one collection that share a training fraction.

    Raises `CnnzooError` if the fraction leaves less than one minibatch.
    """

    seed: int
    collection: str
    fraction: float
    images: int
    """Size of the whole training set."""
    minibatch: int

    def __post_init__(self) -> None:
        if self.subset_size < self.minibatch:
            raise CnnzooError(
                f"`populations.{self.collection}.minibatch={self.minibatch}` is larger than the {self.subset_size} "
                f"images that `train_fraction={self.fraction}` leaves of {self.images}: no network could take a step. "
                f"Use a minibatch of at most {self.subset_size}, or larger fractions in `recipes.train_fraction`."
            )

    @property
    def subset_size(self) -> int:
        """Number of images that these networks train on."""
        return int(self.images * self.fraction)

    @property
    def steps(self) -> int:
        """Minibatches of one epoch, S; the last incomplete one is dropped."""
        return self.subset_size // self.minibatch

    @property
    def passes(self) -> int:
        """Images that a network is trained on in one epoch."""
        return self.steps * self.minibatch

    @cached_property
    def subset(self) -> NDArray[np.int64]:
        """The images of the training subset, int64 (int(M * fraction),), ascending."""
        random = seeds.generator(self.seed, "subset", self.collection, repr(self.fraction))
        return np.sort(random.permutation(self.images)[: self.subset_size])

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return positions in `subset`, int64 (S, B), of the minibatches of one epoch (the first is 1)."""
        random = seeds.generator(self.seed, "order", self.collection, repr(self.fraction), epoch)
        order = random.permutation(self.subset_size)
        return order[: self.passes].reshape(self.steps, self.minibatch)
