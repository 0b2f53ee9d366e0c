"""How fast are the features? The layer statistics against the published way, the other sets alone.

    python benchmarks/features.py [rows]

The published way (dnn_predict_accuracy.ipynb in google-research): np.apply_along_axis over rows, np.percentile, np.std
and np.mean for each of the 8 tensors, one core. Ours: cnnzoo.features.compute from a memory map, all cores; correctness
is checked first. CPU time is that of all threads: on a machine that others use too, it says more than the clock.

Measured on a virtual machine with 2 cores of an Intel Xeon (AVX-512), Python 3.11, NumPy 2.4.6, 4,096 rows in the page
cache, fastest and slowest of 5 rounds, nothing else running:
    published                  540 to  547 us a row, CPU  539 to  547
    ours, 1 thread              25 to   27 us a row, CPU   25 to   27: 22 times the published rate
    ours, 2 threads             15 to   16 us a row, CPU   27 to   28: 37 times
    wspectra, 4 layers         116 to  133 us a row, CPU  188 to  197
    wchannels, 4 layers         20 us a row,         CPU   35 to   37
    wproducts, 4 layers         96 to  102 us a row, CPU  156 to  165
    probes, relu networks      334 to  355 us a row, CPU  566 to  582: 3,000 networks/s
    probes, tanh networks      363 to  375 us a row, CPU  627 to  642: 2,750 networks/s
With BLAS, LAPACK and the libraries' functions, whose bits depend on the processor, the same machine took 19 us of CPU
time a row (statistics), 94 (wspectra), 19 (wchannels), 66 (wproducts) and 733 (probes), beside other work. Spectra and
products gain little from the second thread: their operations are short, and Python lets one thread at a time start one.
What the sets are worth: CatBoost (500 trees), final accuracies of 512 networks on mnist5k, two 4-fold validations split
by network: wstats of 4 layers R2 .939, tau .791; with wspectra .951, .811; probes alone .968, .868; wstats and probes
.974, .874.
"""

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnzoo.core.cores import usable_cores
from cnnzoo.features import compute, parse
from cnnzoo.network.layout import Architecture, layout_of

LAYOUT = layout_of(Architecture())
SET = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"
OTHERS = ("wspectra-layers:0,1,2,3", "wchannels-layers:0,1,2,3", "wproducts-layers:0,1,2,3", "probes")
PUBLISHED_ROWS = 256
OTHER_ROWS = 1024
ROUNDS = 5


def published(weights: np.ndarray) -> np.ndarray:
    def summary(w: np.ndarray) -> np.ndarray:
        return np.append(np.percentile(w, (0, 25, 50, 75, 100)), [np.std(w), np.mean(w)])

    def per_layer(w: np.ndarray) -> np.ndarray:
        return np.concatenate([summary(w[v.start : v.end]) for v in LAYOUT.variables])

    return np.apply_along_axis(per_layer, 1, weights)


def measure(work: Callable[[], object], rows: int) -> tuple[float, float]:
    """Return the time of one row by the clock and of all CPU cores, in microseconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e6 * (time.perf_counter() - clock) / rows, 1e6 * (time.process_time() - cpu) / rows


def show(name: str, times: list[tuple[float, float]], reference: list[tuple[float, float]] | None = None) -> None:
    clock, cpu = zip(*times, strict=True)
    line = f"{name:26} {min(clock):7.1f} to {max(clock):7.1f} us a row, CPU {min(cpu):7.1f} to {max(cpu):7.1f}"
    if reference is not None:
        line += f", {min(t for t, _ in reference) / min(clock):5.1f} times the published rate"
    print(f"{line}, {1e6 / min(clock):7.0f} rows/s")


def main(rows: int) -> None:
    rng = np.random.default_rng(0)
    threads = usable_cores()
    machine = f"{platform.processor() or platform.machine()}, {threads} cores"
    print(f"{machine}, NumPy {np.__version__}, {rows} rows, {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npy"
        written = np.lib.format.open_memmap(path, "w+", np.float32, (rows, LAYOUT.size))
        for start in range(0, rows, 4096):
            written[start : start + 4096] = 0.2 * rng.standard_normal(written[start : start + 4096].shape)
        weights = np.load(path, mmap_mode="r")
        sample = np.array(weights[:PUBLISHED_ROWS])

        (found,) = compute(sample, LAYOUT, parse(SET))
        np.testing.assert_allclose(found, published(sample), rtol=1e-5, atol=1e-6)

        theirs, alone, ours = [], [], []
        for _ in range(ROUNDS):
            theirs.append(measure(lambda: published(sample), PUBLISHED_ROWS))
            alone.append(measure(lambda: compute(weights, LAYOUT, parse(SET), 1), rows))
            ours.append(measure(lambda: compute(weights, LAYOUT, parse(SET), threads), rows))
        show("published", theirs)
        show("ours, 1 thread", alone, theirs)
        show(f"ours, {threads} threads", ours, theirs)

        some = np.array(weights[:OTHER_ROWS])
        for name in OTHERS:
            for activation in ("relu", "tanh") if name == "probes" else ("",):
                words = [activation] * len(some)
                times = [
                    measure(lambda: compute(some, LAYOUT, parse(name), threads, words), len(some))  # noqa: B023 - runs at once
                    for _ in range(ROUNDS)
                ]
                show(f"{name} {activation}", times)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16_384)
