"""Evaluation over two collections and one of another shape: both tables against plain recomputation."""

import json

import numpy as np
import pandas as pd
import pytest

from cnnzoo import predictors, scores
from cnnzoo.artifacts import Artifacts, slug
from cnnzoo.collection import Collection
from cnnzoo.errors import CnnzooError
from cnnzoo.evaluation import evaluate
from cnnzoo.features import read_features, write_features
from cnnzoo.search import search
from test_search import FakeTracker
from zoos import STATISTICS, make_params, make_project, make_zoo

SETS = ["weights.0", "hyper", STATISTICS]
SIZES = {"first": 80, "second": 60, "shallow": 40}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three searched collections; the networks of `shallow` have one layer fewer."""
    root = tmp_path_factory.mktemp("project")
    artifacts = make_project(root, {name: SIZES[name] for name in ("first", "second")}, SETS)
    shallow = ["weights.0", "hyper", "wstats-layers:0,2-qts:0,50,100"]
    write_features(make_zoo(artifacts, "shallow", 40, num_layers=2), [*shallow], artifacts.features("shallow"))
    budget = {"trials": 1, "predictors": ["linear", "catboost"]}
    params = make_params(SIZES, SETS, **budget)
    for name in ("first", "second"):
        search(artifacts, params, name, FakeTracker())
    return artifacts, make_params({name: SIZES[name] for name in ("first", "second")}, SETS, **budget)


@pytest.fixture(scope="module")
def tables(project) -> tuple[pd.DataFrame, pd.DataFrame]:
    artifacts, params = project
    evaluate(artifacts, params)
    return tuple(pd.read_csv(artifacts.evaluation / name) for name in ("scores.csv", "transfer.csv"))


def test_scores_hold_every_search_with_intervals_and_the_baseline(project, tables):
    artifacts, _ = project
    table, _ = tables
    assert list(table.columns) == [
        "collection", "predictor", "features", "networks_train", "networks_test",
        "r2", "r2_low", "r2_high", "mse", "mse_low", "mse_high", "mae", "mae_low", "mae_high",
        "kendall_tau", "kendall_tau_low", "kendall_tau_high", "kendall_tau_ceiling", "hyper_r2", "hyper_kendall_tau",
    ]  # fmt: skip
    assert len(table) == 2 * 2 * 3
    for row in table.itertuples():
        found = pd.read_csv(artifacts.predictor(row.collection, row.predictor, row.features) / "predictions.csv")
        expected = scores.score(found["test_accuracy"], found["predicted"])
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value)
        for name in scores.SCORES:
            assert getattr(row, f"{name}_low") <= getattr(row, f"{name}_high")
        assert row.networks_train == row.networks_test == SIZES[row.collection] // 2
        hyper = table.query("collection == @row.collection and predictor == @row.predictor and features == 'hyper'")
        assert row.hyper_r2 == hyper["r2"].item()
        assert row.hyper_kendall_tau == hyper["kendall_tau"].item()


def test_the_summary_for_dvc_metrics_holds_the_same_scores(project, tables):
    artifacts, _ = project
    summary = json.loads((artifacts.evaluation / "metrics.json").read_text())
    for row in tables[0].itertuples():
        found = summary[row.collection][row.predictor][slug(row.features)]
        assert found == pytest.approx({name: getattr(row, name) for name in ("r2", "mae", "kendall_tau")})


def test_transfer_scores_each_model_on_each_held_out_half(project, tables):
    artifacts, _ = project
    _, table = tables
    assert len(table) == 2 * 2 * 2 * 3
    for row in table.itertuples():
        zoo = Collection.open(artifacts.zoo(row.tested_on))
        rows = zoo.final("test")
        model = predictors.load(artifacts.predictor(row.trained_on, row.predictor, row.features) / "model")
        predicted = model.predict(read_features(zoo, artifacts.features(row.tested_on), row.features, rows))
        expected = scores.score(zoo.metrics["test_accuracy"].iloc[rows], predicted)
        for name in ("r2", "kendall_tau", "kendall_tau_ceiling"):
            assert getattr(row, name) == pytest.approx(expected[name]), row
        assert row.networks_test == len(rows)


def test_a_collection_without_a_models_features_has_no_row_for_it(project, tmp_path):
    """`shallow` has no layer 3, and its layer 0 has the same shape: only weights.0 and hyper transfer."""
    artifacts, params = project
    broken = params.model_copy(update={"collections": list(SIZES)})
    with pytest.raises(CnnzooError, match=r"shallow.*predictions.csv: not there; make it with `dvc repro search`"):
        evaluate(artifacts, broken)
    shallow_sets = make_params(SIZES, ["weights.0", "hyper"], trials=1, predictors=["linear"])
    search(artifacts, shallow_sets, "shallow", FakeTracker())
    from cnnzoo.evaluation import _has_features  # noqa: PLC0415 - the rule itself; a whole table would need its sets

    zoo = Collection.open(artifacts.zoo("shallow"))
    found = {
        name: _has_features(zoo, name, predictors.load(artifacts.predictor("first", "linear", name) / "model"))
        for name in SETS
    }
    assert found == {"weights.0": True, "hyper": True, STATISTICS: False}


def test_one_collection_has_in_domain_rows_only(project, tmp_path):
    artifacts, params = project
    alone = params.model_copy(update={"collections": ["first"]})
    elsewhere = type("Elsewhere", (Artifacts,), {"evaluation": tmp_path / "evaluation"})(artifacts.root)
    evaluate(elsewhere, alone)
    table = pd.read_csv(tmp_path / "evaluation" / "transfer.csv")
    assert (table["trained_on"] == table["tested_on"]).all()
    assert len(table) == 2 * 3


def test_without_the_hyperparameter_search_the_baseline_is_empty(project, tmp_path):
    artifacts, params = project
    without = params.model_copy(update={"features": params.features.model_copy(update={"sets": [STATISTICS]})})
    elsewhere = type("Elsewhere", (Artifacts,), {"evaluation": tmp_path / "evaluation"})(artifacts.root)
    evaluate(elsewhere, without)
    table = pd.read_csv(tmp_path / "evaluation" / "scores.csv")
    assert table["hyper_r2"].isna().all()
    assert np.isfinite(table["r2"]).all()


def test_evaluating_twice_gives_the_same_bytes(project, tables):
    artifacts, params = project
    first = (artifacts.evaluation / "scores.csv").read_bytes()
    evaluate(artifacts, params)
    assert (artifacts.evaluation / "scores.csv").read_bytes() == first


HEADER = b"row,network,test_accuracy,predicted\n"
DAMAGES = [
    # (file, its bytes or None for no file, what the message must say)
    ("metrics.json", None, "not there"),
    ("metrics.json", b'{"networks_train": 4', "damaged"),
    ("metrics.json", b"\xff\xfe", "damaged"),
    ("metrics.json", b"[]", "`networks_train`"),
    ("metrics.json", b'{"networks_train": 40, "networks_test": "40"}', "`networks_test`"),
    ("predictions.csv", None, "not there"),
    ("predictions.csv", b"", "damaged"),
    ("predictions.csv", HEADER, "no rows"),
    ("predictions.csv", b"\x00\xff\xfe\n\x80", "damaged"),
    ("predictions.csv", HEADER + b"1,first/000000,0.5,high\n", "high"),
    ("predictions.csv", HEADER + b"1.5,first/000000,0.5,0.5\n", "damaged"),
    ("predictions.csv", HEADER + b"1,first/000000,0.5\n", "missing or not finite"),
    ("predictions.csv", HEADER + b"1,first/000000,0.5,inf\n", "missing or not finite"),
    ("predictions.csv", b"row,network,predicted\n1,first/000000,0.5\n", "test_accuracy"),
]


@pytest.mark.parametrize(("name", "content", "says"), DAMAGES)
def test_damaged_results_of_a_search_are_named_with_their_remedy(project, name, content, says):
    artifacts, params = project
    path = artifacts.predictor("first", "linear", "hyper") / name
    whole = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(CnnzooError, match=r"make it.* with `dvc repro search`") as caught:
            evaluate(artifacts, params)
    finally:
        path.write_bytes(whole)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
