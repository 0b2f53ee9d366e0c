"""The stack: how members are combined, and that each is judged on rows it did not see."""

import numpy as np
import pytest
from scipy.special import expit, logit

from cnnzoo import predictors
from cnnzoo.predictors import stacking


def test_the_best_combination_is_found():
    """Against a brute-force search over weights and constant, of the same criterion."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((300, 2)) + 0.5
    fractions = expit(0.8 * logits[:, 0] + 0.3 * logits[:, 1] - 0.4 + 0.1 * rng.standard_normal(300))
    weights, constant = stacking._combine(logits, fractions)

    def cost(first, second, shift):
        error = np.mean((expit(first * logits[:, 0] + second * logits[:, 1] + shift) - fractions) ** 2)
        return error + stacking.RIDGE * ((first - 0.5) ** 2 + (second - 0.5) ** 2)

    best = cost(*weights, constant)
    around = [cost(*(np.array([*weights, constant]) + step)) for step in rng.normal(0, 0.02, (200, 3))]
    assert best < min(around)
    assert weights == pytest.approx([0.8, 0.3], abs=0.08)


def test_a_member_that_is_wrong_gets_no_weight_never_a_negative_one():
    truth = np.random.default_rng(0).standard_normal(200)
    weights, _ = stacking._combine(np.column_stack([truth, -3 * truth]), expit(truth))
    assert weights[1] == 0
    assert weights[0] > 0.8


class Memory(predictors.LogitLinear):
    """Knows every row it was fitted to, and nothing else."""

    def _learn(self, table, fractions):
        self.known_ = {row.tobytes(): fraction for row, fraction in zip(table.values, fractions, strict=True)}

    def _predict_fractions(self, table):
        return np.array([self.known_.get(row.tobytes(), 0.5) for row in table.values])


def test_members_are_judged_on_rows_they_did_not_see(monkeypatch):
    """By heart a member knows each training row: only out-of-fold predictions show that it has learned nothing."""
    monkeypatch.setattr(stacking, "MEMBERS", {"memory": Memory, "linear": predictors.LogitLinear})
    features = np.random.default_rng(0).standard_normal((120, 3))
    target = expit(features[:, 0])
    stack = stacking.Stack().fit(features, target)
    assert logit(0.5) == 0  # what memory says of a row it does not know: any weight of it is idle
    assert stack.weights_[1] > 0.9
    unseen = np.random.default_rng(1).standard_normal((50, 3))
    np.testing.assert_allclose(stack.predict(unseen), expit(unseen[:, 0]), atol=0.05)


def test_settings_reach_the_members(tmp_path):
    rng = np.random.default_rng(0)
    features, target = rng.standard_normal((40, 3)), rng.uniform(size=40)
    settings = {"l2": 0.5, "depth": 4, "rsm": 0.7, "hidden_units": 9, "dropout": 0.13, "iterations": 7, "max_epochs": 2}
    stack = stacking.Stack(**settings, n_jobs=3).fit(features, target)
    found = {name: member.get_params() for name, member in stack.members_.items()}
    assert found["linear"]["l2"] == 0.5
    assert {found["catboost"][key] for key in ("depth", "rsm", "iterations", "n_jobs")} == {4, 0.7, 7, 3}
    assert {found["dnn"][key] for key in ("hidden_units", "dropout", "max_epochs")} == {9, 0.13, 2}
    predictors.save(stack, tmp_path / "model")
    loaded = predictors.load(tmp_path / "model")
    assert loaded.members_["catboost"].n_jobs is None
    np.testing.assert_array_equal(loaded.weights_, stack.weights_)


def test_other_settings_of_the_members_are_their_own():
    """`l2` is the linear member's penalty; that of the DNN has another meaning and scale."""
    rng = np.random.default_rng(0)
    stack = stacking.Stack(l2=0.5, depth=4, max_epochs=1, iterations=2, folds=2)
    stack.fit(rng.standard_normal((20, 3)), rng.uniform(size=20))
    given = {
        "linear": {"l2"},
        "catboost": {"depth", "rsm", "iterations"},
        "dnn": {"hidden_units", "dropout", "max_epochs"},
    }
    for name, member in stack.members_.items():
        usual = type(member)().get_params()
        found = member.get_params()
        rest = usual.keys() - given[name] - {"random_state", "n_jobs"}
        assert {key: found[key] for key in rest} == {key: usual[key] for key in rest}


def test_the_prediction_is_the_weighted_sum_of_the_members_logits_and_the_constant():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 3))
    target = np.clip(expit(3 * features[:, 0] + 2 + 0.5 * rng.standard_normal(60)), 0, 1)
    stack = stacking.Stack(max_epochs=3, iterations=10, folds=3, hidden_units=8).fit(features, target)
    assert (stack.weights_ >= 0).all()
    assert abs(stack.constant_) > 1e-3
    members = [np.clip(member.predict(features), 1e-3, 1 - 1e-3) for member in stack.members_.values()]
    expected = expit(
        sum(weight * logit(each) for weight, each in zip(stack.weights_, members, strict=True)) + stack.constant_
    )
    np.testing.assert_allclose(stack.predict(features), expected, rtol=1e-9)


def test_members_are_fitted_to_all_rows():
    """Trees of a stack are those that CatBoost alone grows on the same rows with the same settings."""
    rng = np.random.default_rng(0)
    features, target = rng.standard_normal((40, 3)), rng.uniform(size=40)
    stack = stacking.Stack(max_epochs=1, iterations=6, folds=2).fit(features, target)
    for member in (stack.members_["linear"], stack.members_["catboost"]):
        alone = type(member)(**member.get_params()).fit(features, target)
        np.testing.assert_array_equal(member.predict(features), alone.predict(features))


@pytest.mark.parametrize("rows", [4, 11])
def test_with_few_rows_members_count_alike(rows):
    rng = np.random.default_rng(0)
    stack = stacking.Stack(max_epochs=1, iterations=5).fit(rng.standard_normal((rows, 2)), rng.uniform(size=rows))
    np.testing.assert_allclose(stack.weights_, 1 / 3)


def test_fewer_than_two_folds_are_refused():
    with pytest.raises(ValueError, match="`folds` is 1, it must be at least 2"):
        stacking.Stack(folds=1).fit(np.zeros((4, 2)), np.linspace(0, 1, 4))
