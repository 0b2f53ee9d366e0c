"""Numbers of a collection, measured from its files: for its manifest, its data card and its metadata.

Shape letters: K networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cnnzoo.zoo import format as published
from cnnzoo.zoo.reader import Collection

QUANTILES = {"lowest": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "highest": 1.0}
FEW = 8
"""So many values of a hyperparameter are listed; of more numbers the ends of their range."""


@dataclass(frozen=True)
class Facts:
    """Numbers of one collection."""

    name: str
    dataset: str
    networks: int
    diverged: int | None
    """Networks that diverged and have no rows; None where the collection does not say."""
    rows: int
    parameters: int
    epochs: tuple[int, ...]
    """The epochs that have checkpoints, ascending."""
    training_networks: int
    """Networks in the training half of the split."""
    accuracies: Mapping[str, Mapping[str, float]]
    """QUANTILES of the final accuracies, by column."""
    hyperparameters: Mapping[str, Mapping[str, Any]]
    """What each hyperparameter takes: `values`, ascending, or of many numbers the `lowest` and the `highest`."""

    @classmethod
    def of(cls, zoo: Collection, name: str) -> "Facts":
        """Measure a collection that people call `name`; raises `CnnzooError` if it has no split."""
        final = zoo.metrics.iloc[zoo.final()]
        return cls(
            name=name,
            dataset=", ".join(sorted(map(str, zoo.metrics["config.dataset"].unique()))),
            networks=len(np.unique(zoo.networks)),
            diverged=_diverged(zoo),
            rows=len(zoo.metrics),
            parameters=zoo.layout.size,
            epochs=zoo.epochs,
            training_networks=len(np.unique(zoo.networks[zoo.final("train")])),
            accuracies={name: _quantiles(final[name]) for name in ("test_accuracy", "train_accuracy")},
            hyperparameters={
                name.removeprefix("config."): _taken(final[name])
                for name in map(str, final.columns)
                if name.startswith("config.") and name != published.GROUP
            },
        )

    @property
    def title(self) -> str:
        """A name for people."""
        return f"{self.name}: a zoo of {self.networks:,} small CNNs trained on {self.dataset}"

    @property
    def description(self) -> str:
        """One paragraph."""
        return (
            f"{self.rows:,} checkpoints (epochs {', '.join(map(str, self.epochs))}) of {self.networks:,} small "
            f"convolutional networks with {self.parameters:,} parameters, trained on {self.dataset} with random "
            "hyperparameters: all weights, hyperparameters, accuracies and losses, in the format of the Small CNN Zoo "
            "(Unterthiner et al., 2020)."
        )


def _diverged(zoo: Collection) -> int | None:
    path = zoo.path / published.DIVERGED
    return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.is_file() else None


def _quantiles(values: pd.Series) -> dict[str, float]:
    found = np.quantile(values.to_numpy(dtype=float), list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found), strict=True))


def _taken(values: pd.Series) -> dict[str, Any]:
    distinct = sorted(values.unique().tolist())
    if len(distinct) <= FEW or values.dtype.kind not in "fiu":
        return {"values": distinct}
    return {"lowest": distinct[0], "highest": distinct[-1]}
