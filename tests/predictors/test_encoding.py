"""Numbers and categories as predictors read them, against SciPy, scikit-learn and tables written by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata
from sklearn.preprocessing import StandardScaler

from cnnzoo import predictors
from cnnzoo.predictors.tables import Encoder, Table

SMALL = {
    "linear": {},
    "catboost": {"iterations": 20, "learning_rate": 0.3},
    "dnn": {"hidden_layers": 1, "hidden_units": 16, "learning_rate": 3e-2, "max_epochs": 12},
    "learned_probes": {"hidden_units": 16, "members": 1, "learning_rate": 3e-2, "epochs": 12},
    "stack": {"folds": 2, "iterations": 10, "hidden_units": 8, "max_epochs": 2},
}
OPTIMIZERS = ["sgd", "adam", "rmsprop", "lion"]


def numbers(seed: int = 0) -> np.ndarray:
    """Return columns (65, 4): plain, heavy-tailed, with many ties, constant; of 65 rows quantiles are exact."""
    rng = np.random.default_rng(seed)
    plain, tailed, tied = rng.standard_normal((3, 65))
    return np.column_stack([5 + plain, tailed**5, np.round(tied), np.full(65, 0.1)])


def test_standard_scaling_is_that_of_scikit_learn():
    table, others = numbers(0), numbers(1)
    found = Encoder.fit(Table(table, {}), "standard").transform(Table(others, {}))
    expected = StandardScaler().fit(table[:, :3]).transform(others[:, :3])
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-12)
    assert found[:, 3] == pytest.approx(0, abs=1e-12)


def test_normal_scaling_gives_each_value_the_normal_score_of_the_middle_of_its_ranks():
    table = numbers()
    found = Encoder.fit(Table(table, {}), "normal").transform(Table(table, {}))
    expected = norm.ppf((rankdata(table, axis=0, method="average") - 0.5) / len(table))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_normal_scaling_of_other_rows_lies_between_those_of_their_neighbours_in_training():
    table, others = numbers(0)[:, :2], numbers(1)[:, :2]
    found = Encoder.fit(Table(table, {}), "normal").transform(Table(others, {}))
    ranks = (np.arange(65) + 0.5) / 65
    expected = np.column_stack(
        [norm.ppf(np.interp(others[:, column], np.sort(table[:, column]), ranks)) for column in (0, 1)]
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("scaling", ["standard", "normal"])
def test_categories_are_one_hot_after_the_numbers_in_the_order_of_columns_and_codes(scaling):
    values = np.array([[2, 0.5, 1], [0, 1.5, 0], [-1, 2.5, 1], [1, 3.5, 0]])
    table = Table(values, {0: ("a", "b", "c"), 2: ("x", "y")})
    encoder = Encoder.fit(table, scaling)
    expected = [[0, 0, 1, 0, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(encoder.transform(table)[:, 1:], expected)
    alone = Encoder.fit(Table(values[:, [1]], {}), scaling).transform(Table(values[:, [1]], {}))
    np.testing.assert_array_equal(encoder.transform(table)[:, [0]], alone)


def draw_categories(rows: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a number and two categories that tell the accuracy; `lion` does not occur."""
    rng = np.random.default_rng(1)
    optimizer, activation = rng.choice(OPTIMIZERS[:3], rows), rng.choice(["relu", "tanh"], rows)
    table = pd.DataFrame(
        {
            "optimizer": pd.Categorical(optimizer, categories=OPTIMIZERS),
            "dropout": rng.uniform(0, 0.7, rows),
            "act": pd.Categorical(activation, categories=["relu", "tanh"]),
        }
    )
    effect = pd.Series(optimizer).map({"sgd": 0.2, "adam": 0.8, "rmsprop": 0.5}).to_numpy()
    return table, effect + 0.1 * (activation == "relu") - 0.1 * table["dropout"].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_categories_are_known_by_what_they_say_not_by_their_codes(name):
    table, target = draw_categories()
    model = predictors.REGISTRY[name](**SMALL[name]).fit(table, target)
    expected = model.predict(table)
    by_category = [expected[(table["optimizer"] == category).to_numpy()].mean() for category in OPTIMIZERS[:3]]
    assert by_category[0] < by_category[2] < by_category[1], "the categories matter"
    recoded = table.assign(
        optimizer=pd.Categorical(table["optimizer"].astype(str), categories=["adam", "lion", "sgd", "rmsprop"]),
        act=pd.Categorical(table["act"].astype(str), categories=["tanh", "relu"]),
    )
    plain = table.astype({"optimizer": object, "act": object})
    few = table.loc[table["optimizer"] == "rmsprop"]
    fewer_categories = few.assign(optimizer=few["optimizer"].cat.remove_unused_categories())
    np.testing.assert_allclose(model.predict(recoded), expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict(plain), expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict(fewer_categories), expected[few.index], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_a_known_category_that_did_not_occur_and_a_missing_one_are_predicted(name):
    table, target = draw_categories()
    model = predictors.REGISTRY[name](**SMALL[name]).fit(table, target)
    rows = table.head(3).assign(optimizer=pd.Categorical(["lion", None, "sgd"], categories=OPTIMIZERS))
    predicted = model.predict(rows)
    assert ((predicted > 0) & (predicted < 1)).all()


def test_a_category_brings_all_its_categories_and_a_column_of_text_those_that_occur():
    table, target = draw_categories()
    plain = table.astype({"optimizer": object, "act": object})
    known = [predictors.LogitLinear().fit(each, target).categories_ for each in (table, plain)]
    assert known[0] == {0: tuple(OPTIMIZERS), 2: ("relu", "tanh")}
    assert known[1] == {0: ("adam", "rmsprop", "sgd"), 2: ("relu", "tanh")}
