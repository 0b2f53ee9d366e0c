"""A scorer: the accuracy of networks with an interval, from rows of weights; whole in one folder, without a project.

The interval is that of split conformal prediction, made local: its half width is a quantile of the absolute errors on
those held-out networks whose predictions lie nearest (Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018, "Distribution-
Free Predictive Inference for Regression", section 2.2, with neighbourhoods in place of a model of the error's size).
On networks like the zoo's it covers the true accuracy with about the stated confidence; on others it promises nothing.

Shape letters: n networks, P parameters, K held-out networks.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo import predictors
from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.sealed import read_seal, write_seal
from cnnzoo.features import describe
from cnnzoo.network.layout import Layout
from cnnzoo.predictors import Predictor

SETTINGS, LAYOUT, HELD_OUT, MODEL = "scorer.json", "layout.csv", "held_out.csv", "model"
FORMAT = 1
FEWEST_NEIGHBOURS = 50
SHARE_OF_NEIGHBOURS = 0.2
"""Held-out networks that an interval looks at: a fifth of all, at least so many, more for a confidence above 0.98."""
BLOCK_ROWS = 400
"""Networks whose neighbours are looked for at a time: about 100 MB for 15,000 held-out ones."""
ACTIVATION = "config.activation"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scorer:
    """A tuned predictor with all that is needed to apply it to new networks."""

    model_folder: Path
    features: str
    layout: Layout
    held_out: pd.DataFrame
    """`test_accuracy` and `predicted` of K networks that the predictor never saw."""
    confidence: float

    @cached_property
    def model(self) -> Predictor:
        """The fitted predictor."""
        return predictors.load(self.model_folder)

    @cached_property
    def needs_activation(self) -> bool:
        """Whether the activation of a network, which its weights do not show, must be known."""
        probe = np.zeros((1, self.layout.size), dtype=np.float32)
        try:
            describe(self.features, probe, self.layout, pd.DataFrame(index=[0]))
        except CnnzooError:
            return True
        return False

    def describe(self, weights: NDArray[np.float32], activations: Sequence[str | None]) -> pd.DataFrame:
        """Return the features of rows (n, P).

        Raises `CnnzooError` if an activation is needed and None, or if weights are so large that features overflow.
        """
        if self.needs_activation and None in activations:
            raise CnnzooError(
                f"the predictor looks at `{self.features}`, which needs the activation, and the file does not say it: "
                "give `--activation relu` or `--activation tanh`"
            )
        known = (
            pd.DataFrame({ACTIVATION: list(activations)})
            if self.needs_activation
            else pd.DataFrame(index=range(len(weights)))
        )
        described = describe(self.features, weights, self.layout, known)
        finite = np.isfinite(described.select_dtypes("number").to_numpy()).all(axis=1)
        if not finite.all():
            raise CnnzooError(
                f"network {int(np.argmin(finite))}: its weights are so large (up to "
                f"{np.abs(weights[np.argmin(finite)]).max():.3g}) that `{self.features}` overflows: it has diverged"
            )
        return described

    def score(self, weights: NDArray[np.float32], activations: Sequence[str | None]) -> pd.DataFrame:
        """Return `predicted`, `low` and `high`, fractions, of each row (n, P)."""
        predicted = self.model.predict(self.describe(weights, activations))
        width = self.half_width(predicted)
        low, high = np.clip(predicted - width, 0, 1), np.clip(predicted + width, 0, 1)
        return pd.DataFrame({"predicted": predicted, "low": low, "high": high})

    def half_width(self, predicted: Floats) -> Floats:
        """Return the half width of the interval (n,) of each prediction.

        It is infinite if there are too few held-out networks for the confidence: a new error exceeds the largest of m
        with probability 1 / (m + 1), so no finite width has a confidence above m / (m + 1).
        """
        known = self.held_out["predicted"].to_numpy(dtype=np.float64)  # (K,)
        errors = np.abs(self.held_out["test_accuracy"].to_numpy(dtype=np.float64) - known)
        fewest = max(FEWEST_NEIGHBOURS, math.ceil(self.confidence / (1 - self.confidence)))
        count = min(len(known), max(fewest, round(SHARE_OF_NEIGHBOURS * len(known))))
        rank = math.ceil((count + 1) * self.confidence)
        if rank > count:
            return np.full(len(predicted), np.inf)
        widths = [
            np.sort(errors[_nearest(predicted[start : start + BLOCK_ROWS], known, count)], axis=1)[:, rank - 1]
            for start in range(0, len(predicted), BLOCK_ROWS)
        ]
        return np.concatenate(widths)

    def save(self, folder: Path) -> None:
        """Write everything to `folder`, which appears whole or not at all."""
        with atomic_folder(folder) as new:
            shutil.copytree(self.model_folder, new / MODEL)
            self.held_out.to_csv(new / HELD_OUT, index=False, lineterminator="\n")
            (new / LAYOUT).write_text(self.layout.to_csv(), encoding="utf-8")
            content = {"format": FORMAT, "features": self.features, "confidence": self.confidence}
            write_seal(new / SETTINGS, content)

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Read what `save` wrote; raises `CnnzooError` if it is not whole."""
        try:
            content = read_seal(folder / SETTINGS)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, expected {FORMAT}")
            layout = Layout.from_csv((folder / LAYOUT).read_text(encoding="utf-8"))
            held_out = pd.read_csv(folder / HELD_OUT, float_precision="round_trip")[["test_accuracy", "predicted"]]
            return cls(folder / MODEL, content["features"], layout, held_out, float(content["confidence"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CnnzooError(f"{folder}: not a whole scorer ({error!r})") from error


def _nearest(predicted: Floats, known: Floats, count: int) -> NDArray[np.int64]:
    """Return the places (n, count) of the `known` (K,) values that lie nearest to each prediction (n,)."""
    return np.argsort(np.abs(predicted[:, None] - known), axis=1, kind="stable")[:, :count]
