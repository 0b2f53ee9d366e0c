"""A project with tuned predictors on a synthetic collection, for tests of what is done with them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.search.runs import search
from zoos import PARAMS, make_params, make_project

NAME = "tiny"
NETWORKS = 80
UNITS = 4


@contextmanager
def untracked(*_: object) -> Iterator[MagicMock]:
    """Stands for the record of a search."""
    yield MagicMock()


def tuned_params(sets: list[str]) -> config.Params:
    """Return parameters for linear predictors of networks of 4 channels."""
    params = make_params({NAME: NETWORKS}, sets, predictors=["linear"])
    shape: Mapping[str, int] = {"num_units": UNITS, "num_layers": 3}
    return params.model_copy(update={"populations": {NAME: params.populations[NAME].model_copy(update=shape)}})


def make_tuned_project(root: Path, sets: list[str]) -> Artifacts:
    """Write the collection, its features, linear predictors on each set, and the params.yaml that says so."""
    artifacts = make_project(root, {NAME: NETWORKS}, sets)
    search(artifacts, tuned_params(sets), NAME, untracked)
    write_params(artifacts.params, sets)
    return artifacts


def write_params(path: Path, sets: list[str]) -> None:
    """Write the project's params.yaml, with comments, changed to fit `tuned_params`."""
    text = PARAMS.read_text(encoding="utf-8")
    for old, new in (
        ("  mnist5k: {dataset: mnist5k, networks: 512", f"  {NAME}: {{dataset: mnist5k, networks: {NETWORKS}"),
        ("num_units: 16, num_layers: 3}\n\n", f"num_units: {UNITS}, num_layers: 3}}\n\n"),
        ("collections: [mnist5k]", f"collections: [{NAME}]"),
        ("predictors: [linear, catboost, dnn]", "predictors: [linear]"),
        ("bootstrap: 1000", "bootstrap: 50"),
        ("confidence: 0.95", "confidence: 0.9"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    before, _, rest = text.partition("  sets: [")
    path.write_text(f"{before}  sets: {json.dumps(sets)}\n{rest.partition(']')[2].lstrip()}", encoding="utf-8")
