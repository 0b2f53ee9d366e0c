"""Evaluation over collections of one shape and of several: every table against plain recomputation."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from cnnzoo import predictors
from cnnzoo.core import seeds
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import RECIPE, read_predictions
from cnnzoo.evaluation.compare import evaluate
from cnnzoo.features import read_features
from cnnzoo.predictors import scores
from cnnzoo.search.runs import search
from cnnzoo.zoo import Collection
from tuned import untracked
from zoos import STATISTICS, form_groups, make_params, make_project, tell_scores_apart

pytestmark = pytest.mark.slow

SETS = ["weights.0", "hyper", STATISTICS]
TOP = "wstats-layers:0,-3,-2,-1-qts:0,25,50,75,100"
"""The paper's features for networks of different depth: input layer and top three layers."""
SIZES = {"first": 81, "second": 63}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two searched collections."""
    artifacts = make_project(tmp_path_factory.mktemp("project"), SIZES, SETS)
    for name in SIZES:
        tell_scores_apart(artifacts.zoo(name))
    params = make_params(SIZES, SETS, trials=1, predictors=["linear", "catboost"])
    for name in SIZES:
        search(artifacts, params, name, untracked)
    return artifacts, params


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
        "r2_gain", "r2_gain_low", "r2_gain_high", "kendall_tau_gain", "kendall_tau_gain_low", "kendall_tau_gain_high",
        "p_value",
    ]  # fmt: skip
    assert table[["r2_gain", "r2_gain_low", "kendall_tau_gain_high"]].isna().all(axis=None), "no recipe is searched"
    assert len(table) == 2 * 2 * 3
    for row in table.itertuples():
        found = pd.read_csv(artifacts.predictor(row.collection, row.predictor, row.features) / "predictions.csv")
        expected = scores.score(found["test_accuracy"], found["predicted"])
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value)
        for name in scores.SCORES:
            assert getattr(row, f"{name}_low") <= getattr(row, f"{name}_high")
        assert row.networks_train == SIZES[row.collection] // 2
        assert row.networks_test == row.networks_train + 1
        hyper = table.query("collection == @row.collection and predictor == @row.predictor and features == 'hyper'")
        assert row.hyper_r2 == hyper["r2"].item()
        assert row.hyper_kendall_tau == hyper["kendall_tau"].item()


def test_intervals_of_replicates_are_those_of_resampled_groups(project, tables, tmp_path):
    artifacts, params = Artifacts(tmp_path), project[1]
    shutil.copytree(project[0].root, tmp_path, dirs_exist_ok=True)
    groups = form_groups(artifacts.zoo("first"), 4).groups
    evaluate(artifacts, params)
    table = pd.read_csv(artifacts.evaluation / "scores.csv")
    for row in table.itertuples():
        found = pd.read_csv(artifacts.predictor(row.collection, row.predictor, row.features) / "predictions.csv")
        rng = seeds.generator(params.seed, "evaluate.bootstrap", row.collection)
        own = groups[found["row"]] if row.collection == "first" else None
        draws = scores.bootstrap(found["test_accuracy"], found["predicted"], params.evaluate.bootstrap, rng, own)
        assert (row.mae_low, row.mae_high) == pytest.approx(scores.interval(draws["mae"], params.evaluate.confidence))


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


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[pd.DataFrame, Artifacts]:
    """The transfer table of three collections of other depth and width, and where they lie."""
    sets = ["weights.0", "hyper", "wstats-glob", TOP, "wnorm-layers:0,1,2-l2"]
    other = {"shallow": {"num_layers": 2}, "wide": {"num_units": 6}}
    sizes = {"usual": 50, "shallow": 40, "wide": 30}
    artifacts = make_project(tmp_path_factory.mktemp("shapes"), sizes, sets, other)
    params = make_params(sizes, sets, trials=1, predictors=["linear"])
    for name in sizes:
        search(artifacts, params, name, untracked)
    evaluate(artifacts, params)
    return pd.read_csv(artifacts.evaluation / "transfer.csv"), artifacts


def test_models_transfer_to_other_architectures_where_features_have_the_same_names(shapes):
    """Layer 0 has the same shape in `shallow` and another in `wide`; layer 2 of `shallow` is its dense layer."""
    table, _ = shapes
    found = {
        features: {(row.trained_on, row.tested_on) for row in rows.itertuples()}
        for features, rows in table.groupby("features")
    }
    names = ("usual", "shallow", "wide")
    everywhere = {(home, other) for home in names for other in names}
    assert found["hyper"] == found["wstats-glob"] == found[TOP] == everywhere
    assert found["weights.0"] == {pair for pair in everywhere if (pair[0] == "wide") == (pair[1] == "wide")}
    assert found["wnorm-layers:0,1,2-l2"] == {
        pair for pair in everywhere if (pair[0] == "shallow") == (pair[1] == "shallow")
    }


def test_transfer_tells_whether_the_architecture_is_the_same(shapes, tables):
    table, _ = shapes
    assert (table["same_architecture"] == (table["trained_on"] == table["tested_on"])).all()
    assert tables[1]["same_architecture"].all(), "both collections hold networks of one shape"


def test_transfer_to_another_architecture_is_scored_on_its_held_out_half(shapes):
    table, artifacts = shapes
    rows = table.query("trained_on == 'usual' and tested_on == 'shallow'")
    zoo = Collection.open(artifacts.zoo("shallow"))
    test = zoo.final("test")
    for row in rows.itertuples():
        model = predictors.load(artifacts.predictor("usual", "linear", row.features) / "model")
        predicted = model.predict(read_features(zoo, artifacts.features("shallow"), row.features, test))
        assert row.r2 == pytest.approx(scores.r2(zoo.metrics["test_accuracy"].iloc[test], predicted))
        assert row.networks_test == 20


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Artifacts, object, pd.DataFrame]:
    """One collection, with ties among its accuracies, searched with the published recipe among others."""
    sets = [RECIPE[1], "hyper"]
    artifacts = make_project(tmp_path_factory.mktemp("compared"), {"only": 91}, sets)
    zoo = tell_scores_apart(artifacts.zoo("only"))
    metrics = zoo.metrics.assign(test_accuracy=zoo.metrics["test_accuracy"].round(2))
    metrics.to_csv(zoo.path / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
    params = make_params({"only": 91}, sets, trials=1, predictors=["linear", "catboost"])
    search(artifacts, params, "only", untracked)
    evaluate(artifacts, params)
    return artifacts, params, pd.read_csv(artifacts.evaluation / "scores.csv", float_precision="round_trip")


def tau(target, predicted):
    """SciPy's tau-b; 0 for a constant prediction, which ranks nothing; undefined for a constant target."""
    if np.ptp(target) == 0:
        return np.nan
    return kendalltau(target, predicted).statistic if np.ptp(predicted) > 0 else 0.0


def r2(target, predicted):
    """scikit-learn's R2; undefined for a constant target."""
    return r2_score(target, predicted) if np.ptp(target) > 0 else np.nan


MEASURES = {"r2": r2, "mse": mean_squared_error, "mae": mean_absolute_error, "kendall_tau": tau}


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_every_number_is_that_of_plain_resampling_and_pairing_of_the_held_out_networks(compared, activation):
    """scores.csv and by_activation.csv from predictions.csv: scores, intervals, gains, the baseline, p-values."""
    artifacts, params, table = compared
    key = ("only",) if activation is None else ("only", activation)
    if activation is not None:
        table = pd.read_csv(artifacts.evaluation / "by_activation.csv", float_precision="round_trip")
        table = table[table["activation"] == activation]
    words = Collection.open(artifacts.zoo("only")).metrics["config.activation"].to_numpy()
    found = {}
    for name in ("linear", "catboost"):
        for features in (RECIPE[1], "hyper"):
            every = pd.read_csv(artifacts.predictor("only", name, features) / "predictions.csv")
            found[name, features] = every[(words[every["row"]] == activation) | (activation is None)]
    target, basis = (found[RECIPE][column].to_numpy() for column in ("test_accuracy", "predicted"))
    count, confidence = len(target), 100 * params.evaluate.confidence
    tails = [50 - confidence / 2, 50 + confidence / 2]
    shape = params.evaluate.bootstrap, count
    resamples = seeds.generator(params.seed, "evaluate.bootstrap", *key).integers(0, count, shape)
    assert len(table) == len(found)
    for row in table.to_dict("records"):
        own = found[row["predictor"], row["features"]]["predicted"].to_numpy()
        hyper = found[row["predictor"], "hyper"]["predicted"].to_numpy()
        expected = {"networks_train": 45, "networks_test": count}
        for score, measure in MEASURES.items():
            value, drawn = measure(target, own), [measure(target[r], own[r]) for r in resamples]
            low, high = np.nanpercentile(drawn, tails)
            expected |= {score: value, f"{score}_low": low, f"{score}_high": high}
            if score in {"r2", "kendall_tau"}:
                gains = [mine - measure(target[r], basis[r]) for mine, r in zip(drawn, resamples, strict=True)]
                low, high = np.nanpercentile(gains, tails)
                expected |= {f"{score}_gain_low": low, f"{score}_gain_high": high}
                expected |= {f"{score}_gain": value - measure(target, basis), f"hyper_{score}": measure(target, hyper)}
        tied = sum((target == value).sum() - 1 for value in target) / (count * (count - 1))
        expected["kendall_tau_ceiling"] = np.sqrt(1 - tied)
        assert tied > 0
        rng = seeds.generator(params.seed, "evaluate.permutations", *key)
        paired = [r2_score(rng.permutation(target), own) for _ in range(shape[0])]
        expected["p_value"] = (1 + sum(value >= expected["r2"] - 1e-12 for value in paired)) / (1 + shape[0])
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert row["collection"] == "only"
        assert set(row) == {*expected, "collection", "predictor", "features"} | (
            {"activation"} if activation else set()
        )


def test_the_recipe_gains_nothing_on_itself(compared):
    _, _, table = compared
    same = table.query("predictor == @RECIPE[0] and features == @RECIPE[1]").filter(like="_gain")
    assert same.size == 6
    assert (same == 0).all(axis=None)


def test_p_values_tell_knowledge_from_chance(compared, tmp_path):
    artifacts, params, table = compared
    best = table.query("features == @RECIPE[1]")["p_value"]
    assert best.tolist() == pytest.approx([1 / (1 + params.evaluate.bootstrap)] * 2)
    path = artifacts.predictor("only", "linear", "hyper") / "predictions.csv"
    whole = path.read_bytes()
    found = pd.read_csv(path)
    found["predicted"] = np.random.default_rng(1).uniform(size=len(found))
    elsewhere = type("Elsewhere", (Artifacts,), {"evaluation": tmp_path / "evaluation"})(artifacts.root)
    try:
        found.to_csv(path, index=False)
        evaluate(elsewhere, params)
    finally:
        path.write_bytes(whole)
    guessed = pd.read_csv(tmp_path / "evaluation" / "scores.csv").query("predictor=='linear' and features=='hyper'")
    assert 0.05 < guessed["p_value"].item() <= 1


def test_networks_of_each_activation_are_also_scored_apart(compared):
    artifacts, _, _ = compared
    table = pd.read_csv(artifacts.evaluation / "by_activation.csv", float_precision="round_trip")
    whole = pd.read_csv(artifacts.evaluation / "scores.csv")
    assert set(table.columns) == {*whole.columns, "activation"}
    assert sorted(table.groupby(["predictor", "features", "activation"]).size().index) == sorted(
        (*search, activation)
        for search in zip(whole["predictor"], whole["features"], strict=True)
        for activation in ("relu", "tanh")
    )


@pytest.mark.parametrize("kept", [1, 2])
def test_activations_with_hardly_any_networks_have_undefined_scores_rather_than_none(compared, tmp_path, kept):
    """A collection of others may be lopsided: `kept` held-out networks are tanh."""
    artifacts, params, _ = compared
    zoo = Collection.open(artifacts.zoo("only"))
    path = zoo.path / "metrics.csv.gz"
    whole = path.read_bytes()
    metrics = zoo.metrics.assign(**{"config.activation": "relu"})
    rows = zoo.final("test")[:kept]
    metrics.iloc[rows, metrics.columns.get_loc("config.activation")] = "tanh"
    elsewhere = type("Elsewhere", (Artifacts,), {"evaluation": tmp_path / "evaluation"})(artifacts.root)
    try:
        metrics.to_csv(path, compression={"method": "gzip", "mtime": 0})
        evaluate(elsewhere, params)
    finally:
        path.write_bytes(whole)
    table = pd.read_csv(tmp_path / "evaluation" / "by_activation.csv").query("activation == 'tanh'")
    assert (table["networks_test"] == kept).all()
    assert table["mae"].notna().all()
    assert (table["r2"].isna() == (kept == 1)).all()


def change_networks(found):
    return found.assign(network=found["network"].to_numpy()[::-1])


def change_rows(found):
    return found.assign(row=found["row"] + 1_000_000)


@pytest.mark.parametrize(
    ("change", "searches", "says"),
    [
        (change_networks, [("linear", "hyper")], "other networks than in the collection's other searches"),
        (change_networks, None, "another state of the collection"),
        (change_rows, None, "another state of the collection"),
    ],
)
def test_searches_of_another_state_of_the_collection_are_refused(compared, change, searches, says):
    artifacts, params, table = compared
    everything = zip(table["predictor"], table["features"], strict=True)
    paths = [artifacts.predictor("only", *key) / "predictions.csv" for key in searches or everything]
    whole = [path.read_bytes() for path in paths]
    try:
        for path in paths:
            change(pd.read_csv(path)).to_csv(path, index=False)
        with pytest.raises(CnnzooError, match=rf"{says}.*again with `dvc repro -f search`"):
            evaluate(artifacts, params)
    finally:
        for path, content in zip(paths, whole, strict=True):
            path.write_bytes(content)


def test_a_collection_of_others_needs_its_split_to_be_predicted_and_says_so(project, tmp_path):
    """The published archives have neither split.csv nor diverged.csv; the first is needed for a test half."""
    artifacts, params = project
    shutil.copytree(artifacts.root, tmp_path / "copy")
    copy = Artifacts(tmp_path / "copy")
    evaluate(copy, params)
    table = (copy.evaluation / "transfer.csv").read_bytes()
    assert not (copy.zoo("second") / "diverged.csv").exists()
    (copy.zoo("second") / "split.csv").unlink()
    with pytest.raises(CnnzooError, match=r"second/split.csv: not there, so the collection has no halves"):
        evaluate(copy, params)
    assert (copy.evaluation / "transfer.csv").read_bytes() == table, "what was there stays"


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


def test_predictions_are_read_to_the_last_digit(tmp_path):
    """Numbers of 17 digits, as Python reads them."""
    numbers = np.random.default_rng(0).uniform(size=(500, 2)).tolist()
    folder = Artifacts(tmp_path).predictor("first", "linear", "hyper")
    folder.mkdir(parents=True)
    lines = [f"{row},first/{row:06d},{true!r},{predicted!r}" for row, (true, predicted) in enumerate(numbers)]
    (folder / "predictions.csv").write_text("\n".join(["row,network,test_accuracy,predicted", *lines]) + "\n")
    found = read_predictions(Artifacts(tmp_path), "first", "linear", "hyper")
    assert found[["test_accuracy", "predicted"]].to_numpy().tolist() == numbers


def test_one_network_that_is_not_where_it_was_is_enough_to_refuse(compared):
    """In every search alike, so that they agree with each other."""
    artifacts, params, table = compared
    paths = [
        artifacts.predictor("only", *key) / "predictions.csv"
        for key in zip(table["predictor"], table["features"], strict=True)
    ]
    whole = [path.read_bytes() for path in paths]
    try:
        for path in paths:
            found = pd.read_csv(path)
            found.loc[3, "row"] -= 2  # the row of the network before
            found.to_csv(path, index=False)
        with pytest.raises(CnnzooError, match="another state of the collection"):
            evaluate(artifacts, params)
    finally:
        for path, content in zip(paths, whole, strict=True):
            path.write_bytes(content)


HEADER = b"row,network,test_accuracy,predicted\n"
DAMAGES = [
    # (file, its bytes or None for no file, what the message must say)
    ("metrics.json", None, "not there"),
    ("metrics.json", b'{"networks_train": 4', "damaged"),
    ("metrics.json", b"\xff\xfe", "damaged"),
    ("metrics.json", b"[]", "`networks_train`"),
    ("metrics.json", b'{"networks_train": "40", "networks_test": 40}', "`networks_train`"),
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
        with pytest.raises(CnnzooError, match=r"make it.* with `dvc repro (-f )?search`") as caught:
            evaluate(artifacts, params)
    finally:
        path.write_bytes(whole)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
