"""The report's tables, whole: against the files they are made of, and as kept in golden/ for a small study.

golden/ changes only when what a table says changes; `PYTHONPATH=tests python tests/report/report_study.py` writes it.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_study import (
    BASELINE_NORTH,
    BEST_NORTH,
    EPOCHS,
    FEATURES,
    GOLDEN,
    GOLDEN_TABLES,
    RECIPE,
    Study,
    first_of,
    golden_study,
    kind_of,
    label_of,
)

NAMES = ("north", "south")
pytestmark = pytest.mark.usefixtures("figures")
"""The report is written."""


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_study(tmp_path_factory.mktemp("golden")).artifacts.report


@pytest.mark.parametrize("name", GOLDEN_TABLES)
def test_the_tables_of_a_small_study_are_as_kept(name: str, golden: Path) -> None:
    """Floats to 1e-9: their sums may round otherwise on another CPU; all else exactly."""
    found, kept = (pd.read_csv(folder / f"{name}.csv", float_precision="round_trip") for folder in (golden, GOLDEN))
    pd.testing.assert_frame_equal(found, kept, rtol=1e-9, atol=1e-12)


def test_the_summary_of_a_small_study_is_as_kept(golden: Path) -> None:
    found, kept = (json.loads((folder / "summary.json").read_text()) for folder in (golden, GOLDEN))
    assert list(found) == list(kept)
    for name, facts in kept.items():
        assert list(found[name]) == list(facts)
        for key, value in facts.items():
            assert found[name][key] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


def test_there_is_a_table_for_every_figure_that_is_no_map(study: Study) -> None:
    tables = {*GOLDEN_TABLES, "forecast", "stopping"}
    assert {path.stem for path in study.artifacts.report.glob("*.csv")} == tables


def test_the_leaderboard_is_the_scores_of_all_collections_best_first_with_names(study: Study) -> None:
    expected = pd.concat([study.scores(name) for name in NAMES], ignore_index=True)
    searches = list(zip(expected["predictor"], expected["features"], strict=True))
    expected = expected.assign(
        kind=[kind_of(features) for _, features in searches],
        search=[label_of(*search) for search in searches],
        published_recipe=[search == RECIPE for search in searches],
    )
    found = study.written("leaderboard")
    assert set(found.columns) == set(expected.columns)
    pd.testing.assert_frame_equal(found, expected[found.columns.tolist()])


def test_accuracies_are_those_of_all_networks_ascending(study: Study) -> None:
    found = study.written("accuracies")
    assert found["collection"].unique().tolist() == list(NAMES)
    for name in NAMES:
        own, final = found[found["collection"] == name], study.final(name).set_index("modeldir")
        assert sorted(own["network"]) == sorted(final.index)
        final = final.loc[own["network"]]
        assert own["test_accuracy"].is_monotonic_increasing
        for column, source in (
            ("activation", "config.activation"),
            *((c, c) for c in ("test_accuracy", "train_accuracy")),
        ):
            assert own[column].tolist() == final[source].tolist()
        assert own["share"].tolist() == pytest.approx([(place + 1) / len(final) for place in range(len(final))])


def test_learning_curves_are_quantiles_over_the_networks_of_each_collection(study: Study) -> None:
    found = study.written("learning_curves")
    for name in NAMES:
        own, metrics = found[found["collection"] == name], study.zoo(name).metrics
        assert own["epoch"].tolist() == list(EPOCHS)
        for quantile in (5, 25, 50, 75, 95):
            expected = [
                np.percentile(metrics.loc[metrics["step"] == epoch, "test_accuracy"], quantile) for epoch in EPOCHS
            ]
            assert own[f"q{quantile:02d}"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "best"), [("north", BEST_NORTH), ("south", RECIPE)])
def test_predicted_is_the_held_out_half_as_the_best_on_weights_alone_sees_it(
    name: str, best: tuple[str, str], study: Study
) -> None:
    found = study.written("predicted").query("collection == @name").reset_index(drop=True)
    assert set(zip(found["predictor"], found["features"], strict=True)) == {best}
    source = study.table(study.artifacts.predictor(name, *best) / "predictions.csv")
    columns = ["network", "test_accuracy", "predicted"]
    pd.testing.assert_frame_equal(found[columns], source[columns])


def test_importances_are_those_of_each_search_that_has_them(study: Study) -> None:
    found = study.written("importances")
    groups = found.groupby(["collection", "predictor", "features"], sort=False)
    expected = {
        (name, "catboost", row)
        for name in NAMES
        for row in study.scores(name).query("predictor == 'catboost'")["features"]
    }
    assert set(groups.groups) == expected
    for (name, predictor, features), own in groups:
        source = pd.read_csv(study.artifacts.predictor(name, predictor, features) / "importance.csv")
        assert own["feature"].tolist() == source["feature"].tolist()
        assert own["importance"].tolist() == pytest.approx(source["importance"].tolist())


@pytest.mark.parametrize("name", ["forecast", "stopping"])
def test_forecasts_and_stopping_are_those_of_all_collections(name: str, study: Study) -> None:
    sources = [study.table(study.artifacts.forecast(collection) / f"{name}.csv") for collection in NAMES]
    pd.testing.assert_frame_equal(study.written(name), pd.concat(sources, ignore_index=True))


@pytest.mark.parametrize(("name", "best", "diverged"), [("north", BEST_NORTH, 4), ("south", RECIPE, 23)])
def test_the_summary_is_the_best_on_weights_alone_the_baseline_and_the_recipe(
    name: str, best: tuple[str, str], diverged: int, study: Study
) -> None:
    facts, final = json.loads((study.artifacts.report / "summary.json").read_text())[name], study.final(name)
    scores = study.scores(name)
    others = {"best": best, "hyper": tuple(first_of(scores, ["hyper"])[["predictor", "features"]]), "recipe": RECIPE}
    assert others["best"] == tuple(
        first_of(scores, [f for f in FEATURES if kind_of(f) == "weights"])[["predictor", "features"]]
    )
    assert name != "north" or others["hyper"] == BASELINE_NORTH
    scores = scores.set_index(["predictor", "features"])
    expected = {f"{kind}_{s}": scores.loc[who, s] for kind, who in others.items() for s in ("r2", "kendall_tau", "mae")}
    expected |= {
        "networks": len(final),
        "diverged": diverged,
        "checkpoints": len(final) * len(EPOCHS),
        "median_test_accuracy": float(np.median(final["test_accuracy"])),
        "best_test_accuracy": final["test_accuracy"].max(),
        "best_predictor": best[0],
        "best_features": best[1],
    }
    assert facts == pytest.approx(expected)


@pytest.mark.parametrize(("name", "best"), [("north", BEST_NORTH), ("south", RECIPE)])
def test_the_metrics_of_dvc_are_few_and_those_of_the_best_on_weights_alone(
    name: str, best: tuple[str, str], study: Study
) -> None:
    facts = json.loads((study.artifacts.report / "metrics.json").read_text())
    assert list(facts) == list(NAMES)
    scores = study.scores(name).set_index(["predictor", "features"])
    expected = {
        "r2": round(scores.loc[best, "r2"], 4),
        "tau": round(scores.loc[best, "kendall_tau"], 4),
        "gain": round(scores.loc[best, "r2"] - scores.loc[RECIPE, "r2"], 4),
        "best": best[0],
        "networks": len(study.final(name)),
    }
    assert facts[name] == expected


def test_collections_that_are_not_in_the_parameters_are_left_out(study: Study, figures: dict[str, Figure]) -> None:
    """The evaluation may hold more, such as transfer to a collection that has left the project."""
    assert "elsewhere" in set(study.table(study.artifacts.evaluation / "transfer.csv")["tested_on"])
    text = (study.artifacts.report / "index.html").read_text(encoding="utf-8")
    assert "elsewhere" not in text
    assert all(
        "elsewhere" not in {t.get_text() for a in figure.axes for t in a.get_xticklabels()}
        for figure in figures.values()
    )
