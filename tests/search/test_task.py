"""What a search is: limits and random numbers of its predictors, and what makes its trials other trials."""

from dataclasses import replace
from importlib import metadata
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from samples import make_sample, make_task

from cnnzoo import features, predictors
from cnnzoo.core import seeds
from cnnzoo.search import task

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
        "learned_probes": ("learning_rate", 0.07),
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


@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_another_version_of_the_predictor_makes_other_trials(name, monkeypatch):
    before = make_task(name).digest(SAMPLE)
    monkeypatch.setattr(predictors.REGISTRY[name], "version", 99)
    assert make_task(name).digest(SAMPLE) != before


def test_another_version_of_the_search_makes_other_trials(monkeypatch):
    before = make_task().digest(SAMPLE)
    monkeypatch.setattr(task, "VERSION", 2)
    assert make_task().digest(SAMPLE) != before


def test_the_version_of_features_counts_for_the_predictor_that_computes_them(monkeypatch):
    """The others get their values, which are part of the digest."""
    before = {name: make_task(name).digest(SAMPLE) for name in predictors.REGISTRY}
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    changed = {name for name in predictors.REGISTRY if make_task(name).digest(SAMPLE) != before[name]}
    assert changed == {"learned_probes"}


@pytest.mark.parametrize("member", ["linear", "catboost", "dnn"])
def test_the_versions_of_its_members_count_for_a_stack(member, monkeypatch):
    before = make_task("stack").digest(SAMPLE)
    monkeypatch.setattr(predictors.REGISTRY[member], "version", 99)
    assert make_task("stack").digest(SAMPLE) != before


def test_another_plot_leaves_the_trials(monkeypatch, tmp_path):
    """The key once held the source of every module, so a changed figure discarded finished trials."""
    before = make_task().digest(SAMPLE)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"\n# more")
    assert make_task().digest(SAMPLE) == before


def test_every_network_counts_in_the_digest():
    task = make_task()
    digests = {task.digest(replace(SAMPLE, target=np.where(np.arange(6) == i, 0.5, SAMPLE.target))) for i in range(6)}
    assert len(digests) == 6
