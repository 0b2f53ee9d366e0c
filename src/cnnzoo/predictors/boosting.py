"""Boosted trees: CatBoost on accuracies as probabilities.

Shape letters: n rows, F features.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from catboost import CatBoost, Pool
from numpy.typing import NDArray
from optuna.trial import BaseTrial
from sklearn.utils import check_random_state

from cnnzoo.predictors.base import Arrays, Floats, Predictor, set_aside
from cnnzoo.predictors.tables import Table

MODEL = "trees.cbm"
ONE_HOT_MAX_SIZE = 16
"""Columns of at most so many categories are split one against the rest; target statistics only help with more."""

MOST_COLUMNS = 512
"""Most features a split chooses from: more cost time in proportion and help little. The best published settings stay
below it for every input set (colsample_bytree 0.03 to 0.1 on 4,970 weights, near 1 on 56 statistics)."""
ROWS_PER_BORDER = 8
FEWEST_BORDERS = 16
FEWEST_SAMPLED = 16
"""Rows that a tree samples at least, on average: CatBoost fails when it happens to draw almost none."""
PASSING_METADATA = {"train_finish_time", "model_guid", "params"}
"""What CatBoost writes into a model about its run (`params`: its threads); without it equal models have equal bytes."""


class BoostedTrees(Predictor):
    """Gradient boosting of symmetric trees with cross-entropy, so predictions stay in [0, 1].

    The trees start from the mean. Names are those of CatBoost. `rsm`, `border_count` and `depth` are upper limits: a
    split chooses from at most MOST_COLUMNS features, and small tables get fewer borders and leaves, and sample more. A
    random `validation_fraction` of the training rows decides how many of `iterations` trees are kept: training stops
    when its error has not improved for `patience` trees. `n_jobs` threads (None: 1, -1: all) do not change the result.
    If no feature or no target varies, the mean is predicted.
    """

    def __init__(
        self,
        iterations: int = 1000,
        learning_rate: float = 0.05,
        depth: int = 6,
        l2_leaf_reg: float = 3.0,
        subsample: float = 0.8,
        rsm: float = 1.0,
        border_count: int = 64,
        validation_fraction: float = 0.15,
        patience: int = 50,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.depth = depth
        self.l2_leaf_reg = l2_leaf_reg
        self.subsample = subsample
        self.rsm = rsm
        self.border_count = border_count
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.n_jobs = n_jobs

    version: ClassVar[int] = 2
    start: ClassVar[dict[str, Any]] = {
        "learning_rate": 0.05,
        "depth": 5,
        "l2_leaf_reg": 3.0,
        "subsample": 0.8,
        "rsm": 0.5,
    }

    @classmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        """Draw settings: the published ranges of LightGBM, depth as far as symmetric trees need it."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
            "depth": trial.suggest_int("depth", 3, 7),
            "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 0.5, 100.0, log=True),
            "subsample": trial.suggest_float("subsample", 0.2, 1.0),
            "rsm": trial.suggest_float("rsm", 0.03, 1.0, log=True),
        }

    def _learn(self, table: Table, fractions: Floats) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        learn, stop = set_aside(len(fractions), self.validation_fraction, np.random.default_rng(seed))
        varies = (np.ptp(table.values[learn], axis=0) > 0).any() and np.ptp(fractions[learn]) > 0
        self.constant_ = None if varies else float(fractions[learn].mean())
        if self.constant_ is not None:
            return  # CatBoost refuses to learn where nothing varies
        self.model_ = CatBoost(
            {
                "loss_function": "CrossEntropy",
                "boost_from_average": True,  # else every fit begins at 0.5, and few trees do not leave it
                "iterations": self.iterations,
                "learning_rate": self.learning_rate,
                "depth": min(self.depth, max(1, len(learn).bit_length() - 2)),
                "l2_leaf_reg": self.l2_leaf_reg,
                "bootstrap_type": "Bernoulli",
                "subsample": max(self.subsample, min(1.0, FEWEST_SAMPLED / len(learn))),
                "rsm": min(self.rsm, MOST_COLUMNS / table.values.shape[1]),
                "border_count": min(self.border_count, max(FEWEST_BORDERS, len(learn) // ROWS_PER_BORDER)),
                "one_hot_max_size": ONE_HOT_MAX_SIZE,
                "random_seed": seed,
                "thread_count": self.n_jobs or 1,
                "allow_writing_files": False,
                "verbose": False,
            }
        )
        held = _pool(table.rows(stop), fractions[stop]) if len(stop) else None
        patience = self.patience if len(stop) else None
        self.model_.fit(_pool(table.rows(learn), fractions[learn]), eval_set=held, early_stopping_rounds=patience)

    def _predict_fractions(self, table: Table) -> Floats:
        if self.constant_ is not None:
            return np.full(len(table.values), self.constant_)
        predicted = self.model_.predict(_pool(table), prediction_type="Probability")  # (n, 2)
        return np.asarray(predicted, dtype=np.float64)[:, 1]

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """How much each feature (F,) moves the prediction, in percent (CatBoost's PredictionValuesChange)."""
        if self.constant_ is not None:
            return np.zeros(self.n_features_in_)
        return np.asarray(self.model_.get_feature_importance(), dtype=np.float64)

    def _state(self, folder: Path) -> tuple[dict[str, Any], Arrays]:
        if self.constant_ is None:
            metadata = self.model_.get_metadata()
            for key in set(metadata.keys()) & PASSING_METADATA:
                del metadata[key]
            self.model_.save_model(str(folder / MODEL), format="cbm")
        return {"constant": self.constant_}, {}

    def _restore(self, folder: Path, values: dict[str, Any], arrays: Arrays) -> None:
        self.constant_ = values["constant"]
        if self.constant_ is None:
            self.model_ = CatBoost().load_model(str(folder / MODEL), format="cbm")


def _pool(table: Table, fractions: Floats | None = None) -> Pool:
    if not table.categories:
        return Pool(table.values, label=fractions)
    frame = pd.DataFrame(table.values)
    frame = frame.astype(dict.fromkeys(table.categories, np.int64))
    return Pool(frame, label=fractions, cat_features=list(table.categories))
