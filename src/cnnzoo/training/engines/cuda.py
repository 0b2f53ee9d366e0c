"""The cuda engine: the native engine's arithmetic on an NVIDIA GPU (kernel/csrc/block.cu), a thread block per network.

A network stays in the shared memory of one multiprocessor for a whole call. The kernel is compiled for the cohort's
shape when the engine is made (by NVRTC through CuPy, which keeps what it compiled), and gives the native engine's bits.

Shape letters: N networks, P parameters, S steps, B images of a minibatch, M images, H W pixels.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import network_input
from cnnzoo.kernel import SOURCES
from cnnzoo.network.layout import KERNEL_SIZE, Architecture
from cnnzoo.training import dropout
from cnnzoo.training.engines.base import Cohort, Scores
from cnnzoo.training.engines.native import NativeEngine

OPTIONS = ("-std=c++17", "-ftz=true", "-fmad=false", "-prec-div=true", "-prec-sqrt=true")
"""Denormals are zero and nothing is fused but what says so; division and square root are rounded correctly."""
SHARED_BYTES = 227 << 10
"""Shared memory of a multiprocessor (compute capability 9.0); a smaller one is asked for its own size."""
RESERVED_BYTES = 1 << 10
"""What each block takes of it besides."""
BLOCKS = 2
"""Blocks of a multiprocessor: while one waits at a barrier the other works."""
MOST_IMAGES = 4
"""Images in shared memory at a time: more of them gain nothing (docs/performance.md)."""
THREADS = 192
"""Threads of a block: measured, as `MOST_IMAGES`, with the published network."""
NAN = -np.float64(np.nan)
"""The not-a-number that x86 makes: a GPU makes another, and a diverged network should have the same bytes."""


def unavailable_reason() -> str | None:
    """Return why the kernel cannot be used, or None if CuPy finds a GPU and can compile for it."""
    try:
        cupy = importlib.import_module("cupy")
        if not cupy.cuda.is_available():
            return "CuPy finds no CUDA device"
    except ImportError:
        return "CuPy is not installed. Install it with `pip install 'cnnzoo[cuda]'`"
    return None


@dataclass(frozen=True)
class Plan:
    """How a block works: images at a time, and whether the kernels have room beside them in shared memory."""

    group: int
    kernels_shared: bool


def plan(architecture: Architecture, image_size: int, shared_bytes: int = SHARED_BYTES) -> Plan:
    """Return the plan that leaves room for `BLOCKS` blocks, or for one if there is none for more.

    Raises `CnnzooError` if a single image and its feature maps do not fit.
    """
    quads = -(-architecture.num_units // 4)
    row = 4 * (quads | 1)  # see kernel/csrc/block.cu
    positions = sum(side * side for side in architecture.feature_sizes(image_size))
    image = 4 * (image_size**2 + (positions + 1) * row + architecture.num_classes + 4)
    biases = 4 * (architecture.num_layers * row + architecture.num_classes + 4)
    rows = KERNEL_SIZE**2 * (1 + (architecture.num_layers - 1) * architecture.num_units)
    kernels = 4 * (rows * row + architecture.num_units * architecture.num_classes + 4)
    for blocks in (BLOCKS, 1):
        room = shared_bytes // blocks - RESERVED_BYTES - biases
        for kernels_shared, left in ((True, room - kernels), (False, room)):
            if left >= image:
                return Plan(min(MOST_IMAGES, left // image), kernels_shared)
    raise CnnzooError(
        f"`engine: cuda`: a network of {architecture.num_units} units on {image_size}x{image_size} pixels needs "
        f"{(image + biases) >> 10} KB of shared memory, a block has {shared_bytes >> 10} KB. Use `engine: batched`."
    )


class CudaEngine:
    """All networks of a cohort on one GPU, a block of threads each; `device` is `cuda` or `cuda:<index>`.

    Raises `CnnzooError` if there is no such GPU, CuPy is missing or a network does not fit a multiprocessor.
    """

    name = "cuda"
    numerics = NativeEngine.numerics

    def __init__(self, cohort: Cohort, device: str = "cuda") -> None:
        reason = unavailable_reason()
        if reason is not None:
            raise CnnzooError(f"`engine: cuda` is not available: {reason}, or use `engine: batched`.")
        self.cohort = cohort
        self._cupy: Any = importlib.import_module("cupy")
        self._device = self._cupy.cuda.Device(int(device.partition(":")[2] or 0))
        with self._device:
            scaled_size = self._compile()
            shape = (cohort.size, cohort.layout.size)
            self._arrays = {name: self._cupy.zeros(shape, np.float32) for name in cohort.state_names}
            self._sums = self._cupy.zeros(shape, np.float32)
            self._scaled = self._cupy.zeros((1 if self._plan.kernels_shared else cohort.size, scaled_size), np.float32)
            self._learning_rate = self._to_device(cohort.learning_rate, np.float64)
            self._l2reg = self._to_device(cohort.l2reg, np.float64)
            self._keys = self._to_device(cohort.dropout_keys, np.uint32)
            thresholds = np.array([dropout.threshold(rate) for rate in cohort.dropout])
            self._thresholds = self._to_device(thresholds, np.uint32)
            self._scales = self._to_device(1 / (1 - cohort.dropout), np.float32)
        self._seen: list[_Images] = []

    def load_images(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """See `Engine.load_images`."""
        self._training = self._prepared(images, labels)

    def train(self, minibatches: NDArray[np.int64], first_step: int) -> None:
        """See `Engine.train`. Raises `ValueError` if an index is not one of an image."""
        training = self._training
        if minibatches.size and not 0 <= minibatches.min() <= minibatches.max() < training.count:
            raise ValueError("an index is not below the number of images")
        steps, size = minibatches.shape
        with self._device:
            # A slot that the optimizer does not have is never touched.
            m, v = (self._arrays.get(name, self._sums) for name in ("m", "v"))
            state = (self._arrays["weights"], m, v, self._sums, self._scaled)
            settings = (self._learning_rate, self._l2reg, self._keys, self._thresholds, self._scales)
            indices = self._to_device(minibatches, np.int64)
            numbers = (np.int32(steps), np.int32(size), np.uint32(first_step))
            self._launch(self._train, (*state, *settings, training.pixels, training.labels, indices, *numbers))

    def evaluate(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Scores:
        """See `Engine.evaluate`."""
        prepared = self._prepared(images, labels)
        with self._device:
            accuracy, loss = (self._cupy.zeros(self.cohort.size, np.float64) for _ in range(2))
            network = (self._arrays["weights"], self._scaled, self._l2reg)
            what = (prepared.pixels, prepared.labels, np.int32(prepared.count))
            self._launch(self._evaluate, (*network, *what, accuracy, loss))
            return Scores(self._to_host(accuracy), self._to_host(loss))

    def weights(self) -> NDArray[np.float32]:
        """See `Engine.weights`."""
        return self.state()["weights"]

    def state(self) -> dict[str, NDArray[np.float32]]:
        """See `Engine.state`."""
        with self._device:
            return {name: self._to_host(array) for name, array in self._arrays.items()}

    def load_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """See `Engine.load_state`."""
        with self._device:
            for name, array in self._arrays.items():
                array[...] = self._to_device(state[name], np.float32) if name in state else 0

    def _compile(self) -> int:
        """Make the kernels; return the floats of a network's scaled weights."""
        architecture, image_size = self.cohort.architecture, self.cohort.image_size
        most = self._device.attributes["MaxSharedMemoryPerBlockOptin"]
        self._plan = plan(architecture, image_size, min(SHARED_BYTES, most))
        macros = {
            "UNITS": architecture.num_units,
            "LAYERS": architecture.num_layers,
            "CLASSES": architecture.num_classes,
            "IMAGE_SIDE": image_size,
            "ACTIVATION": self.cohort.activation,
            "OPTIMIZER": self.cohort.optimizer,
            "GROUP": self._plan.group,
            "THREADS": THREADS,
            "KERNELS_SHARED": str(self._plan.kernels_shared).lower(),
        }
        options = (*OPTIONS, f"-I{SOURCES}", *(f"-D{name}={value}" for name, value in macros.items()))
        module = self._cupy.RawModule(code=(SOURCES / "block.cu").read_text(), options=options)
        self._shared_bytes, scaled_size = (
            int(self._cupy.ndarray((), np.int32, module.get_global(f"cnnzoo_{name}")))
            for name in ("shared_bytes", "scaled_size")
        )
        self._train, self._evaluate = (module.get_function(f"cnnzoo_{name}") for name in ("train", "evaluate"))
        for kernel in (self._train, self._evaluate):
            kernel.max_dynamic_shared_size_bytes = self._shared_bytes
        return scaled_size

    def _launch(self, kernel: Any, arguments: tuple[Any, ...]) -> None:
        kernel((self.cohort.size,), (THREADS,), arguments, shared_mem=self._shared_bytes)
        self._cupy.cuda.get_current_stream().synchronize()

    def _to_device(self, array: NDArray[Any], dtype: Any) -> Any:
        return self._cupy.asarray(np.ascontiguousarray(array, dtype))

    def _to_host(self, array: Any) -> NDArray[Any]:
        copy: NDArray[Any] = self._cupy.asnumpy(array)
        copy[np.isnan(copy)] = NAN
        return copy

    def _prepared(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> "_Images":
        """Return images on the device; the last few arrays are kept, as evaluation repeats them."""
        for seen in self._seen:
            if seen.images is images and seen.labels_given is labels:
                return seen
        if len(labels) and labels.max() >= self.cohort.architecture.num_classes:
            raise ValueError("a label is not below the number of classes")
        with self._device:
            pixels = self._to_device(network_input(images), np.float32)
            found = _Images(images, labels, pixels, self._to_device(labels, np.uint8))
        self._seen = [found, *self._seen[:2]]
        return found


@dataclass(frozen=True)
class _Images:
    """Images uint8 (M, H, W, C) and labels (M,), with what the kernel reads: float32 (M, H, W), uint8 (M,)."""

    images: NDArray[np.uint8]
    labels_given: NDArray[np.uint8]
    pixels: Any
    labels: Any

    @property
    def count(self) -> int:
        """Number of images M."""
        return len(self.images)
