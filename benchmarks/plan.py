"""Is `cnnzoo plan --cluster` right? `python benchmarks/plan.py [--networks 128] [--epochs 24] [--rounds 3]`.

Trains the default collection for real on one worker and on two, each with one core: processes that take piece after
piece in the order of the plan, as an executor does. The rates are measured right before and right after each run,
because other work on the machine changes them; the prediction is the mean of both plans. Before the times are told,
the weights of all runs are compared: every network must have the same bits.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
from numpy.typing import NDArray

from _machine import describe, spread
from cnnzoo import config, images
from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.images import ImageSet
from cnnzoo.planning.cluster import read_cluster
from cnnzoo.planning.cost import what_if
from cnnzoo.planning.division import makespan_s, place
from cnnzoo.planning.simulation import loads_of, workers_of
from cnnzoo.training.cohort_run import CohortRun
from cnnzoo.training.cohorts import group
from cnnzoo.training.engines.choice import choose
from cnnzoo.training.job import Job
from cnnzoo.zoo import recipes
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import read_shards

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "mnist5k"
WORKERS = {"1x1": 1, "1x2": 2}
"""Of each cluster."""


def with_threads(params: Params, threads: int) -> Params:
    return params.model_copy(update={"runtime": params.runtime.model_copy(update={"threads": threads})})


def planned(params: Params, name: str) -> tuple[float, list[tuple[Recipe, ...]]]:
    """Return the predicted makespan, rates measured now with that many cores busy, and the pieces in order."""
    busy, cluster = with_threads(params, WORKERS[name]), read_cluster(name)
    loads = loads_of(busy, COLLECTION, cluster)
    pieces = place(loads, workers_of(busy, cluster))
    cohorts = group(recipes.draw(params, COLLECTION), params.train.cohort_size)
    return makespan_s(pieces), [cohorts[piece.load][piece.start : piece.stop] for piece in pieces]


def work(runs: "Queue[Any]", pieces: "Queue[Any]", done: "Queue[None]") -> None:
    """Train the pieces of each run, until there is no other run."""
    while (run := runs.get()) is not None:
        root, params = run
        artifacts = Artifacts(root)
        found, engine = ImageSet.load(artifacts.images(COLLECTION)), choose("native", params.runtime)
        job = Job(artifacts, params, COLLECTION, found, engine, MagicMock())
        while (piece := pieces.get()) is not None:
            CohortRun(job, piece).run(MagicMock())
        done.put(None)


class Workers:
    """Processes with one core each, which live as long as the benchmark."""

    def __init__(self, count: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.runs, self.pieces, self.done = spawn.Queue(), spawn.Queue(), spawn.Queue()
        arguments = (self.runs, self.pieces, self.done)
        self.processes = [spawn.Process(target=work, args=arguments, daemon=True) for _ in range(count)]
        for process in self.processes:
            process.start()

    def run(self, root: Path, params: Params, pieces: Sequence[Sequence[Recipe]]) -> float:
        """Return the seconds from the first to the last piece."""
        begun = time.perf_counter()
        for _ in self.processes:
            self.runs.put((root, with_threads(params, 1)))
        for piece in [*pieces, *[None] * len(self.processes)]:
            self.pieces.put(piece)
        for _ in self.processes:
            self.done.get()
        return time.perf_counter() - begun


def new_project(folder: str) -> Path:
    """Make the folders that a training needs, with the images."""
    artifacts = Artifacts(Path(folder))
    artifacts.checkpoints(COLLECTION).mkdir(parents=True)
    artifacts.unfinished(COLLECTION).mkdir(parents=True)
    images.prepare(COLLECTION, [], artifacts.downloads).save(artifacts.images(COLLECTION))
    return artifacts.root


def trained(root: Path, wanted: Sequence[Recipe]) -> NDArray[np.float32]:
    """Return the weights of all networks, (N, E, P), whatever pieces they were trained in."""
    shards = read_shards(Artifacts(root).checkpoints(COLLECTION))
    found = {recipe: row for shard in shards for recipe, row in zip(shard.recipes, shard.weights(), strict=True)}
    return np.stack([found[recipe] for recipe in wanted])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    params = what_if(config.load(ROOT / "params.yaml"), [COLLECTION], arguments.networks, arguments.epochs)
    drawn = recipes.draw(params, COLLECTION)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in WORKERS}
    crews = {name: Workers(count) for name, count in WORKERS.items()}
    short = what_if(params, [COLLECTION], 2 * max(WORKERS.values()), 1)
    expected: NDArray[np.float32] | None = None
    for number in range(arguments.rounds + 1):
        for name, crew in crews.items():
            with tempfile.TemporaryDirectory() as folder:
                root, of = new_project(folder), params if number else short  # round 0 loads everything
                before, pieces = planned(of, name)
                seconds = crew.run(root, of, pieces)
                after, _ = planned(of, name)
                if number:
                    weights = trained(root, drawn)
                    assert expected is None or np.array_equal(weights, expected, equal_nan=True), f"{name}: other bits"
                    expected = weights
                    times[name].append(((before + after) / 2, seconds))
                    print(f"{name}: {before:.1f} s and {after:.1f} s predicted, {seconds:.1f} s taken", file=sys.stderr)
    print(describe(["torch", "pytorch-lightning", "numpy"]))
    print(f"- {len(drawn)} networks, {arguments.epochs} epochs, n = {arguments.rounds}; the same bits in all runs\n")
    print("| machines x cores | predicted, s | taken, s | taken / predicted |\n|---|---|---|---|")
    for name, found in times.items():
        ratios = [taken / told for told, taken in found]
        told, taken = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"| {name} | {told:.1f} | {taken:.1f} | {spread(ratios, '.2f')} |")


if __name__ == "__main__":
    main()
