"""Where the time of the train stage goes: `python benchmarks/stage.py [--networks 512] [--epochs 86]`.

Trains the default collection as `dvc repro` does, with Lightning, shards, resume points and MLflow, in a temporary
folder; the time inside the kernel's calls is counted apart. Prints the shares of training, evaluation and all the rest,
and what `cnnzoo plan` predicted in the same minute. The shards are checked against the images/s they stand for:
every network must be there, at every checkpoint.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from _machine import describe
from cnnzoo import config, images
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.planning import cost
from cnnzoo.tracking import ZooTracker, sync_zoo
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.train import train_collection
from cnnzoo.zoo import first_rows, recipes
from cnnzoo.zoo.recipes import checkpoint_epochs

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "mnist5k"


def timed(method: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """Return the method with its time on the wall added to `seconds[name]`."""

    def run(*arguments: Any) -> Any:
        begun = time.perf_counter()
        result = method(*arguments)
        seconds[name] += time.perf_counter() - begun
        return result

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=86)
    arguments = parser.parse_args()
    params = cost.what_if(config.load(ROOT / "params.yaml"), [COLLECTION], arguments.networks, arguments.epochs)
    (predicted,) = cost.plan(params, [COLLECTION])
    drawn = recipes.draw(params, COLLECTION)
    seconds = {"train": 0.0, "evaluate": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Artifacts(Path(folder))
        images.prepare(COLLECTION, [], artifacts.downloads).save(artifacts.images(COLLECTION))
        begun = time.perf_counter()
        with (
            patch.object(NativeEngine, "train", timed(NativeEngine.train, "train", seconds)),
            patch.object(NativeEngine, "evaluate", timed(NativeEngine.evaluate, "evaluate", seconds)),
        ):
            with ZooTracker(artifacts, COLLECTION) as tracker:
                shards = train_collection(artifacts, params, COLLECTION, drawn, tracker)
            sync_zoo(artifacts, COLLECTION, shards, drawn, first_rows(shards, drawn))
        total = time.perf_counter() - begun
        kept = len(checkpoint_epochs(drawn[0].epochs, drawn[0].epochs_between_checkpoints))
        held = sum(shard.metrics["test_accuracy"].size for shard in shards)
        assert held == kept * len(drawn), f"{held} checkpoints, expected {kept * len(drawn)}"
    rest = total - seconds["train"] - seconds["evaluate"]
    print(describe(["torch", "pytorch-lightning", "mlflow"]))
    print(f"- {len(drawn)} networks, {len(shards)} cohorts, {predicted.passes / 1e6:.1f} million image passes\n")
    print("| | s | share |\n|---|---|---|")
    for name, spent in (("training", seconds["train"]), ("evaluation", seconds["evaluate"]), ("all the rest", rest)):
        print(f"| {name} | {spent:.1f} | {spent / total:.1%} |")
    plan = f"`cnnzoo plan`: {predicted.seconds:.1f} s ({predicted.seconds / total:.2f})"
    print(f"| **the stage** | **{total:.1f}** | {plan} |")


if __name__ == "__main__":
    main()
