"""Stage `features`: what searches and forecasts read, for every row of a collection."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from small_project import ALPHA, BETA, SmallProject
from zoos import make_zoo

NETWORKS = 15
SETS = ["hyper.dropout", "wnorm-layers:0-l2", "weights.1"]
FORECAST = "wstats-layers:2-qts:0,100+wnorm-layers:0-l1"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> SmallProject:
    project = SmallProject(tmp_path_factory.mktemp("features"))
    project.configure({"features.sets": SETS, "forecast.features": FORECAST})
    for collection in (ALPHA, BETA):
        make_zoo(project.artifacts, collection, NETWORKS, num_units=3, num_layers=2)
    project.run("features", ALPHA)
    return project


def test_inputs_of_searches_and_of_forecasts_are_written_and_nothing_else(project):
    """Sets of weights are read from the zoo; a joined set is stored by its parts."""
    assert set(project.files("data/features")) == {
        "alpha/hyper.dropout.parquet",
        "alpha/wnorm-layers_0-l2.parquet",
        "alpha/wstats-layers_2-qts_0.100.parquet",
        "alpha/wnorm-layers_0-l1.parquet",
    }


def test_features_are_those_of_the_collection_row_by_row(project):
    folder, zoo = project.artifacts.features(ALPHA), project.artifacts.zoo(ALPHA)
    weights = np.load(zoo / "weights.npy").astype(np.float64)
    layout = pd.read_csv(zoo / "layout.csv", index_col="varname")
    for name, order in (("wnorm-layers_0-l1", 1), ("wnorm-layers_0-l2", 2)):
        table = pd.read_parquet(folder / f"{name}.parquet")
        expected = []
        for variable in ("bias", "kernel"):
            row = layout.loc[f"sequential/conv2d/{variable}:0"]
            expected.append(np.linalg.norm(weights[:, row["start_idx"] : row["end_idx"]], order, axis=1))
        np.testing.assert_allclose(table.to_numpy(), np.stack(expected, axis=1), rtol=1e-5)
    dropout = pd.read_parquet(folder / "hyper.dropout.parquet").squeeze()
    assert dropout.tolist() == pd.read_csv(zoo / "metrics.csv.gz")["config.dropout"].tolist()


@pytest.mark.parametrize(("threads", "workers"), [(3, 3), (0, 5)])
def test_features_are_computed_on_the_threads_of_params_yaml(project, tmp_path, monkeypatch, threads, workers):
    """0 means all cores that the process may use."""
    taken = []
    start = ThreadPoolExecutor.__init__

    def note(self, max_workers=None, *arguments, **more):
        taken.append(max_workers)
        start(self, max_workers, *arguments, **more)

    monkeypatch.setattr(ThreadPoolExecutor, "__init__", note)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    copy = project.copy(tmp_path / "copy", "data/zoo")
    copy.configure({"features.sets": SETS, "forecast.features": FORECAST, "runtime.threads": threads})
    copy.run("features", ALPHA)
    assert workers in taken
    assert copy.files("data/features") == project.files("data/features")
