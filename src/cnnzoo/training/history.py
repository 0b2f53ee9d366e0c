"""What is kept of a cohort while it trains: its checkpoints so far, and who diverged.

The same record is the content of a finished shard and, half-filled, of a resume point.

Shape letters: N networks, E checkpoint epochs, P parameters.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.training.engines import Engine, Scores
from cnnzoo.zoo.shards import METRICS, NEVER


class History:
    """Checkpoints of N networks: weights (N, E, P), metrics (N, E), and the epoch at which each diverged."""

    def __init__(self, networks: int, epochs: tuple[int, ...], parameters: int) -> None:
        self.epochs = epochs
        self.weights = np.full((networks, len(epochs), parameters), np.nan, dtype=np.float32)
        self.metrics = {name: np.full((networks, len(epochs)), np.nan) for name in METRICS}
        self.diverged_epoch = np.full(networks, NEVER, dtype=np.int64)

    def note_divergence(self, epoch: int, finite: NDArray[np.bool_]) -> None:
        """Remember the first epoch after which a network is not finite; `finite` is (N,)."""
        self.diverged_epoch[~finite & (self.diverged_epoch == NEVER)] = epoch

    def record(
        self, epoch: int, weights: NDArray[np.float32], test: Scores, train: Scores
    ) -> Mapping[str, NDArray[np.float64]]:
        """Keep one checkpoint epoch; returns its metrics, each float64 (N,)."""
        column = self.epochs.index(epoch)
        metrics = {
            "test_accuracy": test.accuracy,
            "test_loss": test.loss,
            "train_accuracy": train.accuracy,
            "train_loss": train.loss,
        }
        self.weights[:, column] = weights
        for name, values in metrics.items():
            self.metrics[name][:, column] = values
        self.note_divergence(epoch, np.isfinite(test.loss) & np.isfinite(train.loss))
        return metrics

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything by name, for a resume point."""
        arrays: dict[str, NDArray[Any]] = {f"history.{name}": values for name, values in self.metrics.items()}
        return arrays | {"history.weights": self.weights, "history.diverged_epoch": self.diverged_epoch}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what `arrays` returned."""
        self.weights[:] = arrays["history.weights"]
        self.diverged_epoch[:] = arrays["history.diverged_epoch"]
        for name, values in self.metrics.items():
            values[:] = arrays[f"history.{name}"]


def finite_networks(engine: Engine) -> NDArray[np.bool_]:
    """Return which networks have only finite weights, (N,)."""
    return np.asarray(np.isfinite(engine.weights()).all(axis=1))
