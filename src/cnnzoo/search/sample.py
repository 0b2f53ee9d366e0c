"""What predictors learn from: the final checkpoints of one half of a collection."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.results import TARGET
from cnnzoo.features import read_features
from cnnzoo.zoo import Collection, Half


@dataclass(frozen=True)
class Sample:
    """Networks with their features and accuracies."""

    rows: NDArray[np.int64]
    """Rows of the collection (n,)."""
    networks: Sequence[str]
    features: pd.DataFrame
    target: NDArray[np.float64]
    groups: NDArray[np.int64] | None = None
    """The group of each network (n,), which no fold divides; None: each network is one of its own."""

    def digest(self) -> str:
        """Return a hash of features, their names, and targets."""
        names = "\n".join(map(str, self.features.columns)).encode()
        content = pd.util.hash_pandas_object(self.features, index=True).to_numpy().tobytes()
        return hashlib.sha256(names + content + self.target.tobytes()).hexdigest()


def read_sample(artifacts: Artifacts, zoo: Collection, collection: str, features: str, half: Half) -> Sample:
    """Return the final checkpoints of one half of a collection, as a predictor sees them."""
    rows = zoo.final(half)
    table = read_features(zoo, artifacts.features(collection), features, rows)
    metrics = zoo.metrics.iloc[rows]
    accuracy = metrics[TARGET].to_numpy(dtype=np.float64)
    return Sample(rows, metrics["modeldir"].tolist(), table, accuracy, zoo.groups[rows])
