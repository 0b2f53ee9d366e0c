"""Forecasts of final accuracies from early checkpoints."""

import numpy as np
import pandas as pd
import pytest

from cnnzoo import scores
from cnnzoo.collection import Collection, format
from cnnzoo.errors import CnnzooError
from cnnzoo.features import write_features
from cnnzoo.forecasting import AS_IS, INPUTS, STOPPED, forecast, read_checkpoints, stop
from zoos import FINAL, STATISTICS, make_params, make_project

NETWORKS = 80


def project(root, networks=NETWORKS):
    """A synthetic collection whose weights at epoch 0 know nothing, at the last epoch most of what there is to know."""
    artifacts = make_project(root, {"first": networks}, [STATISTICS])
    params = make_params({"first": networks}, [STATISTICS])
    chosen = params.forecast.model_copy(update={"features": STATISTICS, "predictor": "linear"})
    return artifacts, params.model_copy(update={"forecast": chosen})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with its forecasts; tests only read it."""
    artifacts, params = project(tmp_path_factory.mktemp("forecast"))
    forecast(artifacts, params, "first")
    return artifacts, params


def read(artifacts, name):
    return pd.read_csv(artifacts.forecast("first") / name)


def test_every_input_is_scored_at_every_epoch(made):
    artifacts, _ = made
    table = read(artifacts, "forecast.csv")
    assert list(table.groupby(["epoch", "input"], sort=False).size().index) == [
        (epoch, name) for epoch in (0, FINAL) for name in (AS_IS, *INPUTS)
    ]
    assert (table["networks_train"] == NETWORKS // 2).all()
    assert (table["networks_test"] == NETWORKS // 2).all()
    assert (table["r2_low"] <= table["r2"] + 1e-9).all()
    assert not table.drop(columns="kendall_tau_ceiling").isna().any(axis=None)


def test_the_last_checkpoint_knows_more_than_the_first_and_the_final_accuracy_everything(made):
    artifacts, _ = made
    tau = read(artifacts, "forecast.csv").set_index(["epoch", "input"])["kendall_tau"]
    assert tau[FINAL, "weights"] > tau[0, "weights"] + 0.2
    assert tau[FINAL, AS_IS] == 1
    assert tau[0, AS_IS] == 0, "at the initialisation all networks of this collection are equally bad"
    assert tau[0, "hyper"] == tau[FINAL, "hyper"], "hyperparameters do not depend on the epoch"


def test_the_accuracy_as_it_is_is_scored_as_a_prediction(made):
    artifacts, _ = made
    zoo = Collection.open(artifacts.zoo("first"))
    now, final = (zoo.metrics["test_accuracy"].to_numpy()[zoo.at(epoch, "test")] for epoch in (0, FINAL))
    row = read(artifacts, "forecast.csv").set_index(["epoch", "input"]).loc[(0, AS_IS)]
    assert row["r2"] == pytest.approx(scores.r2(final, now))
    assert row["mae"] == pytest.approx(np.abs(final - now).mean())


def test_checkpoints_and_final_accuracies_are_those_of_the_same_networks(made):
    artifacts, params = made
    zoo = Collection.open(artifacts.zoo("first"))
    expected = zoo.metrics[zoo.metrics["step"] == FINAL].set_index("modeldir")["test_accuracy"]
    for half in ("train", "test"):
        found = read_checkpoints(artifacts, params, zoo, "first", 0, half)
        names = zoo.metrics["modeldir"].iloc[found.rows]
        assert (zoo.metrics["step"].iloc[found.rows] == 0).all()
        assert found.final.tolist() == expected[names].tolist()
        assert set(names) == set(zoo.metrics["modeldir"].iloc[zoo.final(half)])


def test_the_final_accuracies_of_the_test_half_reach_no_forecast(tmp_path, made):
    """Other final accuracies in the test half: the forecasts, which `stopping.csv` shows by who is stopped, stay."""
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    metrics = zoo.metrics.copy()
    rows = zoo.final("test")
    metrics.iloc[rows, metrics.columns.get_loc("test_accuracy")] = 0.5 + 0.001 * np.arange(len(rows))
    metrics.to_csv(zoo.path / format.METRICS, compression={"method": "gzip", "mtime": 0})
    forecast(artifacts, params, "first")
    before, after = (read(project, "stopping.csv").query("epoch == 0") for project in (made[0], artifacts))
    assert before["saved"].tolist() == after["saved"].tolist()
    assert before["regret"].tolist() != after["regret"].tolist()


def test_writing_twice_gives_the_same_bytes(tmp_path):
    artifacts, params = project(tmp_path)
    texts = []
    for _ in range(2):
        forecast(artifacts, params, "first")
        folder = artifacts.forecast("first")
        texts.append([(folder / name).read_bytes() for name in ("forecast.csv", "stopping.csv")])
    assert texts[0] == texts[1]


def test_stopping_against_brute_force():
    rng = np.random.default_rng(0)
    final, forecasts = rng.random(40), rng.random(40)
    passes, epochs = rng.choice([0.1, 0.5, 1.0], 40), np.full(40, 86.0)
    for share in STOPPED:
        stopped = sorted(range(40), key=lambda network: forecasts[network])[: int(share * 40)]
        going = [network for network in range(40) if network not in stopped]
        best = sorted(range(40), key=lambda network: -final[network])[:4]
        found = stop(final, forecasts, share, np.stack([passes, epochs], axis=1), epoch=20)
        assert found["kept_best"] == pytest.approx(sum(network in going for network in best) / 4)
        assert found["regret"] == pytest.approx(max(final) - max(final[network] for network in going))
        spared = sum(passes[network] * 66 for network in stopped)
        assert found["saved"] == pytest.approx(spared / sum(passes * 86))


def test_a_perfect_forecast_loses_nothing_and_a_reversed_one_the_best():
    final = np.linspace(0, 1, 20)
    work = np.ones((20, 2))
    assert stop(final, final, 0.9, work, 0) == {"kept_best": 1.0, "regret": 0.0, "saved": pytest.approx(0.9)}
    assert stop(final, -final, 0.5, work, 0)["kept_best"] == 0
    assert stop(final, -final, 0.5, work, 1)["saved"] == 0, "after the last epoch nothing is left to save"


def test_missing_features_and_too_few_networks_are_told(tmp_path):
    artifacts, params = project(tmp_path)
    other = params.model_copy(update={"forecast": params.forecast.model_copy(update={"features": "wstats-glob"})})
    with pytest.raises(CnnzooError, match=r"wstats-glob\.parquet: not there"):
        forecast(artifacts, other, "first")
    write_features(Collection.open(artifacts.zoo("first")), ["wstats-glob"], artifacts.features("first"))
    forecast(artifacts, other, "first")
    (tmp_path / "small").mkdir()
    artifacts, params = project(tmp_path / "small", networks=2)
    with pytest.raises(CnnzooError, match=r"1 network\(s\) of the train half at epoch 0"):
        forecast(artifacts, params, "first")
