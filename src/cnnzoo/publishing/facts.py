"""What a data card and its metadata say about a collection, measured from its files."""

from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd

from cnnzoo.core.errors import CnnzooError
from cnnzoo.publishing.parquet import columns
from cnnzoo.zoo import Collection

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Release:
    """Who publishes, under which licence, as what."""

    creators: tuple[str, ...]
    licence: str = "CC-BY-4.0"
    """An identifier of the SPDX list."""
    version: str = "1.0.0"
    url: str = ""
    """Where the data set will be found; may be empty."""
    day: date = field(default_factory=date.today)

    def __post_init__(self) -> None:
        """Raise `CnnzooError` if nobody is named as a creator, or for an empty licence."""
        if not self.creators or not all(name.strip() for name in self.creators):
            raise CnnzooError("a data set that can be cited has creators: name at least one")
        if not self.licence.strip() or any(sign.isspace() or sign == "/" for sign in self.licence):
            raise CnnzooError(f"the licence must be an SPDX identifier such as CC-BY-4.0, got {self.licence!r}")

    @property
    def licence_url(self) -> str:
        """The page of the licence in the SPDX list."""
        return f"https://spdx.org/licenses/{self.licence}"


@dataclass(frozen=True)
class Facts:
    """Numbers of one collection."""

    name: str
    dataset: str
    networks: int
    diverged: int | None
    rows: int
    parameters: int
    epochs: tuple[int, ...]
    training_networks: int
    accuracies: dict[str, tuple[float, ...]]
    """Quantiles of the final accuracies, at QUANTILES, by column."""
    columns: dict[str, str]
    """The columns of the Parquet files before `weights`, and the kinds of their dtypes, as NumPy names them."""
    hyperparameters: dict[str, str]
    """What each hyperparameter takes: its values, or its range."""

    @classmethod
    def of(cls, zoo: Collection, diverged: int | None) -> "Facts":
        """Measure a collection; raises `CnnzooError` if it has no split."""
        final, networks = zoo.metrics.iloc[zoo.final()], zoo.networks
        return cls(
            name=str(zoo.metrics["modeldir"].iloc[0]).split("/")[0] or zoo.path.name,
            dataset=", ".join(sorted(map(str, zoo.metrics["config.dataset"].unique()))),
            networks=len(np.unique(networks)),
            diverged=diverged,
            rows=len(zoo.metrics),
            parameters=zoo.layout.size,
            epochs=zoo.epochs,
            training_networks=len(np.unique(networks[zoo.final("train")])),
            accuracies={
                name: tuple(map(float, np.quantile(final[name].to_numpy(dtype=float), QUANTILES)))
                for name in ("test_accuracy", "train_accuracy")
            },
            columns={
                name: zoo.metrics[published].dtype.kind if published else "i"
                for name, published in columns(zoo).items()
            },
            hyperparameters={
                name.removeprefix("config."): _range(final[name])
                for name in map(str, final.columns)
                if name.startswith("config.")
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


def _range(values: pd.Series) -> str:
    """Return the distinct values if they are few, else the smallest and the largest."""
    distinct = sorted(values.unique().tolist())
    if len(distinct) <= 8 or values.dtype.kind not in "fiu":
        return ", ".join(map(_shown, distinct[:8])) + (", ..." if len(distinct) > 8 else "")
    return f"{_shown(distinct[0])} to {_shown(distinct[-1])}"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
