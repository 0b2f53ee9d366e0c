"""A project small enough to run its real stages in a test: two collections of tiny networks on random images.

The images are written as the stage `images` would write them; everything else is made by the stages.
"""

import copy
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from builders import make_images
from cnnzoo.config import Params, load
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.stages.entry import StageContext
from imports import ROOT

ALPHA, BETA = "alpha", "beta"
DATASETS = {ALPHA: "mnist5k", BETA: "fashion_mnist"}
STATISTICS, NORMS = "wstats-layers:0,1,2-qts:0,50,100", "wnorm-layers:0,1,2-l2"
NETWORKS = 26
CHANGES: dict[str, Any] = {
    "datasets": list(DATASETS.values()),
    "populations": {
        name: {"dataset": dataset, "networks": NETWORKS, "minibatch": minibatch, "num_units": 3, "num_layers": 2}
        for (name, dataset), minibatch in zip(DATASETS.items(), (8, 6), strict=True)
    },
    "collections": [ALPHA, BETA],
    "recipes.train_fraction": {"choice": [0.5, 1.0]},
    "recipes.optimizer": {"choice": ["adam"]},
    "recipes.epochs": 2,
    "recipes.epochs_between_checkpoints": 20,
    "features.sets": ["hyper", STATISTICS],
    "search.predictors": ["linear"],
    "search.trials": 2,
    "search.folds": 2,
    "search.max_trees": 5,
    "search.max_epochs": 2,
    "forecast": {"predictor": "linear", "features": NORMS},
    "evaluate.bootstrap": 20,
    "evaluate.confidence": 0.9,
    "runtime.threads": 1,
    "runtime.device": "cpu",
}
"""What differs from params.yaml, by dotted key."""
PER_COLLECTION = ("recipes", "train", "assemble", "features", "search", "forecast")
OVER_ALL = ("evaluate", "report")


def set_key(params: dict[str, Any], key: str, value: object) -> None:
    """Set a parameter by its dotted key."""
    *path, last = key.split(".")
    place = params
    for part in path:
        place = place[part]
    place[last] = value


def small_params(changes: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return params.yaml as plain values, made small; `changes` are by dotted key."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in {**CHANGES, **(changes or {})}.items():
        set_key(params, key, copy.deepcopy(value))
    return params


def enter_dvc_project(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the current one, and let DVC keep everything below it: no cache and no settings of this machine."""
    patch.chdir(root)
    for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
        patch.setenv(f"DVC_{name}_DIR", str(root / ".dvc" / "tmp" / name.lower()))


class SmallProject:
    """A project in a folder, driven by its stages and its params.yaml."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = Artifacts(root)

    @classmethod
    def make(cls, root: Path, changes: Mapping[str, object] | None = None) -> "SmallProject":
        """Write params.yaml and the images of both data sets."""
        project = cls(root)
        root.mkdir(parents=True)
        project.configure(changes)
        for seed, dataset in enumerate(DATASETS.values()):
            make_images(seed=seed).save(project.artifacts.images(dataset))
        return project

    def configure(self, changes: Mapping[str, object] | None = None) -> None:
        """Write params.yaml: that of `small_params`."""
        with self.artifacts.params.open("w", encoding="utf-8") as file:
            YAML().dump(small_params(changes), file)

    @property
    def params(self) -> Params:
        """The parameters as the stages read them."""
        return load(self.artifacts.params)

    def run(self, stage: str, target: str = "") -> None:
        """Run the function of a stage on params.yaml as it is now."""
        function = getattr(import_module(f"cnnzoo.stages.{stage}"), stage)
        function(StageContext(self.artifacts, self.params, target))

    def run_all(self, collections: tuple[str, ...] = (ALPHA, BETA)) -> None:
        """Run all stages but `images` in order."""
        for collection in collections:
            for stage in PER_COLLECTION:
                self.run(stage, collection)
        for stage in OVER_ALL:
            self.run(stage)

    def copy(self, root: Path, *names: str) -> "SmallProject":
        """Return a copy of the project, whole or of some of its files and folders."""
        if not names:
            shutil.copytree(self.root, root)
            return SmallProject(root)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            source = self.root / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
        return SmallProject(root)

    def files(self, folder: str = "") -> dict[str, bytes]:
        """Return the content of every file below a folder, by its path from there."""
        top = self.root / folder
        return {
            path.relative_to(top).as_posix(): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()
        }
