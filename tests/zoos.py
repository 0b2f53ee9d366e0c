"""A small synthetic collection for tests of features, searches and evaluation: accuracy is a noisy function of weights.

Each network has two checkpoints, epoch 0 and the last. What can be known about a network's accuracy is in the scale of
its last kernel (most), in its dropout (some); the rest is noise.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from builders import make_recipes
from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.features import write_features
from cnnzoo.network.layout import layout_of
from cnnzoo.zoo import Collection, format, write_split

PARAMS = Path(__file__).parent.parent / "params.yaml"
STATISTICS = "wstats-layers:0,3-qts:0,50,100"
FINAL = 86


def make_zoo(artifacts: Artifacts, name: str, networks: int, num_units: int = 4, num_layers: int = 3) -> Collection:
    """Write a collection of 2 rows a network to `artifacts.zoo(name)`."""
    folder = artifacts.zoo(name)
    folder.mkdir(parents=True)
    recipes = make_recipes(networks, num_units=num_units, num_layers=num_layers)
    layout = layout_of(recipes[0].architecture)
    rng = np.random.default_rng(len(name) + networks)
    scale = np.exp(0.6 * rng.standard_normal(networks))
    weights = 0.2 * rng.standard_normal((networks, 2, layout.size), dtype=np.float32)
    kernel = layout.variables[-1]
    weights[:, 1, kernel.start : kernel.end] *= scale[:, None]
    dropout = np.array([recipe.dropout for recipe in recipes])
    logit = 2 * np.log(scale) - 2 * dropout + 0.15 * rng.standard_normal(networks)
    accuracy = np.round(0.1 + 0.85 / (1 + np.exp(-logit)), 4)
    metrics = pd.DataFrame([recipe.config() for recipe in recipes for _ in range(2)])
    metrics["modeldir"] = [f"{name}/{network:06d}" for network in range(networks) for _ in range(2)]
    metrics["step"] = [0, FINAL] * networks
    for column in format.SCORE_COLUMNS:
        metrics[column] = np.stack([np.full(networks, 0.1), accuracy], axis=1).reshape(-1)
    metrics["laststep"] = metrics["step"] == FINAL
    np.save(folder / format.WEIGHTS, weights.reshape(2 * networks, -1))
    (folder / format.LAYOUT).write_text(layout.to_csv(), encoding="utf-8")
    metrics[list(format.METRICS_COLUMNS)].to_csv(folder / format.METRICS, compression={"method": "gzip", "mtime": 0})
    write_split(folder, np.repeat(np.arange(networks), 2), 7, name)
    return Collection.open(folder)


def make_params(collections: dict[str, int], sets: list[str], **search: object) -> config.Params:
    """Return the project's parameters for small searches on synthetic collections."""
    params = config.load(PARAMS)
    populations = {
        name: params.populations["mnist5k"].model_copy(update={"networks": networks})
        for name, networks in collections.items()
    }
    budget = {"trials": 3, "folds": 2, "max_trees": 60, "max_epochs": 40, **search}
    return params.model_copy(
        update={
            "populations": populations,
            "collections": list(populations),
            "features": config.Features(sets=sets),
            "search": params.search.model_copy(update=budget),
            "evaluate": config.Evaluate(bootstrap=50, confidence=0.9),
            # Searches run in this process, where tests can look into them.
            "runtime": params.runtime.model_copy(update={"threads": 1}),
        }
    )


def make_project(
    root: Path, collections: dict[str, int], sets: list[str], shapes: Mapping[str, Mapping[str, int]] | None = None
) -> Artifacts:
    """Write collections and their features below `root`; `shapes` gives some another `num_units` or `num_layers`."""
    artifacts = Artifacts(root)
    for name, networks in collections.items():
        zoo = make_zoo(artifacts, name, networks, **(shapes or {}).get(name, {}))
        write_features(zoo, sets, artifacts.features(name))
    return artifacts


def form_groups(folder: Path, size: int) -> Collection:
    """Make replicates of every `size` networks of a collection, together in its split; its rows stay as they are."""
    zoo = Collection.open(folder)
    groups = zoo.networks // size
    metrics = zoo.metrics.assign(**{format.GROUP: groups})
    write_split(folder, zoo.networks, 7, folder.name, groups)
    metrics.to_csv(folder / format.METRICS, compression={"method": "gzip", "mtime": 0})
    return Collection.open(folder)


def tell_scores_apart(folder: Path) -> Collection:
    """Give a collection of `make_zoo` other training accuracies and losses: only test accuracies stay as they were."""
    zoo = Collection.open(folder)
    rng = np.random.default_rng(3)
    others = {name: rng.uniform(0.1, 0.9, len(zoo.metrics)) for name in format.SCORE_COLUMNS if name != "test_accuracy"}
    metrics = zoo.metrics.assign(**others)
    metrics.to_csv(folder / format.METRICS, compression={"method": "gzip", "mtime": 0})
    return Collection.open(folder)
