"""The report against recomputation from the files it reads; two small synthetic collections."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from builders import make_collection, make_recipe, metrics_of
from cnnzoo import evaluation, search
from cnnzoo.artifacts import Artifacts
from cnnzoo.config import load
from cnnzoo.drawing import spread
from cnnzoo.errors import CnnzooError
from cnnzoo.report import results, tables, write_report
from cnnzoo.report.labels import features_label, kind_of
from cnnzoo.report.page import _verdict
from imports import ROOT

STATISTICS = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"
ERROR = {("catboost", STATISTICS): 0.02, ("linear", "hyper"): 0.1, ("dnn", "hyper+weights"): 0.01}
"""The searches of the synthetic study, with the size of their mistakes."""
NETWORKS, DIVERGED = 26, {3: 2, 8: 40}


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
        for name, value in {"r2": r2, "kendall_tau": 1 - size, "mae": np.abs(error).mean()}.items():
            row |= {name: value, f"{name}_low": value - 0.01, f"{name}_high": value + 0.01}
        scores.append(row)
    return scores


def make_project(root: Path, collections: list[str]) -> tuple[Artifacts, object]:
    artifacts = Artifacts(root)
    listed = "\n".join(f"  {name}: {{dataset: mnist5k, networks: {NETWORKS}, minibatch: 64}}" for name in collections)
    text = re.sub(r"populations:\n(  .*\n)+", f"populations:\n{listed}\n", (ROOT / "params.yaml").read_text())
    text = re.sub(r"collections: .*", f"collections: [{', '.join(collections)}]", text)
    artifacts.params.write_text(text)
    scores = []
    for seed, name in enumerate(collections):
        make_collection(root / "data", NETWORKS, name, DIVERGED)
        scores += write_study(artifacts, name, seed)
    artifacts.evaluation.mkdir(parents=True)
    pd.DataFrame(scores).to_csv(artifacts.evaluation / "scores.csv", index=False)
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
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "style"):
            value = attributes.get(name) or "#"
            assert name == "style" or value.startswith(("data:image/png;base64,", "#"))
            assert "url(" not in value
    style = re.findall(r"<style>(.*?)</style>", (written[0].report / "index.html").read_text(), re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"url\(|@import|https?:", style[0])


def test_every_picture_is_a_file_with_a_description_and_stands_on_the_page(page, written):
    files = sorted(path.stem for path in (written[0].report / "figures").iterdir())
    kinds = ("accuracies", "hyperparameters", "learning_curves", "predicted", "scores", "weights")
    assert files == sorted([f"{name}-{kind}" for name in ("tiny", "other") for kind in kinds] + ["transfer"])
    assert sorted(figure["id"] for figure in page.all("figure")) == files
    assert all(len(image["alt"]) > 30 for image in page.all("img"))
    assert len(page.all("img")) == len(files)


def test_links_and_headings_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} == {"tiny", "other", "transfer"}
    assert set(ids) >= {"tiny", "other", "transfer"}
    assert len(page.all("h1")) == 1


def test_the_headline_names_networks_divergences_best_predictor_and_baseline(page, written):
    scores = pd.read_csv(written[0].evaluation / "scores.csv").set_index(["collection", "predictor"])
    text = " ".join(page.text.split())
    assert f"{NETWORKS} small CNNs trained on mnist5k" in text
    assert f"{(NETWORKS - len(DIVERGED)) * 9} checkpoints kept, 2 diverged" in text
    for name in ("tiny", "other"):
        assert f"R² {scores.loc[(name, 'catboost'), 'r2']:.3f} (1 is perfect" in text
        assert f"R² {scores.loc[(name, 'linear'), 'r2']:.3f}." in text


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


def test_writing_twice_gives_the_same_bytes(project):
    artifacts, params = project
    first = {path.name: path.read_bytes() for path in artifacts.report.rglob("*.*")}
    write_report(artifacts, params)
    assert {path.name: path.read_bytes() for path in artifacts.report.rglob("*.*")} == first


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("models/evaluation/scores.csv", "evaluate"),
        ("models/evaluation/transfer.csv", "evaluate"),
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
    with pytest.raises(CnnzooError, match=r"scores\.csv: no column r2_low"):
        write_report(artifacts, params)
    path.write_text("")
    with pytest.raises(CnnzooError, match=r"scores\.csv: not a table"):
        write_report(artifacts, params)


def test_one_collection_with_one_search_and_undefined_scores_has_a_page(tmp_path):
    artifacts, params = make_project(tmp_path, ["tiny"])
    path = artifacts.evaluation / "scores.csv"
    scores = pd.read_csv(path)[lambda table: table["features"] == STATISTICS]
    scores.loc[:, [column for column in scores if column.startswith(("r2", "kendall"))]] = np.nan
    scores.to_csv(path, index=False)
    (artifacts.zoo("tiny") / "diverged.csv").unlink()  # as in a published collection
    write_report(artifacts, params)
    page = Page((artifacts.report / "index.html").read_text())
    assert "–" in page.text
    assert "nan" not in page.text.lower()
    assert "none diverged" in page.text
    assert not (artifacts.report / "figures" / "transfer.png").exists()
    assert json.loads((artifacts.report / "summary.json").read_text())["tiny"]["hyper_r2"] is None


def test_the_verdict_depends_on_the_intervals():
    def scores(features: str, low: float, high: float) -> pd.Series:
        middle = {"r2": (low + high) / 2, "r2_low": low, "r2_high": high}
        return pd.Series({"features": features, "networks_test": 32} | middle)

    baseline = scores("hyper", 0.4, 0.6)
    assert "weights tell more" in _verdict(scores("weights", 0.7, 0.9), baseline)
    assert "too few" in _verdict(scores("weights", 0.5, 0.9), baseline)
    assert "hyperparameters tell more" in _verdict(scores("weights", 0.1, 0.3), baseline)
    assert "`hyper`" in _verdict(scores("weights", 0.1, 0.3), None)


def test_names_of_files_are_those_of_the_stages_that_write_them():
    assert results.PREDICTIONS == search.PREDICTIONS
    assert (results.SCORES, results.TRANSFER) == (evaluation.SCORES_TABLE, evaluation.TRANSFER_TABLE)
    assert results.BASELINE == evaluation.BASELINE


@pytest.mark.parametrize(
    ("features", "label", "kind"),
    [
        ("weights", "all weights", "weights"),
        ("weights.3", "weights of layer 3", "weights"),
        ("hyper", "hyperparameters", "hyperparameters"),
        ("hyper.learning_rate", "learning rate alone", "hyperparameters"),
        ("hyper+weights", "hyperparameters + all weights", "both"),
        (STATISTICS, "statistics of layers 0–3", "weights"),
        ("wnorm-layers:0,3-l2", "l2 norms of layers 0, 3", "weights"),
        ("wstats-glob", "statistics of all weights", "weights"),
        ("of the future", "of the future", "weights"),
    ],
)
def test_feature_sets_are_named_in_words(features, label, kind):
    assert (features_label(features), kind_of(features)) == (label, kind)


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (7, 3), (30_000, 4000)])
def test_a_spread_is_even_and_keeps_both_ends(count, most):
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert (places[0], places[-1]) == (0, count - 1)
    assert np.ptp(np.diff(places)) <= 1 if len(places) > 1 else True
