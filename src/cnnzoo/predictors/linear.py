"""Logit-linear: the accuracy is the logistic function of a linear function of the features.

The published study trained it as a network without hidden layers, by stochastic gradients. Here it is solved directly.

Shape letters: n rows, E encoded features.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from optuna.trial import BaseTrial
from scipy.linalg import qr
from scipy.optimize import minimize
from scipy.special import expit

from cnnzoo.predictors.base import Arrays, Floats, Predictor, mean_logit
from cnnzoo.predictors.tables import SCALINGS, Encoder, Scaling, Table

Loss = Literal["squared_error", "cross_entropy"]
LOSSES: tuple[Loss, ...] = ("squared_error", "cross_entropy")


class LogitLinear(Predictor):
    """Minimise mean loss(sigmoid(X w + b), y) + l2 * |w|**2 over w and b, by L-BFGS.

    `cross_entropy` is convex: its minimum is unique. `squared_error` is the loss of the published study and of the
    scores, but is not convex; it starts from the minimum of the other. `scaling` is that of `Encoder`. The intercept b
    is not penalised. With more features than rows the problem is solved in the rows' span, where its solution lies.
    """

    def __init__(
        self,
        l2: float = 1e-3,
        loss: Loss = "squared_error",
        scaling: Scaling = "standard",
        max_iter: int = 500,
        tol: float = 1e-7,
    ) -> None:
        self.l2 = l2
        self.loss = loss
        self.scaling = scaling
        self.max_iter = max_iter
        self.tol = tol

    version: ClassVar[int] = 1
    start: ClassVar[dict[str, Any]] = {"l2": 1e-3, "loss": "squared_error", "scaling": "standard"}

    @classmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        """Draw settings; penalties reach further up than published since features are scaled here."""
        return {
            "l2": trial.suggest_float("l2", 1e-8, 10.0, log=True),
            "loss": trial.suggest_categorical("loss", LOSSES),
            "scaling": trial.suggest_categorical("scaling", SCALINGS),
        }

    def _learn(self, table: Table, fractions: Floats) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"`loss` is {self.loss!r}, allowed are {', '.join(map(repr, LOSSES))}")
        self.encoder_ = Encoder.fit(table, self.scaling)
        inputs = self.encoder_.transform(table)
        basis = None
        if inputs.shape[1] > inputs.shape[0]:
            # The penalty makes the optimal w a combination of the rows: w = basis u with |w| = |u|.
            basis, reduced = qr(inputs.T, mode="economic", check_finite=False)  # (E, n), (n, n)
            inputs = np.asarray(reduced.T, dtype=np.float64)
        start = np.zeros(inputs.shape[1] + 1)
        start[-1] = mean_logit(fractions)
        solution, steps = self._minimise("cross_entropy", inputs, fractions, start)
        if self.loss == "squared_error":
            solution, more = self._minimise("squared_error", inputs, fractions, solution)
            steps += more
        self.coef_ = solution[:-1] if basis is None else basis @ solution[:-1]  # (E,)
        self.intercept_ = float(solution[-1])
        self.n_iter_ = steps

    def _minimise(self, loss: Loss, inputs: Floats, fractions: Floats, start: Floats) -> tuple[Floats, int]:
        count = len(fractions)

        def value_and_gradient(point: Floats) -> tuple[float, Floats]:
            weights, score = point[:-1], inputs @ point[:-1] + point[-1]  # (E,), (n,)
            predicted = expit(score)
            if loss == "cross_entropy":
                value = np.mean(np.logaddexp(0, score) - fractions * score)
                slope = (predicted - fractions) / count
            else:
                value = np.mean((predicted - fractions) ** 2)
                slope = 2 * (predicted - fractions) * predicted * (1 - predicted) / count
            gradient = np.append(inputs.T @ slope + 2 * self.l2 * weights, slope.sum())
            return float(value + self.l2 * weights @ weights), gradient

        found = minimize(
            value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.max_iter, "gtol": self.tol, "ftol": 1e-12},
        )
        return np.asarray(found.x, dtype=np.float64), max(1, int(found.nit))

    def _predict_fractions(self, table: Table) -> Floats:
        return np.asarray(expit(self.encoder_.transform(table) @ self.coef_ + self.intercept_), dtype=np.float64)

    @property
    def feature_importances_(self) -> Floats:
        """How much each feature (F,) moves the logit.

        It is the size of a scaled number's coefficient, and the standard deviation of the coefficients of a category.
        """
        categories = self.encoder_.categories
        numbers = [column for column in range(self.n_features_in_) if column not in categories]
        importances = np.empty(self.n_features_in_)
        importances[numbers] = np.abs(self.coef_[: len(numbers)])
        ends = len(numbers) + np.cumsum([len(known) for known in categories.values()], dtype=np.int64)
        for (column, known), end in zip(categories.items(), ends, strict=True):
            importances[column] = np.std(self.coef_[end - len(known) : end]) if known else 0.0
        return importances

    def _state(self, folder: Path) -> tuple[dict[str, Any], Arrays]:
        values = {"intercept": self.intercept_, "n_iter": self.n_iter_, "scaling": self.encoder_.scaling}
        return values, {"coef": self.coef_, **self.encoder_.arrays}

    def _restore(self, folder: Path, values: dict[str, Any], arrays: Arrays) -> None:
        self.coef_ = arrays.pop("coef")
        self.intercept_, self.n_iter_ = values["intercept"], values["n_iter"]
        self.encoder_ = Encoder(values["scaling"], self.categories_, arrays)
