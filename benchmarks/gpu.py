"""Rates of the cuda and the batched engine on a GPU, after a comparison of the cuda engine's bits with the CPU's.

python benchmarks/gpu.py --networks 1056 --rounds 3
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from _machine import describe, spread
from cnnzoo import kernel
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines import cuda
from cnnzoo.training.engines.base import Cohort, Engine
from cnnzoo.training.engines.batched import BatchedEngine
from cnnzoo.training.engines.cuda import CudaEngine
from cnnzoo.training.engines.native import NativeEngine

MINIBATCH, STEPS, IMAGES = 512, 20, 8192
SHAPES = {
    "published, relu": {},
    "published, relu, no dropout": {"dropout": 0.0},
    "published, tanh": {"activation": "tanh"},
    "published, 32x32": {"side": 32},
    "8 channels": {"units": 8},
    "32 channels": {"units": 32},
    "64 channels": {"units": 64},
}


def cohort(networks: int, units: int = 16, side: int = 28, activation: str = "relu", dropout: float = 0.2) -> Cohort:
    return Cohort(
        architecture=Architecture(num_units=units),
        image_size=side,
        optimizer="adam",
        activation=activation,
        learning_rate=np.full(networks, 1e-3),
        l2reg=np.full(networks, 1e-5),
        dropout=np.full(networks, dropout),
        dropout_keys=np.random.default_rng(0).integers(0, 2**32, (networks, 2), dtype=np.uint32),
    )


def ready(engine: Engine, of: Cohort) -> Engine:
    """Give an engine random images and weights."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (IMAGES, of.image_size, of.image_size, 1), dtype=np.uint8)
    engine.load_images(images, random.integers(0, 10, IMAGES).astype(np.uint8))
    scale = 1 / np.sqrt(9 * of.architecture.num_units / 4)
    engine.load_state({"weights": random.normal(0, scale, (of.size, of.layout.size)).astype(np.float32)})
    return engine


def minibatches(steps: int) -> NDArray[np.int64]:
    return np.random.default_rng(2).integers(0, IMAGES, (steps, MINIBATCH))


def check(of: Cohort) -> None:
    """Train with the cuda and the native engine; raise SystemExit unless every bit is equal."""
    ours, theirs = ready(CudaEngine(of), of), ready(NativeEngine(of), of)
    for engine in (ours, theirs):
        engine.train(minibatches(3), first_step=0)
    for name, state in theirs.state().items():
        if not np.array_equal(ours.state()[name].view(np.uint8), state.view(np.uint8)):
            raise SystemExit(f"{name} differs from the native engine's: not timed")


def rates(engine: Engine, networks: int, rounds: int) -> list[float]:
    """Return images/s of each round; the first call, which is not counted, warms up."""
    engine.train(minibatches(2), first_step=0)
    steps, results = minibatches(STEPS), []
    for _ in range(rounds):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        engine.train(steps, first_step=2)
        torch.cuda.synchronize()
        results.append(networks * steps.size / (time.perf_counter() - begun))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=1056, help="a multiple of twice the multiprocessors fills them")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    no_gpu = cuda.unavailable_reason()
    if no_gpu is not None:
        print(f"Nothing measured: {no_gpu}")
        return
    reason = kernel.unavailable_reason()
    print(f"bits not compared: {reason}" if reason else "checked: the cuda engine gives the native engine's bits")
    print(f"\n{torch.cuda.get_device_name()}, n = {arguments.rounds}\n\n| | images/s | TFLOP/s |\n|---|---|---|")
    batched = cohort(min(256, arguments.networks))
    engines: list[tuple[str, Cohort, Callable[[Cohort], Engine]]] = [
        (f"batched engine, {batched.size} networks", batched, lambda of: BatchedEngine(of, "cuda"))
    ]
    for name, changes in SHAPES.items():
        if reason is None:
            check(cohort(2, **changes))
        engines.append((name, cohort(arguments.networks, **changes), CudaEngine))
    for name, of, make in engines:
        measured = rates(ready(make(of), of), of.size, arguments.rounds)
        tera = 2 * of.architecture.multiply_adds(of.image_size) * statistics.median(measured) / 1e12
        print(f"| {name} | {spread(measured)} | {tera:.2f} |")
    print(f"\n{describe(['torch', 'numpy'])}")


if __name__ == "__main__":
    main()
