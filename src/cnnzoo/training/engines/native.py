"""The native engine: a fused CPU kernel in C++ (kernel/csrc), the networks of a cohort spread over all cores.

A network stays with one thread for a whole call and no sum sees another network, so its bits depend on neither the
number of threads nor the cohort. The arithmetic is defined to the bit (csrc/network.h, csrc/elementary.h): builds
for every instruction set and by every compiler give the same, and so does the definition itself in plain loops
(`reference`).

Shape letters: N networks, P parameters, S steps, B images of a minibatch, M images, H W pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.cores import usable_cores
from cnnzoo.images import network_input
from cnnzoo.kernel import extension
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines.base import Cohort, Scores

PEAK_S = 0.1


def peak_rate(architecture: Architecture, image_size: int, threads: int = 0) -> float:
    """Return the images/s of training that all threads' multiply-add units would allow: measured, takes PEAK_S."""
    cores = threads or usable_cores()
    flops: float = extension().fma_peak(PEAK_S, cores)  # of one thread, by its CPU time
    return cores * flops / (2 * architecture.multiply_adds(image_size))


def side_by_side(architecture: Architecture, image_size: int) -> int:
    """Return how many networks a thread trains at once: one for each lane of a vector if they are narrow, else one."""
    count: int = extension().side_by_side(
        image_size=image_size,
        units=architecture.num_units,
        layers=architecture.num_layers,
        classes=architecture.num_classes,
    )
    return count


class NativeEngine:
    """All networks of a cohort, each by one thread at a time; `threads` 0 = all cores.

    `reference` takes the definition of the arithmetic instead of the fast kernel: the same bits, slowly, for tests.

    Raises `CnnzooError` if the kernel is not available. An interrupted call (Ctrl-C) leaves the networks at
    different steps: load a state before going on.
    """

    name = "native"
    numerics = "3"

    def __init__(self, cohort: Cohort, threads: int = 0, *, reference: bool = False) -> None:
        module = extension()
        self.cohort = cohort
        self.threads = threads or usable_cores()
        shape = (cohort.size, cohort.layout.size)
        self._arrays = {name: np.zeros(shape, np.float32) for name in cohort.state_names}
        self._kernel = module.Cohort(
            image_size=cohort.image_size,
            units=cohort.architecture.num_units,
            layers=cohort.architecture.num_layers,
            classes=cohort.architecture.num_classes,
            activation=cohort.activation,
            optimizer=cohort.optimizer,
            weights=self._arrays["weights"],
            m=self._arrays.get("m"),
            v=self._arrays.get("v"),
            learning_rate=np.ascontiguousarray(cohort.learning_rate, np.float64),
            l2reg=np.ascontiguousarray(cohort.l2reg, np.float64),
            dropout=np.ascontiguousarray(cohort.dropout, np.float64),
            keys=np.ascontiguousarray(cohort.dropout_keys, np.uint32),
            reference=reference,
        )
        self._seen: list[_Images] = []

    def load_images(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """See `Engine.load_images`."""
        self._training = self._prepared(images, labels)

    def train(self, minibatches: NDArray[np.int64], first_step: int) -> None:
        """See `Engine.train`."""
        training = self._training
        self._kernel.train(training.pixels, training.labels, _contiguous(minibatches), first_step, self.threads)

    def evaluate(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Scores:
        """See `Engine.evaluate`."""
        prepared = self._prepared(images, labels)
        scores = Scores(np.empty(self.cohort.size), np.empty(self.cohort.size))
        self._kernel.evaluate(prepared.pixels, prepared.labels, self.threads, scores.accuracy, scores.loss)
        return scores

    def gradient(self, minibatch: NDArray[np.int64], step: int) -> NDArray[np.float32]:
        """Return the gradient (N, P) of the loss on one minibatch (B,) with the masks of a step; for tests."""
        gradient = np.empty_like(self._arrays["weights"])
        training = self._training
        self._kernel.gradient(training.pixels, training.labels, _contiguous(minibatch[None]), step, gradient)
        return gradient

    def weights(self) -> NDArray[np.float32]:
        """See `Engine.weights`."""
        return self._arrays["weights"].copy()

    def state(self) -> dict[str, NDArray[np.float32]]:
        """See `Engine.state`."""
        return {name: array.copy() for name, array in self._arrays.items()}

    def load_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """See `Engine.load_state`."""
        for name, array in self._arrays.items():
            array[:] = state.get(name, 0)

    def _prepared(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> "_Images":
        """Return images as the kernel wants them; the last few arrays are kept, as evaluation repeats them."""
        for seen in self._seen:
            if seen.images is images and seen.labels_given is labels:
                return seen
        self._seen = [_Images(images, labels), *self._seen[:2]]
        return self._seen[0]


class _Images:
    """Images uint8 (M, H, W, C) and labels (M,), with what the kernel reads: float32 (M, H, W), uint8 (M,)."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        self.images, self.labels_given = images, labels
        self.pixels = np.ascontiguousarray(network_input(images))
        self.labels = np.ascontiguousarray(labels, np.uint8)


def _contiguous(indices: NDArray[Any]) -> NDArray[np.int64]:
    return np.ascontiguousarray(indices, np.int64)
