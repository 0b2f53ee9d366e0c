"""What a search ends with: a fitted predictor, its scores on the held-out half, and the files that hold them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnzoo import drawing, predictors
from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.results import BEST, FIGURE, IMPORTANCE, IMPORTANCE_FIGURE, METRICS, MODEL, PREDICTIONS, STUDY, TARGET
from cnnzoo.predictors import Predictor, scores
from cnnzoo.search.importance import draw_importance, importance
from cnnzoo.search.sample import Sample
from cnnzoo.search.task import Task

Scores = dict[str, float | int | None]


@dataclass(frozen=True)
class Outcome:
    """The best settings of a study, fitted to the training half, and what it predicts for the test half."""

    task: Task
    study: optuna.Study
    train: Sample
    test: Sample
    settings: Mapping[str, Any]
    predictor: Predictor
    predicted: NDArray[np.float64]

    @classmethod
    def of(cls, task: Task, study: optuna.Study, train: Sample, test: Sample) -> "Outcome":
        """Refit the best trial and predict the test half."""
        settings = task.kind.suggest(optuna.trial.FixedTrial(study.best_params))
        predictor = task.build(settings).fit(train.features, train.target)
        return cls(task, study, train, test, settings, predictor, predictor.predict(test.features))

    def metrics(self) -> Scores:
        """Return the scores on the test half and the facts they need; None where a score is undefined."""
        error, target = self.study.best_value, self.train.target
        found = scores.score(self.test.target, self.predicted) | {
            "cv_mse": error,
            "cv_r2": 1 - error / np.var(target) if np.ptp(target) > 0 else np.nan,
        }
        values: Scores = {name: float(value) if np.isfinite(value) else None for name, value in found.items()}
        return values | {
            "networks_train": len(target),
            "networks_test": len(self.test.target),
            "trials": len(self.study.trials),
        }

    def write(self, folder: Path) -> None:
        """Write the predictor's folder, whole or not at all."""
        with atomic_folder(folder) as new:
            if "n_jobs" in self.predictor.get_params():
                self.predictor.set_params(n_jobs=None)  # how many cores this machine has is no part of the result
            predictors.save(self.predictor, new / MODEL)
            _write_table(new / STUDY, _study_table(self.study))
            _write_table(new / PREDICTIONS, self._predictions())
            _write_json(new / BEST, self.settings)
            _write_json(new / METRICS, self.metrics())
            (new / FIGURE).write_bytes(self._draw())
            important = importance(self.predictor, self.train, np.random.default_rng(self.task.draw("search.shuffle")))
            _write_table(new / IMPORTANCE, important)
            (new / IMPORTANCE_FIGURE).write_bytes(draw_importance(important, self._title))

    @property
    def _title(self) -> str:
        return f"{self.task.predictor} on\n{self.task.features}"

    def _predictions(self) -> pd.DataFrame:
        test = self.test
        columns = {"row": test.rows, "network": test.networks, TARGET: test.target, "predicted": self.predicted}
        return pd.DataFrame(columns)

    def _draw(self) -> bytes:
        """Return the PNG of predicted against true accuracies of the test half."""

        def paint(figure: Figure) -> None:
            axis = figure.subplots()
            drawing.against_truth(axis, self.test.target, self.predicted)
            axis.set(xlabel="true test accuracy", ylabel="predicted", title=self._title)

        return drawing.draw(4, 4.3, paint)


def _study_table(study: optuna.Study) -> pd.DataFrame:
    table = study.trials_dataframe(attrs=("number", "value", "state", "params"))
    return table.rename(columns=lambda name: name.replace("params_", "params.", 1))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
