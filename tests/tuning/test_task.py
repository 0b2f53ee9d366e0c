"""What a search is: limits and random numbers of its predictors, and what makes its trials other trials."""

from dataclasses import replace
from importlib import metadata
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from samples import make_sample, make_task

from cnnzoo import predictors, seeds
from imports import PACKAGE

SAMPLE = make_sample(6)
LIBRARIES = ("catboost", "numpy", "optuna", "pandas", "pytorch-lightning", "scikit-learn", "scipy", "torch")
"""What computes a trial's numbers."""


@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_a_predictor_has_its_settings_and_the_limits_and_threads_of_the_search(name):
    task = make_task(name, max_trees=21, max_epochs=5, jobs=3)
    usual, found = predictors.REGISTRY[name]().get_params(), task.build({}).get_params()
    state = int(seeds.generator(7, "search.random_state", "tiny", name, "stats").integers(2**31))
    limits = {"iterations": 21, "max_epochs": 5, "n_jobs": 3, "random_state": state}
    assert found == usual | {key: value for key, value in limits.items() if key in usual}
    setting, value = {
        "linear": ("l2", 0.7),
        "catboost": ("depth", 4),
        "dnn": ("hidden_units", 9),
        "nfn": ("learning_rate", 0.07),
        "stack": ("depth", 4),
    }[name]
    assert task.build({setting: value}).get_params() == found | {setting: value}


def test_random_numbers_depend_on_the_purpose_and_on_the_whole_task():
    tasks = [
        make_task(),
        make_task(seed=8),
        make_task(collection="other"),
        make_task("dnn"),
        make_task(features="others"),
    ]
    drawn = [task.draw(*purpose) for task in tasks for purpose in (("a",), ("b",), ("a", 0), ("a", 1))]
    assert len(set(drawn)) == len(drawn)
    assert drawn == [task.draw(*purpose) for task in tasks for purpose in (("a",), ("b",), ("a", 0), ("a", 1))]


def test_each_thing_that_determines_a_trial_makes_another_digest():
    task, table = make_task(), SAMPLE.features
    digests = {
        "this": task.digest(SAMPLE),
        **{
            name: make_task(**{name: value}).digest(SAMPLE)
            for name, value in {
                "predictor": "dnn",
                "features": "others",
                "collection": "other",
                "seed": 8,
                "folds": 3,
                "max_trees": 21,
                "max_epochs": 5,
            }.items()
        },
        "accuracies": task.digest(replace(SAMPLE, target=SAMPLE.target + 1e-9 * (np.arange(6) == 5))),
        "values": task.digest(replace(SAMPLE, features=table.assign(other=table["other"] + 1e-9))),
        "names": task.digest(replace(SAMPLE, features=table.rename(columns={"other": "more"}))),
        "columns": task.digest(replace(SAMPLE, features=table[["signal", "noise", "other"]])),
        "networks": task.digest(
            replace(SAMPLE, features=table.iloc[:5], target=SAMPLE.target[:5], networks=SAMPLE.networks[:5])
        ),
    }
    assert [pair for pair in combinations(digests, 2) if digests[pair[0]] == digests[pair[1]]] == []


@pytest.mark.parametrize(
    "change", [{"trials": 9}, {"predictors": ["linear", "dnn"]}, {"only": {"dnn": ["hyper"]}}, {"jobs": 4}], ids=str
)
def test_what_does_not_change_a_trial_leaves_the_digest(change):
    assert make_task(**change).digest(SAMPLE) == make_task().digest(SAMPLE)


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_version_of_a_library_makes_other_trials(library, tmp_path, monkeypatch):
    before = make_task().digest(SAMPLE)
    found = tmp_path / f"{library.replace('-', '_')}-0.0.1.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 0.0.1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.version(library) == "0.0.1"
    assert make_task().digest(SAMPLE) != before


def test_other_code_of_any_predictor_or_of_the_search_makes_other_trials(monkeypatch):
    """Each module of the two packages in turn reads as if a line had been added."""
    read, seen = Path.read_bytes, {make_task().digest(SAMPLE)}
    modules = [path for package in ("predictors", "tuning") for path in sorted((PACKAGE / package).glob("*.py"))]
    assert len(modules) > 10
    for module in modules:
        monkeypatch.setattr(
            Path,
            "read_bytes",
            lambda path, module=module: read(path) + (b"\n# more" if path.samefile(module) else b""),
        )
        seen.add(make_task().digest(SAMPLE))
    monkeypatch.undo()
    assert len(seen) == 1 + len(modules)
    assert make_task().digest(SAMPLE) in seen


def test_every_network_counts_in_the_digest():
    task = make_task()
    digests = {task.digest(replace(SAMPLE, target=np.where(np.arange(6) == i, 0.5, SAMPLE.target))) for i in range(6)}
    assert len(digests) == 6
