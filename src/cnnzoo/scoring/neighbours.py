"""The networks of a zoo that are most like a new one.

Like: near in the space of the features that the predictor looks at, numbers only, each in units of its standard
deviation among the zoo's final checkpoints. Raw weights are no such space, as they change when hidden units change
places: where a predictor looks at them, statistics of all layers stand in.

Shape letters: n networks, K networks of the collection, P parameters, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import TARGET
from cnnzoo.features import Hyper, Weights, describe, parse, read_features
from cnnzoo.network.layout import Layout
from cnnzoo.zoo import Collection

BLOCK_ROWS = 2048
ROUNDING = 1e-5
"""A feature whose standard deviation is a smaller share of its mean size varies by rounding only and is left out."""


@dataclass(frozen=True)
class Neighbour:
    """A network of the zoo that is like a given one."""

    rank: int
    """1 for the nearest."""
    network: str
    test_accuracy: float
    distance: float
    """Root mean square difference of the features, in standard deviations of the zoo."""


@dataclass(frozen=True)
class Neighbours:
    """The final checkpoints of a collection in the space of `features`."""

    zoo: Collection
    features: str
    table: pd.DataFrame
    """Their features (K, F); the index holds their rows in the collection."""

    @classmethod
    def of(cls, artifacts: Artifacts, collection: str, features: str) -> "Neighbours":
        """Read the features of a collection, or compute them if a predictor looks at weights.

        Raises `CnnzooError` if the collection or its features are not there.
        """
        zoo = Collection.open(artifacts.zoo(collection))
        rows = zoo.final()
        stored = [p.name for p in parse(features) if not isinstance(p, Hyper | Weights)]
        if stored:
            space = "+".join(stored)
            return cls(zoo, space, read_features(zoo, artifacts.features(collection), space, rows))
        space = _statistics(zoo.layout)
        blocks = (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))
        tables = [describe(space, zoo.weights[block], zoo.layout, pd.DataFrame(index=block)) for block in blocks]
        return cls(zoo, space, pd.concat(tables))

    def nearest(
        self, weights: NDArray[np.float32], activations: Sequence[str | None], count: int
    ) -> list[list[Neighbour]]:
        """Return, for each network (n, P), the `count` nearest ones of the zoo, nearest first."""
        if weights.shape[1:] != (self.zoo.layout.size,):
            raise CnnzooError(
                f"{self.zoo.path}: its networks have {self.zoo.layout.size} parameters, not {weights.shape[1]}; "
                "params.yaml says another shape than the collection has"
            )
        metrics = pd.DataFrame({"config.activation": list(activations)})
        described = describe(self.features, weights, self.zoo.layout, metrics)
        columns, scale, known = self._numbers
        return [self._near(known - point, count) for point in described[columns].to_numpy(dtype=np.float64) / scale]

    def _near(self, differences: NDArray[np.float64], count: int) -> list[Neighbour]:
        distances = np.sqrt(np.mean(differences**2, axis=1))  # (K,)
        order = np.argsort(distances, kind="stable")[:count]
        found = self.zoo.metrics.iloc[self.table.index.to_numpy()[order]]
        return [
            Neighbour(rank, str(name), float(accuracy), float(distance))
            for rank, (name, accuracy, distance) in enumerate(
                zip(found["modeldir"], found[TARGET], distances[order], strict=True), start=1
            )
        ]

    @cached_property
    def _numbers(self) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
        """Names and standard deviations (F,) of the features that vary, and their scaled values (K, F)."""
        table = self.table.astype(np.float64)
        scale = table.std(ddof=0)
        columns = list(scale.index[(scale > ROUNDING * table.abs().mean()) & np.isfinite(scale)])
        return columns, scale[columns].to_numpy(), (table[columns] / scale[columns]).to_numpy()


def _statistics(layout: Layout) -> str:
    """Return the published statistics of all layers."""
    layers = ",".join(str(layer) for layer in range(len(layout.layers)))
    return f"wstats-layers:{layers}-qts:0,25,50,75,100"
