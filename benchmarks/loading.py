"""How fast does `cnnzoo.data` load a zoo of 30,000 networks? Against reading the matrix, and torch's own loader.

    python benchmarks/loading.py [networks]

A synthetic matrix (networks x 4,970, one checkpoint each) in the page cache; an epoch is every row once, in batches
of 256. Correctness is checked first: an epoch holds every row once, and two worker processes give the same batches as
none. Peak memory is that of pages that are not the matrix's own (RssAnon of Linux), above what the process had before.

Measured on a virtual machine with 2 cores of an AMD EPYC (AVX2), Python 3.11, torch 2.13.0, NumPy 2.4.6, n = 5:
    the matrix, copied in order             6.24 (5.68 to 6.37) GB/s
    flat, shuffled                          4.08 (3.78 to 4.22) GB/s, 205,157 networks/s,  0 MB
    flat, shuffled, 2 workers               0.85 (0.73 to 0.88) GB/s,  42,565 networks/s,  0 MB
    by tensor in torch's order, shuffled    1.34 (1.32 to 1.37) GB/s,  67,474 networks/s,  0 MB
    hidden units permuted, shuffled         0.71 (0.56 to 0.71) GB/s,  35,624 networks/s, 45 MB
    torch's own loader, shuffled            0.41 (0.41 to 0.42) GB/s,  20,751 networks/s,  1 MB
Worker processes have to send what they read; they pay when a batch costs more than reading it.
"""

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from cnnzoo.core.cores import usable_cores
from cnnzoo.data import ZooDataset, make_loader
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.zoo import Collection, format

BATCH, ROUNDS, NETWORKS = 256, 5, 30_000


def write_matrix(folder: Path, networks: int) -> Collection:
    """Write a collection of one checkpoint a network."""
    layout = layout_of(Architecture())
    rng = np.random.default_rng(0)
    weights = np.lib.format.open_memmap(
        folder / format.WEIGHTS, mode="w+", dtype=np.float32, shape=(networks, layout.size)
    )
    for start in range(0, networks, 1000):
        part = weights[start : start + 1000]
        part[...] = rng.standard_normal(part.shape, dtype=np.float32)
    weights.flush()
    metrics = pd.DataFrame(dict.fromkeys(format.METRICS_COLUMNS, 0), index=range(networks))
    metrics = metrics.assign(
        **{
            "config.epochs": 86,
            "config.activation": "relu",
            "step": 86,
            "test_accuracy": rng.random(networks),
            "modeldir": [f"x/{number:06d}" for number in range(networks)],
        }
    )
    metrics.to_csv(folder / format.METRICS, compression="gzip")
    (folder / format.LAYOUT).write_text(layout.to_csv(), encoding="utf-8")
    return Collection.open(folder)


def check(data: ZooDataset) -> None:
    alone, workers = (make_loader(data, BATCH, shuffle=True, seed=1, num_workers=n) for n in (0, 2))
    places = np.concatenate([batch.places for batch in alone.sampler])
    if not np.array_equal(np.sort(places), np.arange(len(data))):
        raise SystemExit("an epoch does not hold every row once")
    for (x, y), (theirs, their_y) in zip(alone, workers, strict=True):
        if not (torch.equal(x, theirs) and torch.equal(y, their_y)):
            raise SystemExit("worker processes give other batches")
    first = next(iter(alone))
    if not np.array_equal(first[0].numpy(), data.zoo.weights[data.rows[places[:BATCH]]]):
        raise SystemExit("a batch does not hold the rows of the matrix")


def anonymous_mb() -> float:
    """Return the memory of this process that is no file's, in MB; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000


def epoch_of(loader: DataLoader) -> Callable[[], float]:
    """Return a function that goes through an epoch and returns the largest memory seen."""

    def work() -> float:
        return max((anonymous_mb() for number, _ in enumerate(loader) if number % 16 == 0), default=0)

    return work


def read_matrix(zoo: Collection) -> float:
    """Copy the matrix in order: what memory allows."""
    out = np.empty((BATCH, zoo.layout.size), dtype=np.float32)
    for start in range(0, len(zoo.weights) - BATCH, BATCH):
        out[...] = zoo.weights[start : start + BATCH]
    return 0.0


def main() -> None:
    networks = int(sys.argv[1]) if len(sys.argv) > 1 else NETWORKS
    print(
        f"{platform.processor() or platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, NumPy {np.__version__}, {networks:,} networks, n = {ROUNDS}"
    )
    with tempfile.TemporaryDirectory() as folder:
        zoo = write_matrix(Path(folder), networks)
        data = ZooDataset(zoo)
        check(data)
        permuted = ZooDataset(zoo, permute=True)
        layers = ZooDataset(zoo, layers=True, order="torch")
        works = {
            "the matrix, copied in order": lambda: read_matrix(zoo),
            "flat, in order": epoch_of(make_loader(data, BATCH)),
            "flat, shuffled": epoch_of(make_loader(data, BATCH, shuffle=True)),
            "flat, shuffled, 2 workers": epoch_of(make_loader(data, BATCH, shuffle=True, num_workers=2)),
            "by tensor in torch's order, shuffled": epoch_of(make_loader(layers, BATCH, shuffle=True)),
            "hidden units permuted, shuffled": epoch_of(make_loader(permuted, BATCH, shuffle=True)),
            "torch's own loader, shuffled": epoch_of(DataLoader(data, BATCH, shuffle=True)),
        }
        size = zoo.weights.nbytes / 1e9
        rates: dict[str, list[float]] = {name: [] for name in works}
        memory = dict.fromkeys(works, 0.0)
        for _ in range(ROUNDS):
            for name, work in works.items():
                before, start = anonymous_mb(), time.perf_counter()
                memory[name] = max(memory[name], work() - before)
                rates[name].append(size / (time.perf_counter() - start))
        for name, found in rates.items():
            print(
                f"{name:38} {statistics.median(found):5.2f} ({min(found):.2f} to {max(found):.2f}) GB/s, "
                f"{1e9 * statistics.median(found) / 4 / zoo.layout.size:9,.0f} networks/s, {memory[name]:4.0f} MB"
            )


if __name__ == "__main__":
    main()
