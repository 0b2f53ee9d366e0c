"""How fast networks are trained: `python benchmarks/training.py [--rounds 7] [--images 8192]`.

One run, one machine, the same work: the published network (16 channels, 3 layers), minibatches of 512 of 28x28 images,
Adam, dropout 0.35; then other widths and depths. The contenders, plainest first: a Lightning loop with a DataLoader,
a tight PyTorch loop (channels_last), torch.func.vmap over 8 networks, the batched engine with 8, the native engine.
Each is checked against the reference engine before it is timed: its gradient without dropout, from the same weights.

The contenders take turns in each round, next to the core's peak of fused multiply-adds in registers; ratios are taken
within a round. Rates of one core count CPU time, so that other programs on the machine do not; those of all cores
count time on the wall. FLOP are those of the multiply-adds of the forward and backward pass, nothing else.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from _machine import describe, spread
from cnnzoo.core.cores import usable_cores
from cnnzoo.images import network_input
from cnnzoo.kernel import _native
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines.base import ADAM_BETA_1, ADAM_BETA_2, EPSILON, Cohort, Engine
from cnnzoo.training.engines.batched import BatchedEngine
from cnnzoo.training.engines.choice import EngineChoice
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.engines.reference import ReferenceEngine

PUBLISHED = Architecture()
DROPOUT = 0.35
LEARNING_RATE = 1e-3
STACKED = 8
"""Networks side by side in vmap and in the batched engine."""
TOGETHER = 16
"""Networks of other shapes: narrow ones pass side by side, as many as a vector has lanes."""
GRADIENT_RTOL = 1e-5
CHECKED_RATE = 1e3
PEAK_S = 0.1
MOST_IMAGES = 32768
"""Images of one run of a small network."""


@dataclass(frozen=True)
class Work:
    """What every contender does: `images` image passes in minibatches of `minibatch`."""

    images: int = 8192
    minibatch: int = 512
    image_size: int = 28
    activation: str = "relu"
    optimizer: str = "adam"
    architecture: Architecture = PUBLISHED

    @property
    def flop(self) -> int:
        """Floating point operations of one image pass, forward and backward."""
        return 2 * self.architecture.multiply_adds(self.image_size)

    def data(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images (M, H, W, 1) and labels (M,): random, as speed does not depend on them."""
        rng = np.random.default_rng(0)
        shape = (self.images, self.image_size, self.image_size, 1)
        return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 10, self.images).astype(np.uint8)

    def minibatches(self) -> NDArray[np.int64]:
        """Indices (S, B) of one epoch in a random order."""
        return np.random.default_rng(1).permutation(self.images).reshape(-1, self.minibatch)

    def cohort(self, networks: int, dropout: float = DROPOUT) -> Cohort:
        """`networks` networks that differ in their dropout keys."""
        keys = np.random.default_rng(2).integers(0, 2**32, (networks, 2), dtype=np.uint32)
        rates = np.full(networks, LEARNING_RATE), np.zeros(networks), np.full(networks, dropout)
        return Cohort(self.architecture, self.image_size, self.optimizer, self.activation, *rates, keys)


def initial_weights(cohort: Cohort) -> NDArray[np.float32]:
    """Random weights (N, P)."""
    return np.random.default_rng(3).normal(0, 0.1, (cohort.size, cohort.layout.size)).astype(np.float32)


# --- the contenders: each makes a function that does the work once and returns the image passes it did ---------------


def plain_network() -> nn.Sequential:
    """The network as anybody would write it in PyTorch."""
    layers: list[nn.Module] = []
    for channels in (1, 16, 16):
        layers += [nn.Conv2d(channels, 16, 3, stride=2), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class PlainModule(pl.LightningModule):
    """The network in a plain Lightning loop; times itself from the first to the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = plain_network()
        self.seconds = 0.0

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss of one minibatch."""
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), LEARNING_RATE, eps=EPSILON)

    def on_train_start(self) -> None:
        """Start the clock."""
        self.seconds = -time.process_time()

    def on_train_end(self) -> None:
        """Stop the clock."""
        self.seconds += time.process_time()


def tensors(work: Work) -> tuple[Tensor, Tensor]:
    """Images float32 (M, 1, H, W) and labels (M,) as PyTorch loops want them."""
    images, labels = work.data()
    return torch.from_numpy(network_input(images))[:, None], torch.from_numpy(labels).long()


def lightning_loop(work: Work) -> float:
    """Return image passes per CPU second of a plain Lightning loop with a DataLoader, without its start and end."""
    module = PlainModule()
    loader = DataLoader(TensorDataset(*tensors(work)), work.minibatch, shuffle=True)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return work.images / module.seconds


def tight_loop(work: Work) -> Callable[[], int]:
    """PyTorch with nothing in between: the data as one tensor, channels_last."""
    images, labels = tensors(work)
    network = plain_network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, eps=EPSILON)
    order = torch.from_numpy(work.minibatches())

    def run() -> int:
        for indices in order:
            inputs = images[indices].contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(inputs), labels[indices]).backward()
            optimizer.step()
        return work.images

    return run


def vmap_loop(work: Work) -> Callable[[], int]:
    """torch.func.vmap over STACKED networks, Adam on the stacked tensors."""
    images, labels = tensors(work)
    networks = [plain_network() for _ in range(STACKED)]
    parameters, _ = stack_module_state(networks)
    parameters = {name: tensor.detach() for name, tensor in parameters.items()}
    m = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    v = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}

    def loss(one: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(networks[0], one, (inputs,)), targets)

    gradients = vmap(grad(loss), in_dims=(0, None, None), randomness="different")
    order = torch.from_numpy(work.minibatches())

    def run() -> int:
        for indices in order:
            for name, g in gradients(parameters, images[indices], labels[indices]).items():
                m[name].lerp_(g, 1 - ADAM_BETA_1)
                v[name].mul_(ADAM_BETA_2).addcmul_(g, g, value=1 - ADAM_BETA_2)
                parameters[name].addcdiv_(m[name], v[name].sqrt().add_(EPSILON), value=-LEARNING_RATE)
        return work.images * STACKED

    return run


def batched_engine(work: Work) -> Callable[[], int]:
    """The batched engine with STACKED networks on the CPU, as `train.engine: batched` makes it."""
    return _engine_run(EngineChoice("batched", "cpu", 1).make(work.cohort(STACKED), work.minibatch), work)


def native_engine(work: Work, networks: int = 1, threads: int = 1) -> Callable[[], int]:
    """The native engine."""
    return _engine_run(NativeEngine(work.cohort(networks), threads), work)


def _engine_run(engine: Engine, work: Work) -> Callable[[], int]:
    engine.load_images(*work.data())
    networks = len(engine.weights())
    engine.load_state({"weights": initial_weights(work.cohort(networks))})
    minibatches = work.minibatches()

    def run() -> int:
        engine.train(minibatches, first_step=0)
        return work.images * networks

    return run


# --- the check: no number without the right gradient -----------------------------------------------------------------


def check(work: Work, networks: int = 1) -> None:
    """Compare every contender's gradient (no dropout) with the reference engine's; raises SystemExit on a difference.

    Plain gradient descent adds minus learning rate times gradient to the weights; the rate is so large that the weights
    do not round the sum.
    """
    small = replace(work, images=64, minibatch=64, optimizer="sgd")
    cohort, indices = small.cohort(networks, dropout=0.0), small.minibatches()
    cohort.learning_rate[:] = CHECKED_RATE
    start = initial_weights(cohort)
    moved = {}
    for engine in (ReferenceEngine(cohort, torch.float64), BatchedEngine(cohort, "cpu"), NativeEngine(cohort, 1)):
        engine.load_images(*small.data())
        engine.load_state({"weights": start})
        engine.train(indices, first_step=0)
        moved[engine.name] = engine.weights() - start
    if work.activation == "relu" and work.architecture == PUBLISHED:
        moved["the plain PyTorch network"] = _plain_step(cohort, start, small)
    want = moved.pop("reference")
    for name, got in moved.items():
        error = np.linalg.norm(got - want) / np.linalg.norm(want)
        if not error <= GRADIENT_RTOL:
            raise SystemExit(f"{name}: its gradient differs from the reference's by {error:.1e} (relative): not timed")
        print(f"checked: the gradient of {name} agrees with the reference to {error:.0e}")


def _plain_step(cohort: Cohort, start: NDArray[np.float32], work: Work) -> NDArray[np.float32]:
    """Return what one step of gradient descent adds to the weights (1, P) with the plain PyTorch network."""
    network = plain_network().eval()
    tensors_of = cohort.layout.split(start[0])
    parameters = dict(zip(tensors_of, _in_torch_order(network), strict=True))
    for name, parameter in parameters.items():
        parameter.data.copy_(_to_torch(torch.from_numpy(tensors_of[name])))
    images, labels = tensors(work)
    F.cross_entropy(network(images), labels).backward()
    steps = {name: -CHECKED_RATE * _from_torch(p.grad).numpy() for name, p in parameters.items() if p.grad is not None}
    return cohort.layout.join(steps)[None]


def _in_torch_order(network: nn.Sequential) -> list[nn.Parameter]:
    """Return the parameters in the order of a row of weights: per layer the bias, then the kernel."""
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [parameter for layer in layers for parameter in (layer.bias, layer.weight)]


def _to_torch(tensor: Tensor) -> Tensor:
    """HWIO -> OIHW, (in, out) -> (out, in)."""
    return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T if tensor.ndim == 2 else tensor


def _from_torch(tensor: Tensor) -> Tensor:
    return tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T if tensor.ndim == 2 else tensor


# --- measuring -------------------------------------------------------------------------------------------------------


def rate(run: Callable[[], int], clock: Callable[[], float]) -> float:
    """Image passes per second of one run."""
    start = clock()
    return run() / (clock() - start)


def one_core(work: Work, rounds: int) -> None:
    """Print the contenders' rates on one core."""
    torch.set_num_threads(1)
    runs = {
        "PyTorch, tight loop": tight_loop(work),
        f"torch.func.vmap, {STACKED} networks": vmap_loop(work),
        f"cnnzoo batched, {STACKED} networks": batched_engine(work),
        "cnnzoo native": native_engine(work),
    }
    for run in runs.values():
        run()
    lightning_loop(work)
    rates: dict[str, list[float]] = {"Lightning loop with DataLoader": [], **{name: [] for name in runs}}
    peaks = []
    for _ in range(rounds):
        rates["Lightning loop with DataLoader"].append(lightning_loop(work))
        for name, run in runs.items():
            rates[name].append(rate(run, time.process_time))
        peaks.append(_native.fma_peak(PEAK_S, 1))
    peak = spread([value / 1e9 for value in peaks], ".1f")
    print(f"\nOne core, n = {rounds} rounds: median (least to most). Peak: {peak} GFLOP/s.\n")
    print("| | images/s | GFLOP/s | share of peak | × tight loop | × Lightning loop |")
    print("|---|---|---|---|---|---|")
    tight, plain = rates["PyTorch, tight loop"], rates["Lightning loop with DataLoader"]
    for name, values in rates.items():
        flops = statistics.median(values) * work.flop / 1e9
        shares = [100 * value * work.flop / peak for value, peak in zip(values, peaks, strict=True)]
        by_tight = [value / other for value, other in zip(values, tight, strict=True)]
        by_plain = [value / other for value, other in zip(values, plain, strict=True)]
        columns = (
            spread(values),
            f"{flops:.1f}",
            f"{spread(shares, '.1f')} %",
            spread(by_tight, ".1f"),
            spread(by_plain, ".1f"),
        )
        print(f"| {name} | {' | '.join(columns)} |")


def native_rates(rows: list[Work], rounds: int, networks: int = 1) -> tuple[list[list[float]], list[list[float]]]:
    """Return the native engine's images/s on one core and percent of the peak, for each work in each round."""
    runs = [native_engine(row, networks) for row in rows]
    for run in runs:
        run()
    rates: list[list[float]] = [[] for _ in rows]
    shares: list[list[float]] = [[] for _ in rows]
    for _ in range(rounds):
        for index, (row, run) in enumerate(zip(rows, runs, strict=True)):
            rates[index].append(rate(run, time.process_time))
            shares[index].append(100 * rates[index][-1] * row.flop / _native.fma_peak(PEAK_S, 1))
    return rates, shares


def variants(work: Work, rounds: int) -> None:
    """Print the native engine's share of the peak for other images, activations, optimizers and minibatches."""
    rows = [
        replace(work, activation=activation, image_size=size) for size in (28, 32) for activation in ("relu", "tanh")
    ]
    rows += [replace(work, optimizer=optimizer) for optimizer in ("sgd", "rmsprop")] + [replace(work, minibatch=64)]
    rates, shares = native_rates(rows, rounds)
    print(
        "\nThe native engine on one core:\n\n| pixels | activation | optimizer | minibatch | images/s | share of peak |"
    )
    print("|---|---|---|---|---|---|")
    for row, values, share in zip(rows, rates, shares, strict=True):
        size = f"{row.image_size}x{row.image_size}"
        columns = size, row.activation, row.optimizer, str(row.minibatch), spread(values), f"{spread(share, '.1f')} %"
        print(f"| {' | '.join(columns)} |")


def shapes(work: Work, rounds: int) -> None:
    """Print the native engine's share of the peak for other widths and depths."""
    chosen = [(units, 3, 28) for units in (1, 3, 8, 12, 20, 24, 32, 64)]
    chosen += [(16, 1, 28), (16, 2, 28), (16, 4, 32), (32, 2, 28), (64, 4, 32)]
    rows = []
    for units, layers, size in chosen:
        row = replace(work, image_size=size, architecture=Architecture(num_units=units, num_layers=layers))
        images = int(work.images * work.flop / row.flop / TOGETHER) // work.minibatch * work.minibatch  # as `work`
        rows.append(replace(row, images=max(work.minibatch, min(images, MOST_IMAGES))))
    rates, shares = native_rates(rows, rounds, TOGETHER)
    print(f"\nThe native engine on one core, other shapes, {TOGETHER} networks:\n")
    print("| units | layers | pixels | images/s | share of peak |")
    print("|---|---|---|---|---|")
    for (units, layers, size), values, share in zip(chosen, rates, shares, strict=True):
        print(f"| {units} | {layers} | {size}x{size} | {spread(values)} | {spread(share, '.1f')} % |")


def all_cores(work: Work, rounds: int) -> None:
    """Print the native engine's and the tight loop's rates on all cores, by the clock on the wall."""
    cores = usable_cores()
    alone, together = native_engine(work, cores, threads=1), native_engine(work, cores, threads=cores)
    tight = tight_loop(work)
    rates: dict[str, list[float]] = {"tight": [], "one": [], "all": []}
    for _ in range(rounds):
        torch.set_num_threads(cores)
        rates["tight"].append(rate(tight, time.perf_counter))
        rates["one"].append(rate(alone, time.perf_counter))
        rates["all"].append(rate(together, time.perf_counter))
    torch.set_num_threads(1)
    scaling = [all_ / one for all_, one in zip(rates["all"], rates["one"], strict=True)]
    by_tight = [all_ / other for all_, other in zip(rates["all"], rates["tight"], strict=True)]
    print(f"\nAll {cores} cores, by the wall clock:\n\n| | images/s |\n|---|---|")
    print(f"| PyTorch, tight loop, {cores} threads | {spread(rates['tight'])} |")
    print(f"| cnnzoo native, 1 thread | {spread(rates['one'])} |")
    print(f"| cnnzoo native, {cores} threads | {spread(rates['all'])} |")
    print(f"| {cores} threads / 1 thread | {spread(scaling, '.2f')} |")
    print(f"| cnnzoo native / tight loop, {cores} threads each | {spread(by_tight, '.1f')} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=8192, help="image passes of one run, a multiple of 512")
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    work = Work(images=arguments.images)
    torch.set_num_threads(1)
    wide = replace(work, architecture=Architecture(num_units=20))
    for checked in (work, replace(work, image_size=32), replace(work, activation="tanh")):
        check(checked)
    check(wide, TOGETHER)
    one_core(work, arguments.rounds)
    variants(work, arguments.rounds)
    shapes(work, arguments.rounds)
    all_cores(work, arguments.rounds)
    print(f"\n{describe(['torch', 'pytorch-lightning', 'numpy'])}")
    print(f"- native kernel: {_native.instruction_set}; {work.flop / 1e6:.3f} MFLOP an image at 28x28")


if __name__ == "__main__":
    main()
