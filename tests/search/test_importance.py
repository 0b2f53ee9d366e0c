"""What a predictor relies on: found by shuffling or told by itself, never from more than the training rows."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cnnzoo import drawing, predictors
from cnnzoo.search import Sample
from cnnzoo.search.importance import MOST_FEATURES, draw_importance, importance

RNG = np.random.default_rng


class Formula(predictors.LogitLinear):
    """Predicts a known function of two columns, and does not tell."""

    feature_importances_ = None

    def predict(self, X):  # noqa: N803
        assert X["word"].dtype == "category"
        return 2 * X["a"].to_numpy() + X["b"].to_numpy() + 3 * (X["word"] == "yes").to_numpy()


def make_sample(networks: int = 5000) -> Sample:
    rng = RNG(0)
    table = pd.DataFrame(rng.standard_normal((networks, 3)), columns=["a", "b", "idle"])
    table["word"] = pd.Categorical(rng.choice(["yes", "no"], networks), categories=["no", "yes", "perhaps"])
    table.index = np.arange(networks) * 9 + 4
    return Sample(np.arange(networks), [""] * networks, table, Formula().predict(table))


def test_shuffling_finds_what_each_feature_is_worth(monkeypatch):
    """Shuffling a feature of a sum adds twice the variance of its term: 2 * 4, 2 * 1, 0, and 2 * 9 / 4 for the word."""
    monkeypatch.setattr("cnnzoo.search.importance.MOST_ROWS", 5000)
    found = importance(Formula(), make_sample(), RNG(1))
    assert found["feature"].tolist() == ["a", "word", "b", "idle"]
    np.testing.assert_allclose(found["importance"], np.array([8, 4.5, 2, 0]) / 14.5, atol=0.01)


def test_the_same_lot_gives_the_same_and_few_rows_are_enough():
    first, second = (importance(Formula(), make_sample(), RNG(1)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert first["feature"].iloc[0] == "a"


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_a_predictor_that_tells_is_believed(name):
    sample = make_sample(300)
    fractions = 1 / (1 + np.exp(-sample.target / 3))
    model = predictors.REGISTRY[name]().fit(sample.features, fractions)
    found = importance(model, sample, RNG(0))
    assert found["importance"].sum() == pytest.approx(1)
    assert found["feature"].tolist()[-1] == "idle"
    told = dict(zip(sample.features, model.feature_importances_, strict=True))
    assert found["importance"].tolist() == pytest.approx([told[f] / sum(told.values()) for f in found["feature"]])


def test_linear_importances_are_the_spread_of_each_features_contribution():
    sample = make_sample(3000)
    fractions = 1 / (1 + np.exp(-(2 * sample.features["a"] * 5 + 3 * (sample.features["word"] == "yes")) / 5))
    model = predictors.LogitLinear(l2=1e-8).fit(sample.features.assign(a=5 * sample.features["a"]), fractions)
    importances = dict(zip(sample.features, model.feature_importances_, strict=True))
    assert importances["a"] == pytest.approx(2, rel=0.05)
    assert importances["b"] == pytest.approx(0, abs=0.02)
    assert importances["word"] > 0.1


def test_many_columns_are_told_by_tensor():
    rng, half = RNG(0), MOST_FEATURES
    names = (
        [f"conv2d/kernel:{i}" for i in range(half)] + [f"dense/kernel:{i}" for i in range(half)] + ["config.dropout"]
    )
    table = pd.DataFrame(rng.standard_normal((60, len(names))), columns=names)
    target = 1 / (1 + np.exp(-table["dense/kernel:7"]))
    for name in ("linear", "dnn"):
        model = predictors.REGISTRY[name]().fit(table, target)
        found = importance(model, Sample(np.arange(60), [""] * 60, table, target.to_numpy()), rng)
        assert set(found["feature"]) == {"conv2d/kernel", "dense/kernel", "config.dropout"}
        assert found["importance"].sum() == pytest.approx(1)
        if name == "linear":
            told = pd.Series(model.feature_importances_).groupby([n.partition(":")[0] for n in names]).sum()
            assert found.set_index("feature")["importance"].to_dict() == pytest.approx((told / told.sum()).to_dict())


def test_where_nothing_matters_all_shares_are_zero():
    table = pd.DataFrame({"a": np.ones(20), "b": np.zeros(20)})
    sample = Sample(np.arange(20), [""] * 20, table, np.full(20, 0.3))
    for name in ("linear", "catboost", "dnn"):
        model = predictors.REGISTRY[name]().fit(table, sample.target)
        assert importance(model, sample, RNG(0))["importance"].tolist() == [0, 0]


def test_the_first_rows_are_drawn_as_bars_from_the_top_with_their_names_and_shares(monkeypatch):
    figures = []

    def keep(width, height, paint):
        figures.append(Figure())
        paint(figures[0])
        return b""

    monkeypatch.setattr(drawing, "draw", keep)
    shares = np.arange(20, 0, -1) / 210
    draw_importance(pd.DataFrame({"feature": [f"x{i}" for i in range(20)], "importance": shares}), "a title")
    (axis,) = figures[0].axes
    names = dict(zip(axis.get_yticks(), (label.get_text() for label in axis.get_yticklabels()), strict=True))
    bars = sorted(axis.patches, key=lambda bar: -bar.get_y())
    assert [names[round(bar.get_y() + bar.get_height() / 2, 6)] for bar in bars] == [f"x{i}" for i in range(15)]
    assert [bar.get_width() for bar in bars] == pytest.approx(shares[:15])
    assert axis.xaxis.get_major_formatter()(0.25) == "25%"
    assert axis.get_title(loc="center") + axis.get_title(loc="left") == "a title"


def test_the_plot_shows_many_or_few_and_has_the_same_bytes():
    for count in (1, 40):
        table = pd.DataFrame({"feature": [f"x{i}" for i in range(count)], "importance": 1 / count})
        png = draw_importance(table, "title")
        assert png.startswith(b"\x89PNG")
        assert png == draw_importance(table, "title")
