"""Training as a function of plain values, so that a process of its own can run it and be killed."""

import time
from pathlib import Path

from ruamel.yaml import YAML

from cnnzoo.config import Params, validate
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.training.train import train_collection
from cnnzoo.zoo.recipes import draw
from imports import ROOT

COLLECTION = "mnist5k"
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def make_params(engine: str, networks: int = 6, **runtime: float) -> Params:
    """Return params.yaml for a zoo that trains in a second: tiny networks in two cohorts, 6 checkpoints."""
    population = {"dataset": "mnist5k", "networks": networks, "minibatch": 8, "num_units": 4, "num_layers": 2}
    recipes = PARAMS["recipes"] | {
        "train_fraction": {"choice": [0.5, 1.0]},
        "optimizer": {"choice": ["adam"]},
        "activation": {"choice": ["relu"]},
        "epochs": 5,
        "epochs_between_checkpoints": 2,
    }
    changes = {
        "populations": {COLLECTION: population},
        "recipes": recipes,
        "train": PARAMS["train"] | {"engine": engine},
        "runtime": PARAMS["runtime"] | {"threads": 1, "device": "cpu"} | runtime,
        "features": {"sets": ["hyper"]},  # the default sets name a layer that these networks lack
        "forecast": {"predictor": "linear", "features": "hyper"},
    }
    return validate(PARAMS | changes, "test")


class LogFile:
    """A listener that writes what it hears to a file, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _log(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{text}\n")

    def start(self, cohort, origin, recipes):
        self._log(f"start {cohort}")

    def checkpoint(self, cohort, epoch, metrics):
        self._log(f"checkpoint {cohort} {epoch}")
        time.sleep(0.02)  # slow motion, so that there is time to kill

    def finish(self, shard, nodes=()):
        self._log(f"finish {shard.name}")


def train(root: str, engine: str) -> None:
    """Train the zoo of `make_params` in a folder that has its images; keep a resume point after every epoch."""
    params = make_params(engine, resume_interval_s=0)
    recipes = draw(params, COLLECTION)
    train_collection(Artifacts(Path(root)), params, COLLECTION, recipes, LogFile(Path(root) / "log"))
