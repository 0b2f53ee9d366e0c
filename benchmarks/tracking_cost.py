"""What tracking costs the train stage: `python benchmarks/tracking_cost.py [--networks 256] [--epochs 86] [--pairs 5]`.

Trains the default collection as `dvc repro` does, with its record in MLflow and without, in turns, each in a process of
its own. The clock runs from the first network to the end of the stage: with tracking, the import of MLflow, an
empty database and the comparison of the record with the shards are part of it. Both must write the same shards. On a
machine with other work compare the processor's time.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _machine import describe, spread
from cnnzoo import config, images
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.planning.cost import what_if
from cnnzoo.tracking import ZooTracker, sync_zoo
from cnnzoo.training.train import train_collection
from cnnzoo.zoo import first_rows, recipes
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import Origin, Shard

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "mnist5k"


class Silence:
    """A listener that records nothing."""

    def start(self, cohort: str, origin: Origin, recipes: Sequence[Recipe]) -> None:
        """See `cnnzoo.training.job.Listener`."""

    def checkpoint(self, cohort: str, epoch: int, metrics: Mapping[str, NDArray[np.float64]]) -> None:
        """See `cnnzoo.training.job.Listener`."""

    def finish(self, shard: Shard, nodes: Sequence[str] = ()) -> None:
        """See `cnnzoo.training.job.Listener`."""


def train(networks: int, epochs: int, tracked: bool) -> dict[str, object]:
    """Train in a temporary project; returns the seconds by the clock and of the processor, and the shards' digest."""
    params = what_if(config.load(ROOT / "params.yaml"), [COLLECTION], networks, epochs)
    drawn = recipes.draw(params, COLLECTION)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Artifacts(Path(folder))
        images.prepare(COLLECTION, [], artifacts.downloads).save(artifacts.images(COLLECTION))
        clock, processor = time.perf_counter(), time.process_time()
        if tracked:
            with ZooTracker(artifacts, COLLECTION) as tracker:
                shards = train_collection(artifacts, params, COLLECTION, drawn, tracker)
            assert sync_zoo(artifacts, COLLECTION, shards, drawn, first_rows(shards, drawn))
        else:
            shards = train_collection(artifacts, params, COLLECTION, drawn, Silence())
        took = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
        content = b"".join(shard.path.read_bytes() for shard in shards)
        return took | {"digest": hashlib.sha256(content).hexdigest()}


def in_process(arguments: argparse.Namespace, tracked: str) -> dict[str, object]:
    """Return what `train` returns, from a new process."""
    sizes = ["--networks", str(arguments.networks), "--epochs", str(arguments.epochs)]
    command = [sys.executable, __file__, *sizes, "--one", tracked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=86)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--one", choices=["on", "off"], help="train once and print the result as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(train(arguments.networks, arguments.epochs, tracked=arguments.one == "on")))
        return
    print(describe(["torch", "pytorch-lightning", "mlflow"]))
    print(f"- {arguments.networks} networks, {arguments.epochs} epochs, {arguments.pairs} pairs\n", flush=True)
    found: dict[str, list[dict[str, object]]] = {"on": [], "off": []}
    for pair in range(arguments.pairs):
        for tracked in ("on", "off") if pair % 2 else ("off", "on"):
            found[tracked].append(in_process(arguments, tracked))
        assert found["on"][-1]["digest"] == found["off"][-1]["digest"], "tracking changed the shards"
    print("| | off, s | on, s | on / off, paired |\n|---|---|---|---|")
    for time_of in ("clock", "processor"):
        off, on = ([float(run[time_of]) for run in found[tracked]] for tracked in ("off", "on"))
        ratios = [one / other for one, other in zip(on, off, strict=True)]
        print(f"| {time_of} | {spread(off, ',.1f')} | {spread(on, ',.1f')} | {spread(ratios, '.3f')} |")


if __name__ == "__main__":
    main()
