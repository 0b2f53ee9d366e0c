"""Which engine trains: the user's choice, or the fastest one this machine has."""

import warnings
from dataclasses import dataclass

import torch

from cnnzoo import kernel
from cnnzoo.config import EngineName, Runtime
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines import cuda, native
from cnnzoo.training.engines.base import Cohort, Engine
from cnnzoo.training.engines.batched import BatchedEngine, network_bytes
from cnnzoo.training.engines.cuda import CudaEngine
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.engines.reference import ReferenceEngine

CPU_STACK_IMAGES = 512
"""Images (networks x minibatch) that the batched engine stacks on a CPU: measured, what stays in a 1 MiB L2 cache."""
GPU_MEMORY_SHARE = 0.8
"""Share of a GPU's free memory that a step may take; the rest is for images and fragmentation."""
SIDE_BY_SIDE = {"batched": 8, "cuda": 256}
"""Networks that these engines must train at once to reach their full rate; the reference engine needs one."""
CLASSES: dict[str, type[Engine]] = {
    "native": NativeEngine,
    "cuda": CudaEngine,
    "batched": BatchedEngine,
    "reference": ReferenceEngine,
}


@dataclass(frozen=True)
class EngineChoice:
    """A resolved engine: its name, the version of its arithmetic, where and on how many threads it runs."""

    name: str
    device: str
    threads: int

    @property
    def numerics(self) -> str:
        """Version of the engine's arithmetic (see `Engine.numerics`)."""
        return CLASSES[self.name].numerics

    @property
    def arithmetic(self) -> str:
        """What names the bits in a shard's origin: the engine, or that whose bits it gives."""
        return NativeEngine.name if self.name == CudaEngine.name else self.name

    def check(self, architecture: Architecture, image_size: int) -> None:
        """Raise `CnnzooError` if the engine cannot train such networks."""
        if self.name == CudaEngine.name:
            cuda.plan(architecture, image_size)

    def make(self, cohort: Cohort, minibatch: int) -> Engine:
        """Return an engine for one cohort."""
        if self.name == "native":
            return NativeEngine(cohort, threads=self.threads)
        if self.name == "cuda":
            return CudaEngine(cohort, self.device)
        if self.name == "reference":
            return ReferenceEngine(cohort)
        return BatchedEngine(cohort, self.device, self._stack_size(cohort, minibatch))

    def peak_rate(self, architecture: Architecture, image_size: int) -> float | None:
        """Return the images/s at the peak of all cores' multiply-add units; None for engines that measure none."""
        return native.peak_rate(architecture, image_size, self.threads) if self.name == "native" else None

    def side_by_side(self, architecture: Architecture, image_size: int) -> int:
        """Return how many networks a worker (a thread, or the whole device) must train at once for its full rate."""
        if self.name == "native":
            return native.side_by_side(architecture, image_size)
        return SIDE_BY_SIDE.get(self.name, 1)

    def _stack_size(self, cohort: Cohort, minibatch: int) -> int | None:
        """Return how many networks are trained at once: what a CPU's cache holds, or a GPU's free memory.

        On a GPU a power of two, so that a resumed run finds the same size though a little more or less is free.
        """
        if self.device == "cpu":
            return max(1, CPU_STACK_IMAGES // minibatch)
        if not self.device.startswith("cuda"):
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        fitting = int(GPU_MEMORY_SHARE * free) // network_bytes(cohort.architecture, cohort.image_size, minibatch)
        return 1 << max(0, fitting.bit_length() - 1)


def choose(name: EngineName, runtime: Runtime) -> EngineChoice:
    """Resolve `train.engine` and `runtime.device` on this machine.

    `auto` takes cuda on an NVIDIA GPU, batched on another, native on a CPU, and batched where the kernel of its choice
    is missing (with one warning that says why). Raises `CnnzooError` if what was asked for is not there.
    """
    device = _device(runtime.device)
    wanted = (
        ("cuda" if device.startswith("cuda") else "native" if device == "cpu" else "batched")
        if name == "auto"
        else name
    )
    missing = _missing(wanted, device)
    if missing and name == "auto":
        warnings.warn(
            f"the {wanted} engine is not available ({missing}); training with the slower batched engine", stacklevel=2
        )
        wanted = "batched"
    elif missing:
        raise CnnzooError(f"`train.engine={name}` is not available: {missing}. Use `auto`, `batched` or `reference`.")
    return EngineChoice(wanted, device if wanted in {"batched", "cuda"} else "cpu", runtime.threads)


def _missing(name: str, device: str) -> str | None:
    """Return why an engine cannot run on a device, or None."""
    if name == "native":
        return kernel.unavailable_reason()
    if name == "cuda" and not device.startswith("cuda"):
        return f"it runs on an NVIDIA GPU, and torch finds none or `runtime.device` names another device ({device})"
    return cuda.unavailable_reason() if name == "cuda" else None


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise CnnzooError(f"`runtime.device={wanted}`: torch finds no CUDA device here. Use `auto` or `cpu`.")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise CnnzooError("`runtime.device=mps`: torch finds no Metal device here. Use `auto` or `cpu`.")
    return wanted
