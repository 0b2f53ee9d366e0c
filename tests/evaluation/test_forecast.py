"""Forecasts of final accuracies from early checkpoints, and stopping by them, against plain recomputation."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import mean_absolute_error, r2_score

from cnnzoo.core import seeds
from cnnzoo.core.errors import CnnzooError
from cnnzoo.evaluation.forecast import AS_IS, INPUTS, STOPPED, forecast, read_checkpoints, rows_at, stop
from cnnzoo.features import read_features, write_features
from cnnzoo.predictors import REGISTRY, scores
from cnnzoo.zoo import Collection, format
from zoos import FINAL, STATISTICS, form_groups, make_params, make_project, tell_scores_apart

NETWORKS = 83


def project(root, networks=NETWORKS):
    """A synthetic collection whose weights at epoch 0 know nothing, at the last epoch most of what there is to know."""
    artifacts = make_project(root, {"first": networks}, [STATISTICS])
    tell_scores_apart(artifacts.zoo("first"))
    params = make_params({"first": networks}, [STATISTICS])
    chosen = params.forecast.model_copy(update={"features": STATISTICS, "predictor": "linear"})
    return artifacts, params.model_copy(update={"forecast": chosen})


def rewrite(zoo, rows, **columns):
    """Keep some rows of a collection, in a new order, with other metrics; networks stay in their half."""
    split = format.read_split(zoo.path / format.SPLIT, len(zoo.weights))
    place = {int(row): index for index, row in enumerate(rows)}
    weights = np.array(zoo.weights)[rows]
    (zoo.path / format.WEIGHTS).unlink()  # the old file stays mapped
    np.save(zoo.path / format.WEIGHTS, weights)
    metrics = zoo.metrics.assign(**columns).iloc[rows]
    metrics.to_csv(zoo.path / format.METRICS, compression={"method": "gzip", "mtime": 0})
    (zoo.path / format.SPLIT).write_text("".join(f"{place[row]}\n" for row in split.tolist() if row in place))
    return Collection.open(zoo.path)


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
    assert (table["networks_train"] == 41).all()
    assert (table["networks_test"] == 42).all()
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


def table_of(zoo, artifacts, name, rows):
    """The table of an input, part by part from the files of the collection."""
    metrics = zoo.metrics.iloc[rows].set_axis(rows)
    parts = []
    for part in name.split("+"):
        if part == "weights":
            parts.append(read_features(zoo, artifacts.features("first"), STATISTICS, rows))
        elif part == "accuracy":
            parts.append(metrics[["test_accuracy"]])
        else:
            numbers = metrics[[f"config.{key}" for key in NUMBERS]].astype(float)
            words = {f"config.{key}": pd.Categorical(metrics[f"config.{key}"], WORDS[key]) for key in WORDS}
            parts.append(numbers.assign(**words)[[f"config.{key}" for key in ORDER]])
    return pd.concat(parts, axis=1)


NUMBERS = ("dropout", "init_std", "l2reg", "learning_rate", "train_fraction")
WORDS = {
    "activation": ["relu", "tanh"],
    "optimizer": ["sgd", "adam", "rmsprop"],
    "w_init": ["he_normal", "glorot_normal", "orthogonal", "RandomNormal", "TruncatedNormal"],
}
ORDER = (
    "learning_rate", "l2reg", "init_std", "dropout", "train_fraction", "activation", "optimizer", "w_init",
)  # fmt: skip


def forecasts_by_hand(artifacts, params, epoch, name):
    """The forecasts of the test half from one input, by a predictor fitted to the training half's checkpoints."""
    zoo = Collection.open(artifacts.zoo("first"))
    accuracy = zoo.metrics["test_accuracy"].to_numpy()
    if name == AS_IS:
        return accuracy[zoo.at(epoch, "test")]
    predictor = params.forecast.predictor
    limits = {}
    if predictor == "catboost":
        key = ("search.random_state", "first", "catboost", f"forecast {name}")
        state = int(seeds.generator(params.seed, *key).integers(2**31))
        limits = {"iterations": params.search.max_trees, "random_state": state}
    model = REGISTRY[predictor](**REGISTRY[predictor].start, **limits)
    model.fit(table_of(zoo, artifacts, name, zoo.at(epoch, "train")), accuracy[zoo.final("train")])
    return model.predict(table_of(zoo, artifacts, name, zoo.at(epoch, "test")))


def tau(target, predicted):
    """SciPy's tau-b; 0 for a constant prediction, which ranks nothing."""
    return kendalltau(target, predicted).statistic if np.ptp(predicted) > 0 else 0.0


MEASURES = {"r2": r2_score, "kendall_tau": tau, "mae": mean_absolute_error}


@pytest.fixture(scope="module", params=["linear", "catboost"])
def by_hand(request, made, tmp_path_factory):
    """A project, what it wrote, and all forecasts of its test half made by hand."""
    artifacts, params = made
    if request.param != "linear":
        artifacts, params = project(tmp_path_factory.mktemp("trees"))
        chosen = params.forecast.model_copy(update={"predictor": request.param})
        params = params.model_copy(update={"forecast": chosen})
        forecast(artifacts, params, "first")
    values = {
        (epoch, name): forecasts_by_hand(artifacts, params, epoch, name)
        for epoch in (0, FINAL)
        for name in (AS_IS, *INPUTS)
    }
    return artifacts, params, values


@pytest.mark.slow
def test_every_number_is_that_of_forecasts_by_hand_and_a_plain_bootstrap(by_hand):
    artifacts, params, values = by_hand
    table = read(artifacts, "forecast.csv").set_index(["epoch", "input"])
    zoo = Collection.open(artifacts.zoo("first"))
    final = zoo.metrics["test_accuracy"].to_numpy()[zoo.final("test")]
    count = len(final)
    resamples = seeds.generator(params.seed, "forecast.bootstrap", "first").integers(0, count, (50, count))
    for epoch in (0, FINAL):
        basis = values[epoch, "accuracy"]
        for name in (AS_IS, *INPUTS):
            row, predicted = table.loc[(epoch, name)], values[epoch, name]
            assert row["predictor"] == ("none" if name == AS_IS else params.forecast.predictor)
            for score, measure in MEASURES.items():
                drawn = [measure(final[r], predicted[r]) for r in resamples]
                expected = [measure(final, predicted), *np.percentile(drawn, [5, 95])]
                found = [row[score], row[f"{score}_low"], row[f"{score}_high"]]
                assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), (epoch, name, score)
                if score != "mae":
                    gains = [own - measure(final[r], basis[r]) for own, r in zip(drawn, resamples, strict=True)]
                    expected = [expected[0] - measure(final, basis), *np.percentile(gains, [5, 95])]
                    found = [row[f"{score}_gain"], row[f"{score}_gain_low"], row[f"{score}_gain_high"]]
                    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), (epoch, name, score)
            tied = sum((final == value).sum() - 1 for value in final) / (count * (count - 1))
            assert row["kendall_tau_ceiling"] == pytest.approx(np.sqrt(1 - tied))


@pytest.mark.slow
def test_intervals_of_replicates_are_those_of_resampled_groups(tmp_path):
    artifacts, params = project(tmp_path)
    zoo = form_groups(artifacts.zoo("first"), 4)
    write_features(zoo, [STATISTICS], artifacts.features("first"))
    forecast(artifacts, params, "first")
    row = read(artifacts, "forecast.csv").set_index(["epoch", "input"]).loc[(0, AS_IS)]
    final, first = zoo.final("test"), zoo.at(0, "test")
    accuracy = zoo.metrics["test_accuracy"].to_numpy()
    rng = seeds.generator(params.seed, "forecast.bootstrap", "first")
    draws = scores.bootstrap(accuracy[final], accuracy[first], params.evaluate.bootstrap, rng, zoo.groups[final])
    expected = scores.interval(draws["mae"], params.evaluate.confidence)
    assert (row["mae_low"], row["mae_high"]) == pytest.approx(expected)


def test_every_number_of_stopping_is_that_of_forecasts_by_hand(by_hand):
    artifacts, params, values = by_hand
    table = read(artifacts, "stopping.csv").set_index(["epoch", "input", "stopped"])
    zoo = Collection.open(artifacts.zoo("first"))
    metrics = zoo.metrics.iloc[zoo.final("test")]
    final, fraction = metrics["test_accuracy"].to_numpy(), metrics["config.train_fraction"].to_numpy()
    place = np.empty(len(final), dtype=int)
    place[seeds.generator(params.seed, "forecast.lots", "first").permutation(len(final))] = np.arange(len(final))
    assert len(table) == len(values) * len(STOPPED)
    for (epoch, name), forecasts in values.items():
        order = sorted(range(len(final)), key=lambda n: (forecasts[n], place[n]))
        for share in STOPPED:
            expected = stopping_by_definition(final, order, share, fraction * FINAL, fraction * (FINAL - epoch))
            assert table.loc[(epoch, name, share)].drop("collection").to_dict() == pytest.approx(expected), name


def stopping_by_definition(final, order, share, passes, left):
    """What `forecasting` says of stopping, network by network, with exact fractions."""
    count = math.floor(Fraction(str(share)) * len(final))
    stopped, going = set(order[:count]), set(order[count:])
    row = {"regret": max(final) - max(final[n] for n in going), "saved": sum(left[n] for n in stopped) / sum(passes)}
    for name, best in (("kept_best", Fraction(1, 10)), ("kept_best_5", Fraction(1, 20))):
        last = sorted(final, reverse=True)[math.ceil(best * len(final)) - 1]
        among = [n for n in range(len(final)) if final[n] >= last]
        row[name] = len(going.intersection(among)) / len(among)
    return row


@pytest.mark.parametrize("networks", [2, 9, 10, 11, 15, 21, 30, 37])
def test_numbers_of_networks_that_shares_do_not_divide(networks):
    """The best tenth of 15 are two, three quarters of 15 are eleven."""
    rng = np.random.default_rng(networks)
    final, order = np.round(rng.random(networks), 2), rng.permutation(networks)
    passes, left = rng.random(networks), rng.random(networks)
    for share in STOPPED:
        found = stop(final, order, share, passes, left)
        assert found == pytest.approx(stopping_by_definition(final, order.tolist(), share, passes, left))


def test_nothing_but_the_training_half_at_the_epoch_is_fitted_and_nothing_but_the_test_half_predicted(
    tmp_path, monkeypatch
):
    artifacts, params = project(tmp_path)
    seen = []

    class Spy(REGISTRY["linear"]):
        def fit(self, X, y):  # noqa: N803
            seen.append(("fit", X.index.tolist(), list(y)))
            return super().fit(X, y)

        def predict(self, X):  # noqa: N803
            seen.append(("predict", X.index.tolist()))
            return super().predict(X)

    monkeypatch.setitem(REGISTRY, "linear", Spy)
    forecast(artifacts, params, "first")
    zoo = Collection.open(artifacts.zoo("first"))
    final = zoo.metrics["test_accuracy"].to_numpy()[zoo.final("train")].tolist()
    expected = []
    for epoch in (0, FINAL):
        once = [("fit", zoo.at(epoch, "train").tolist(), final), ("predict", zoo.at(epoch, "test").tolist())]
        expected += once * len(INPUTS)
    assert seen == expected


@pytest.mark.parametrize("kept", ["all", "some"])
def test_checkpoints_and_final_accuracies_are_those_of_the_same_networks(tmp_path, kept):
    """Rows in any order, and early or final checkpoints of some networks missing."""
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    final = zoo.metrics[zoo.metrics["step"] == FINAL].set_index("modeldir")["test_accuracy"]
    early = {zoo.metrics["modeldir"].iloc[row]: zoo.weights[row, -3:] for row in zoo.at(0)}
    halves = {half: set(zoo.metrics["modeldir"].iloc[zoo.final(half)]) for half in ("train", "test")}
    rows = np.random.default_rng(5).permutation(len(zoo.weights))
    lost = {"all": [], "some": [*zoo.at(0)[[4, 30]], *zoo.final()[[7, 60]]]}[kept]
    gone = set(zoo.metrics["modeldir"].iloc[lost])
    zoo = rewrite(zoo, rows[~np.isin(rows, lost)], test_loss=np.arange(len(rows)))
    write_features(zoo, [STATISTICS], artifacts.features("first"))
    seen = set()
    for half in ("train", "test"):
        rows = rows_at(zoo, 0, half)
        found = read_checkpoints(artifacts, params, zoo, "first", rows)
        names = zoo.metrics["modeldir"].iloc[rows]
        assert names.is_unique
        assert (zoo.metrics["step"].iloc[rows] == 0).all()
        assert found.final.tolist() == final[names].tolist()
        np.testing.assert_array_equal(zoo.weights[rows, -3:], [early[name] for name in names])
        assert found.input("weights+hyper+accuracy").index.tolist() == rows.tolist()
        if kept == "all":
            assert set(names) == halves[half]
        seen |= set(names)
    assert seen == (halves["train"] | halves["test"]) - gone


def test_networks_without_a_checkpoint_at_an_epoch_are_counted_out(tmp_path):
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    lost = zoo.at(0, "test")[:5]
    zoo = rewrite(zoo, np.setdiff1d(np.arange(len(zoo.weights)), lost))
    write_features(zoo, [STATISTICS], artifacts.features("first"))
    forecast(artifacts, params, "first")
    sizes = read(artifacts, "forecast.csv").groupby("epoch")[["networks_train", "networks_test"]].first()
    assert sizes.loc[0].tolist() == [41, 37]
    assert sizes.loc[FINAL].tolist() == [41, 42]


def test_a_collection_of_final_checkpoints_alone_is_forecast_from_them(tmp_path):
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    zoo = rewrite(zoo, zoo.final())
    write_features(zoo, [STATISTICS], artifacts.features("first"))
    forecast(artifacts, params, "first")
    assert set(read(artifacts, "forecast.csv")["epoch"]) == {FINAL}
    assert (read(artifacts, "stopping.csv")["saved"] == 0).all(), "at the end nothing is left to save"


def test_an_epoch_of_too_few_networks_is_left_out_and_told(tmp_path, capsys):
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    zoo = rewrite(zoo, np.sort(np.concatenate([zoo.at(0, "train")[:11], zoo.at(0, "test"), zoo.final()])))
    write_features(zoo, [STATISTICS], artifacts.features("first"))
    forecast(artifacts, params, "first")
    assert set(read(artifacts, "forecast.csv")["epoch"]) == {FINAL}
    assert "first: epoch 0 is left out, it has 11 to train and 42 to test" in capsys.readouterr().out


@pytest.mark.parametrize("epoch", [0, FINAL])
def test_an_accuracy_that_is_no_number_is_told_with_its_network(tmp_path, epoch):
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    row = zoo.at(epoch)[13]
    accuracies = zoo.metrics["test_accuracy"].to_numpy(copy=True)
    accuracies[row] = np.nan
    rewrite(zoo, np.arange(len(zoo.weights)), test_accuracy=accuracies)
    with pytest.raises(CnnzooError, match="`test_accuracy` of network first/000013 is nan"):
        forecast(artifacts, params, "first")
    assert not artifacts.forecast("first").exists()


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


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_bytes(made, tmp_path):
    artifacts, params = made
    again, _ = project(tmp_path)
    runtime = params.runtime.model_copy(update={"threads": 3})
    forecast(again, params.model_copy(update={"runtime": runtime}), "first")
    for name in ("forecast.csv", "stopping.csv"):
        assert (again.forecast("first") / name).read_bytes() == (artifacts.forecast("first") / name).read_bytes()


def test_stopping_against_brute_force():
    rng = np.random.default_rng(0)
    final, forecasts = np.round(rng.random(40), 1), rng.random(40)
    final[[3, 17, 21]] = 1  # ties among the best
    fraction, epochs = rng.choice([0.1, 0.5, 1.0], 40), rng.choice([30.0, 86.0], 40)
    for share in STOPPED:
        stopped = sorted(range(40), key=lambda network: forecasts[network])[: round(share * 40)]
        going = [network for network in range(40) if network not in stopped]
        found = stop(final, np.argsort(forecasts), share, fraction * epochs, fraction * (epochs - 20))
        for name, count in (("kept_best", 4), ("kept_best_5", 2)):
            best = [n for n in range(40) if sum(final > final[n]) < count]
            assert len(best) > count
            assert found[name] == pytest.approx(sum(network in going for network in best) / len(best))
        assert found["regret"] == pytest.approx(max(final) - max(final[network] for network in going))
        spared = sum(fraction[network] * (epochs[network] - 20) for network in stopped)
        assert found["saved"] == pytest.approx(spared / sum(fraction * epochs))


def test_a_perfect_forecast_loses_nothing_and_a_reversed_one_the_best():
    final, one = np.linspace(0, 1, 30), np.ones(30)
    up = np.arange(30)
    best = {"kept_best": 1.0, "kept_best_5": 1.0, "regret": 0.0, "saved": pytest.approx(0.9)}
    assert stop(final, up, 0.9, one, one) == best
    reversed_ = stop(final, up[::-1], 0.5, one, one)
    assert reversed_["kept_best"] == reversed_["kept_best_5"] == 0
    assert reversed_["regret"] == pytest.approx(15 / 29)


def test_networks_with_equal_forecasts_are_stopped_by_lot(tmp_path):
    """At epoch 0 all accuracies are 0.1; in this collection the first networks are the best."""
    artifacts, params = project(tmp_path)
    zoo = Collection.open(artifacts.zoo("first"))
    accuracies = zoo.metrics["test_accuracy"].to_numpy(copy=True)
    accuracies[zoo.final()] = np.linspace(0.9, 0.2, NETWORKS)
    rewrite(zoo, np.arange(len(zoo.weights)), test_accuracy=accuracies)
    forecast(artifacts, params, "first")
    row = read(artifacts, "stopping.csv").query("epoch == 0 and input == @AS_IS and stopped == 0.5")
    assert 0 < row["kept_best"].item() < 1


def test_missing_features_and_too_few_networks_are_told(tmp_path):
    artifacts, params = project(tmp_path)
    other = params.model_copy(update={"forecast": params.forecast.model_copy(update={"features": "wstats-glob"})})
    with pytest.raises(CnnzooError, match=r"wstats-glob\.parquet: not there"):
        forecast(artifacts, other, "first")
    write_features(Collection.open(artifacts.zoo("first")), ["wstats-glob"], artifacts.features("first"))
    forecast(artifacts, other, "first")
    (tmp_path / "small").mkdir()
    artifacts, params = project(tmp_path / "small", networks=22)
    with pytest.raises(CnnzooError, match="at no epoch enough networks have a checkpoint and a final one, 12 to train"):
        forecast(artifacts, params, "first")
