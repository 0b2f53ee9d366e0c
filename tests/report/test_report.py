"""The report against recomputation from the files it reads; two small synthetic collections."""

import dataclasses
import json
import re
import shutil
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from builders import make_collection, make_recipe, metrics_of
from cnnzoo.config import load
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.drawing import spread
from cnnzoo.evaluation import forecast
from cnnzoo.features import write_features
from cnnzoo.report import results, tables, write_report
from cnnzoo.report.forecast_figures import LINES, ranking_lesson, stopping_lesson
from cnnzoo.report.labels import feature_label, features_label, kind_of
from cnnzoo.report.leaderboard_figures import missed_shade
from cnnzoo.report.overview_figures import principal_components
from cnnzoo.report.page import _verdict
from cnnzoo.report.transfer_figures import transfer_searches
from imports import ROOT

pytestmark = pytest.mark.slow

STATISTICS = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"
ERROR = {("catboost", STATISTICS): 0.02, ("linear", "hyper"): 0.1, ("dnn", "hyper+weights"): 0.01}
"""The searches of the synthetic study, with the size of their mistakes."""
NETWORKS, DIVERGED = 26, {3: 2, 8: 40}


INPUTS = tuple(line.input for line in LINES)
EPOCHS = (0, 1, 2, 3, 20, 40, 60, 80, 86)


def score_row(values: dict[str, float]) -> dict[str, float]:
    """Scores with intervals of 0.01 to both sides."""
    ends = {"": 0.0, "_low": -0.01, "_high": 0.01}
    return {f"{name}{end}": value + shift for name, value in values.items() for end, shift in ends.items()}


def write_study(artifacts: Artifacts, collection: str, seed: int) -> list[dict]:
    """Write predictions of the held-out half that are off by known amounts; return their rows of scores.csv."""
    zoo = results.Collection.open(artifacts.zoo(collection))
    rows = zoo.final("test")
    truth = zoo.metrics["test_accuracy"].to_numpy()[rows]
    scores = []
    for (predictor, features), size in ERROR.items():
        error = size * np.random.default_rng(seed).standard_normal(len(rows))
        folder = artifacts.predictor(collection, predictor, features)
        folder.mkdir(parents=True)
        table = {"row": rows, "network": zoo.metrics["modeldir"].iloc[rows], "test_accuracy": truth}
        pd.DataFrame(table | {"predicted": truth + error}).to_csv(folder / "predictions.csv", index=False)
        r2 = 1 - np.sum(error**2) / np.sum((truth - truth.mean()) ** 2)
        row = {"collection": collection, "predictor": predictor, "features": features}
        row |= {"networks_train": len(rows), "networks_test": len(rows), "kendall_tau_ceiling": 1.0}
        row |= score_row({"r2": r2, "kendall_tau": 1 - size, "mae": np.abs(error).mean()})
        scores.append(row | score_row({"r2_gain": 0.02 - size, "kendall_tau_gain": 0.02 - size}))
    importance = pd.DataFrame(
        {"feature": ["dense/kernel:std", "conv2d/bias:q50", "all:mean"], "importance": [0.75, 0.25, 0]}
    )
    importance.to_csv(artifacts.predictor(collection, "catboost", STATISTICS) / "importance.csv", index=False)
    return scores


def write_forecasts(artifacts: Artifacts, collection: str) -> None:
    """Write forecasts that get better with the epoch, and stopping that is safe from epoch 3 on with the weights."""
    artifacts.forecast(collection).mkdir(parents=True)
    scores = [
        {"collection": collection, "epoch": epoch, "input": name, "predictor": "catboost", "kendall_tau_ceiling": 1.0}
        | {"networks_train": 12, "networks_test": 12}
        | score_row({"r2": epoch / 100, "kendall_tau": epoch / 100, "mae": 0.1})
        for epoch in EPOCHS
        for name in INPUTS
    ]
    pd.DataFrame(scores).to_csv(artifacts.forecast(collection) / "forecast.csv", index=False)
    stopping = [
        {"collection": collection, "epoch": epoch, "input": name, "stopped": share, "regret": 0.0}
        | {"kept_best": 0.96 if epoch >= 3 and name == "weights" else 0.7, "saved": share * (86 - epoch) / 86}
        for epoch in EPOCHS
        for name in INPUTS
        for share in (0.25, 0.5, 0.9)
    ]
    pd.DataFrame(stopping).to_csv(artifacts.forecast(collection) / "stopping.csv", index=False)


def make_project(root: Path, collections: list[str]) -> tuple[Artifacts, object]:
    artifacts = Artifacts(root)
    listed = "\n".join(f"  {name}: {{dataset: mnist5k, networks: {NETWORKS}, minibatch: 64}}" for name in collections)
    text = re.sub(r"populations:\n(  .*\n)+", f"populations:\n{listed}\n", (ROOT / "params.yaml").read_text())
    text = re.sub(r"\ncollections: .*", f"\ncollections: [{', '.join(collections)}]", text)
    text = re.sub(r"\n  sets: .*", f'\n  sets: [hyper, "{STATISTICS}"]', text)
    artifacts.params.write_text(text)
    scores = []
    for seed, name in enumerate(collections):
        zoo = results.Collection.open(make_collection(root / "data", NETWORKS, name, DIVERGED))
        write_features(zoo, [STATISTICS], artifacts.features(name))
        scores += write_study(artifacts, name, seed)
        write_forecasts(artifacts, name)
    artifacts.evaluation.mkdir(parents=True)
    pd.DataFrame(scores).to_csv(artifacts.evaluation / "scores.csv", index=False)
    apart = [row | {"activation": activation} for row in scores for activation in ("relu", "tanh")]
    pd.DataFrame(apart).to_csv(artifacts.evaluation / "by_activation.csv", index=False)
    transfer = [
        {"trained_on": home, "predictor": predictor, "features": features, "tested_on": other}
        | {"r2": 0.9, "kendall_tau": 0.8}
        for home in collections
        for other in collections
        for predictor, features in ERROR
    ]
    pd.DataFrame(transfer).to_csv(artifacts.evaluation / "transfer.csv", index=False)
    return artifacts, load(artifacts.params)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A project of two collections with its report; tests only read it."""
    artifacts, params = make_project(tmp_path_factory.mktemp("project"), ["tiny", "other"])
    write_report(artifacts, params)
    return artifacts, params


@pytest.fixture
def project(written, tmp_path):
    """A copy of that project, to be damaged."""
    shutil.copytree(written[0].root, tmp_path / "copy")
    return Artifacts(tmp_path / "copy"), written[1]


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(written):
    return Page((written[0].report / "index.html").read_text(encoding="utf-8"))


def table_of(artifacts: Artifacts, name: str) -> pd.DataFrame:
    return pd.read_csv(artifacts.report / name, float_precision="round_trip")


def test_the_page_fetches_nothing(page, written):
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "style"):
            value = attributes.get(name) or "#"
            assert name == "style" or value.startswith(("data:image/png;base64,", "#"))
            assert "url(" not in value
    text = (written[0].report / "index.html").read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", style)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert not re.search(r"fetch|import|XMLHttp|https?:|src|eval|innerHTML", script)


def test_every_picture_is_a_file_with_a_description_and_stands_on_the_page(page, written):
    files = sorted(path.stem for path in (written[0].report / "figures").iterdir())
    kinds = ("accuracies", "activations", "forecast", "hyperparameters", "importances", "learning_curves")
    kinds += ("predicted", "scores", "weights")
    over_all = ["distributions", "leaderboard", "maps", "transfer"]
    assert files == sorted([f"{name}-{kind}" for name in ("tiny", "other") for kind in kinds] + over_all)
    assert sorted(figure["id"] for figure in page.all("figure")) == files
    assert all(len(image["alt"]) > 30 for image in page.all("img"))
    assert len(page.all("img")) == len(files)


def test_every_file_of_a_figure_is_a_picture_with_something_on_it(written):
    for path in (written[0].report / "figures").iterdir():
        pixels = imread(path)
        assert pixels.shape[0] > 200, path
        assert pixels.shape[1] > 500, path
        assert np.std(pixels[..., :3]) > 0.02, path


def test_links_and_headings_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"].removeprefix("#") for link in page.all("a")}
    assert targets == {"scores", "networks", "across", "early", "tiny", "other", "made"}
    assert targets <= set(ids)
    assert len(page.all("h1")) == 1


def test_the_headline_names_networks_divergences_best_predictor_and_baseline(page, written):
    scores = pd.read_csv(written[0].evaluation / "scores.csv").set_index(["collection", "predictor"])
    text = " ".join(page.text.split())
    assert f"{2 * NETWORKS} small CNNs in 2 collections" in text
    assert f"{2 * (NETWORKS - len(DIVERGED)) * 9} checkpoints kept, 4 networks diverged" in text
    for name in ("tiny", "other"):
        best, baseline = (scores.loc[(name, predictor), "r2"] for predictor in ("catboost", "linear"))
        assert f"R² {best:.3f}, where the hyperparameters alone reach {baseline:.3f}." in text


def test_the_leaderboard_has_every_search_with_numbers_to_sort_by(written):
    text = (written[0].report / "index.html").read_text()
    body = re.search(r'<table id="leaderboard-table">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)[1]
    rows = re.findall(r'<tr class="(\w+)" data-collection="(\w+)".*?</tr>', body, re.DOTALL)
    assert rows == [(kind, name) for name in ("tiny", "other") for kind in ("both", "weights", "hyperparameters")]
    scores = table_of(written[0], "leaderboard.csv")
    shown = [float(value) for value in re.findall(r'data-value="([^"]*)">', body)[::5]]
    assert shown == pytest.approx(scores["r2"].tolist(), rel=1e-5)
    assert body.count("published recipe") == 2
    assert body.count('class="down"') == 4, "hyperparameters lose to the recipe, in R2 and tau of both collections"
    assert body.count('class="up"') == 0


def test_the_leaderboard_table_is_the_scores_with_names(written):
    table = table_of(written[0], "leaderboard.csv")
    scores = pd.read_csv(written[0].evaluation / "scores.csv", float_precision="round_trip")
    merged = table.merge(scores, on=["collection", "predictor", "features"], suffixes=("", "_source"))
    assert len(merged) == len(scores) == len(table)
    for column in ("r2", "kendall_tau_high", "r2_gain_low", "mae"):
        assert (merged[column] == merged[f"{column}_source"]).all()
    assert table.loc[table["published_recipe"], "search"].tolist() == ["CatBoost · statistics of layers 0–3"] * 2


def test_importances_are_named_and_kept_in_their_order(written):
    own = table_of(written[0], "importances.csv").query("collection == 'tiny'")
    assert own["name"].tolist() == [
        "dense layer, kernel: standard deviation",
        "convolution 1, bias: median",
        "all weights: mean",
    ]
    assert own["importance"].tolist() == [0.75, 0.25, 0]


def test_forecasts_of_all_collections_are_kept_as_tables(written):
    for name in ("forecast", "stopping"):
        table = table_of(written[0], f"{name}.csv")
        sources = [
            pd.read_csv(written[0].forecast(c) / f"{name}.csv", float_precision="round_trip") for c in ("tiny", "other")
        ]
        pd.testing.assert_frame_equal(table, pd.concat(sources, ignore_index=True))


def test_the_lessons_of_a_forecast_are_the_first_epoch_and_the_earliest_safe_one(written):
    found = results.read_results(*written).collections[0]
    saved = f"{0.5 * (86 - 3) / 86:.0%}"
    assert stopping_lesson(found) == (
        "Stopping half of the networks at epoch 3 of 86 by a forecast from weights keeps 96% of the best tenth, where "
        f"the accuracy so far alone keeps 70%, and saves {saved} of the work."
    )
    assert ranking_lesson(found) == (
        "At epoch 1 the final ranking is forecast by the weights with τ 0.01, the accuracy so far with τ 0.01, "
        "the hyperparameters with τ 0.01 and all three together with τ 0.01."
    )
    unsafe = dataclasses.replace(found, stopping=found.stopping.assign(kept_best=0.9))
    assert stopping_lesson(unsafe).startswith("No forecast here lets half of the networks be stopped before epoch 86")


def test_diverged_networks_are_listed_with_their_epoch(page):
    lines = [" ".join(line.split()) for line in re.split(r"\n(?=\d)", page.text)]
    for network, epoch in DIVERGED.items():
        recipe = make_recipe(network)
        rate, kind = f"{recipe.learning_rate:.3g}", recipe.w_init
        line = "".join(map(str, (network, recipe.activation, recipe.optimizer, rate, kind, epoch)))
        assert sum(found == line or found.startswith(f"{line} ") for found in lines) == 2  # once a collection


def test_accuracies_are_those_of_the_networks(written):
    table = table_of(written[0], "accuracies.csv")
    kept = [network for network in range(NETWORKS) if network not in DIVERGED]
    for name in ("tiny", "other"):
        own = table[table["collection"] == name]
        truth = {f"{name}/{n:06d}": metrics_of(make_recipe(n))["test_accuracy"][-1] for n in kept}
        assert dict(zip(own["network"], own["test_accuracy"], strict=True)) == pytest.approx(truth)
        assert own["test_accuracy"].is_monotonic_increasing
        assert own["share"].tolist() == pytest.approx([(i + 1) / len(kept) for i in range(len(kept))])


def test_learning_curves_are_quantiles_over_the_networks(written):
    table = table_of(written[0], "learning_curves.csv")
    own = table[table["collection"] == "tiny"]
    assert own["epoch"].tolist() == [0, 1, 2, 3, 20, 40, 60, 80, 86]
    curves = np.array([metrics_of(make_recipe(n))["test_accuracy"] for n in range(NETWORKS) if n not in DIVERGED])
    for column, quantile in zip(tables.QUANTILE_COLUMNS, tables.QUANTILES, strict=True):
        assert own[column].to_numpy() == pytest.approx(np.quantile(curves, quantile, axis=0))
    assert tables.QUANTILE_COLUMNS == ("q05", "q25", "q50", "q75", "q95")


def test_predicted_is_the_held_out_half_of_the_best_predictor_that_sees_weights_alone(written):
    table = table_of(written[0], "predicted.csv")
    for name in ("tiny", "other"):
        own = table[table["collection"] == name].reset_index(drop=True)
        source = pd.read_csv(written[0].predictor(name, "catboost", STATISTICS) / "predictions.csv")
        assert set(zip(own["predictor"], own["features"], strict=True)) == {("catboost", STATISTICS)}
        assert own["predicted"].to_numpy() == pytest.approx(source["predicted"].to_numpy())
        assert own["network"].tolist() == source["network"].tolist()


def test_the_summary_holds_the_numbers_of_the_headline(written):
    summary = json.loads((written[0].report / "summary.json").read_text())
    scores = pd.read_csv(written[0].evaluation / "scores.csv").set_index(["collection", "predictor"])
    assert list(summary) == ["tiny", "other"]
    facts = summary["tiny"]
    assert (facts["networks"], facts["diverged"]) == (NETWORKS - len(DIVERGED), len(DIVERGED))
    assert facts["best_r2"] == pytest.approx(scores.loc[("tiny", "catboost"), "r2"])
    assert facts["hyper_mae"] == pytest.approx(scores.loc[("tiny", "linear"), "mae"])


def test_a_collection_has_the_same_bytes_written_again_and_without_the_others(project):
    artifacts, params = project
    first = {path.name: path.read_bytes() for path in (artifacts.report / "figures").glob("other-*.png")}
    tables_before = {path.name: table_of(artifacts, path.name) for path in artifacts.report.glob("*.csv")}
    write_report(artifacts, params.model_copy(update={"collections": ["other"]}))
    assert {path.name: path.read_bytes() for path in (artifacts.report / "figures").glob("other-*.png")} == first
    for name, before in tables_before.items():
        own = before[before["collection"] == "other"].reset_index(drop=True)
        pd.testing.assert_frame_equal(table_of(artifacts, name), own)


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("models/evaluation/scores.csv", "evaluate"),
        ("models/evaluation/transfer.csv", "evaluate"),
        ("models/forecast/tiny/forecast.csv", "forecast"),
        ("models/forecast/tiny/stopping.csv", "forecast"),
        ("models/predictors/tiny/linear/hyper/predictions.csv", "search"),
        ("data/zoo/tiny", "assemble"),
    ],
)
def test_a_missing_input_is_named_with_the_stage_that_makes_it(project, missing, stage):
    artifacts, params = project
    path = artifacts.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = (artifacts.report / "index.html").read_bytes()
    with pytest.raises(CnnzooError, match=f"{re.escape(missing)}: not there; .*dvc repro {stage}"):
        write_report(artifacts, params)
    assert (artifacts.report / "index.html").read_bytes() == before


def test_a_collection_without_scores_and_a_table_without_a_column_are_told(project):
    artifacts, params = project
    path = artifacts.evaluation / "scores.csv"
    scores = pd.read_csv(path)
    scores[scores["collection"] == "tiny"].to_csv(path, index=False)
    with pytest.raises(CnnzooError, match=r"no scores of collection `other`.*dvc repro evaluate"):
        write_report(artifacts, params)
    scores.drop(columns="r2_low").to_csv(path, index=False)
    with pytest.raises(CnnzooError, match=r"scores\.csv: damaged \(no column r2_low\)"):
        write_report(artifacts, params)
    path.write_text("")
    with pytest.raises(CnnzooError, match=r"scores\.csv: damaged"):
        write_report(artifacts, params)


def test_one_collection_with_one_search_and_undefined_scores_has_a_page(tmp_path):
    artifacts, params = make_project(tmp_path, ["tiny"])
    path = artifacts.evaluation / "scores.csv"
    scores = pd.read_csv(path)[lambda table: table["features"] == STATISTICS]
    scores.loc[:, [column for column in scores if column.startswith(("r2", "kendall"))]] = np.nan
    scores.to_csv(path, index=False)
    (artifacts.zoo("tiny") / "diverged.csv").unlink()  # as in a published collection
    (artifacts.evaluation / "by_activation.csv").unlink()
    (artifacts.predictor("tiny", "catboost", STATISTICS) / "importance.csv").unlink()
    write_report(artifacts, params)
    page = Page((artifacts.report / "index.html").read_text())
    assert "–" in page.text
    assert "nan" not in page.text.lower()
    assert "none diverged" in page.text
    for optional in ("transfer", "tiny-activations", "tiny-importances"):
        assert not (artifacts.report / "figures" / f"{optional}.png").exists()
    assert json.loads((artifacts.report / "summary.json").read_text())["tiny"]["hyper_r2"] is None
    assert json.loads((artifacts.report / "metrics.json").read_text())["tiny"]["gain"] is None


def test_the_verdict_depends_on_the_intervals():
    def scores(features: str, low: float, high: float) -> pd.Series:
        middle = {"r2": (low + high) / 2, "r2_low": low, "r2_high": high}
        return pd.Series({"features": features, "networks_test": 32} | middle)

    baseline = scores("hyper", 0.4, 0.6)
    assert "weights predict better" in _verdict(scores("weights", 0.7, 0.9), baseline)
    assert "too few" in _verdict(scores("weights", 0.5, 0.9), baseline)
    assert "hyperparameters predict better" in _verdict(scores("weights", 0.1, 0.3), baseline)
    assert "`hyper`" in _verdict(scores("weights", 0.1, 0.3), None)


def test_the_forecasts_that_are_drawn_are_those_that_are_made():
    assert set(INPUTS) == {forecast.AS_IS, *forecast.INPUTS}


@pytest.mark.parametrize(
    ("features", "label", "kind"),
    [
        ("weights", "all weights", "weights"),
        ("weights.3", "weights of layer 3", "weights"),
        ("hyper", "hyperparameters", "hyperparameters"),
        ("hyper.learning_rate", "learning rate alone", "hyperparameters"),
        ("hyper+weights", "hyperparameters + all weights", "both"),
        (STATISTICS, "statistics of layers 0–3", "weights"),
        ("wstats-layers:0,-3,-2,-1-qts:0,50,100", "statistics of the input and top three layers", "weights"),
        ("wstats-layers:-1-qts:50", "statistics of the top layer", "weights"),
        ("wnorm-layers:0,1,-2,-1-l1", "l1 norms of layers 0, 1 and the top two layers", "weights"),
        ("wnorm-layers:0,-3,-1-l1", "l1 norms of layers 0, −3, −1", "weights"),
        ("wnorm-layers:0,3-l2", "l2 norms of layers 0, 3", "weights"),
        ("wstats-glob", "statistics of all weights", "weights"),
        ("wspectra-layers:0,1,2,3", "singular values of layers 0–3", "weights"),
        ("wchannels-layers:0,1,2,3", "sorted channel norms of layers 0–3", "weights"),
        ("wproducts-layers:0,1,2,3", "products of layers 0–3", "weights"),
        ("wstats-glob+probes", "statistics of all weights + responses to synthetic images", "weights"),
        ("hyper.activation+probes", "activation + responses to synthetic images", "weights"),
        ("hyper.activation", "activation alone", "hyperparameters"),
        ("hyper.activation+hyper.dropout+weights", "activation + dropout + all weights", "both"),
        ("of the future", "of the future", "weights"),
    ],
)
def test_feature_sets_are_named_in_words(features, label, kind):
    assert (features_label(features), kind_of(features)) == (label, kind)


@pytest.mark.parametrize(
    ("feature", "label"),
    [
        ("conv2d/bias:q0", "convolution 1, bias: minimum"),
        ("conv2d_2/kernel:q2.5", "convolution 3, kernel: percentile 2.5"),
        ("dense/kernel:l2", "dense layer, kernel: l2 norm"),
        ("layer-1/kernel:s0", "dense layer, kernel: singular value 1"),
        ("layer-2/kernel:sum.s3", "layer −2, kernel: singular value 4 of its sum"),
        ("conv2d*conv2d_1*dense:s1", "convolution 1 × convolution 2 × dense layer: singular value 2"),
        ("config.learning_rate", "learning rate"),
        ("confidence:q50", "confidence: median"),
        ("rank", "rank"),
    ],
)
def test_features_are_named_in_words(feature, label):
    assert feature_label(feature) == label


def test_a_map_is_the_principal_components_of_ranks():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((60, 2)) * (5, 1)
    table = pd.DataFrame(np.exp(hidden @ rng.standard_normal((2, 7))))
    places, shares = principal_components(table)
    reference = PCA(2).fit(table.rank() * 2 / 60)
    assert np.abs(places) == pytest.approx(np.abs(reference.transform(table.rank() * 2 / 60)), abs=1e-9)
    assert shares == pytest.approx(reference.explained_variance_ratio_)
    for place, loadings in zip(places.T, reference.components_, strict=True):
        leader = table.iloc[:, int(np.abs(loadings).argmax())]
        assert spearmanr(place, leader).statistic > 0, "a component grows with the feature that it follows most"
    assert principal_components(np.log(table))[0] == pytest.approx(places), "scales do not count, order does"


def test_a_map_of_one_network_or_of_equal_ones_is_one_place():
    for rows in (1, 5):
        places, shares = principal_components(pd.DataFrame(np.ones((rows, 3))))
        assert not places.any()
        assert not shares.any()


def test_shades_follow_the_share_that_is_missed():
    assert missed_shade(np.array([-3.0, 0.0, 0.9, 0.99, 1.0])) == pytest.approx([0, 0, 0.5, 1, 1])
    assert np.isnan(missed_shade(np.array([np.nan]))[0])


def test_transfer_grids_are_the_best_of_each_predictor_and_one_that_fits_every_shape():
    everywhere = [("one", "one"), ("one", "two"), ("two", "one"), ("two", "two")]
    at_home = [("one", "one"), ("two", "two")]
    r2 = {("catboost", "weights"): 0.9, ("catboost", "wstats-glob"): 0.6, ("linear", "weights"): 0.7}
    r2 |= {("catboost", "hyper"): 0.95, ("linear", "wstats-glob"): 0.5}
    scores = pd.DataFrame([{"predictor": p, "features": f, "r2": value} for (p, f), value in r2.items()])
    pairs = {search: everywhere if search[1] != "weights" else at_home for search in r2}
    transfer = pd.DataFrame(
        [
            {"predictor": p, "features": f, "trained_on": home, "tested_on": other}
            for (p, f), fits in pairs.items()
            for home, other in fits
        ]
    )
    study = results.Results((types.SimpleNamespace(scores=scores),), transfer)
    best = [("catboost", "weights"), ("linear", "weights")]
    assert transfer_searches(study) == [*best, ("catboost", "wstats-glob")]
    same_shapes = transfer[transfer["trained_on"] == transfer["tested_on"]]
    assert transfer_searches(dataclasses.replace(study, transfer=same_shapes)) == best


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (7, 3), (30_000, 4000)])
def test_a_spread_is_even_and_keeps_both_ends(count, most):
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert (places[0], places[-1]) == (0, count - 1)
    assert np.ptp(np.diff(places)) <= 1 if len(places) > 1 else True
