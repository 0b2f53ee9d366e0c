"""The answer to `cnnzoo score`: a row for each network that was given, for people or for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnzoo import config
from cnnzoo.artifacts import Artifacts
from cnnzoo.errors import CnnzooError
from cnnzoo.network import ACTIVATIONS
from cnnzoo.scoring.choice import Candidate, choose_scorer
from cnnzoo.scoring.neighbours import Neighbour, Neighbours
from cnnzoo.scoring.networks import GivenNetwork, read_networks


@dataclass(frozen=True)
class Question:
    """Which predictor to ask, and what else to tell."""

    collection: str
    predictor: str | None = None
    features: str | None = None
    activation: str | None = None
    neighbours: int = 3


@dataclass(frozen=True)
class NetworkScore:
    """What is said about one network; accuracies are fractions."""

    name: str
    predicted: float
    low: float
    high: float
    nearest: Sequence[Neighbour]


@dataclass(frozen=True)
class Answer:
    """What is said about all networks, and by whom."""

    collection: str
    predictor: Candidate
    confidence: float
    networks: Sequence[NetworkScore]

    def json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    def print(self) -> None:
        """Print a table."""
        from rich.console import Console  # noqa: PLC0415 - JSON needs none of it
        from rich.table import Table  # noqa: PLC0415

        by = f"{self.predictor.predictor} on {self.predictor.features}, learned from {self.collection}"
        table = Table(title="Test accuracy, predicted from the weights", caption=by)
        table.add_column("network", overflow="fold")
        table.add_column("predicted", justify="right")
        table.add_column(f"{self.confidence:.0%} interval", justify="right")
        table.add_column("most like")
        for network in self.networks:
            like = [f"{near.rank}. {near.network} ({near.test_accuracy:.1%})" for near in network.nearest]
            table.add_row(
                network.name,
                f"{network.predicted:.1%}",
                f"{network.low:.1%} to {network.high:.1%}",
                "\n".join(like),
            )
        Console().print(table)


def answer(artifacts: Artifacts, params: config.Params, files: Sequence[Path], question: Question) -> Answer:
    """Score the networks in the files.

    Raises `CnnzooError` for a file that holds no network of the collection's layout, or if there is no predictor.
    """
    if question.activation is not None and question.activation not in ACTIVATIONS:
        raise CnnzooError(f"`--activation` is {question.activation!r}, allowed are {', '.join(ACTIVATIONS)}")
    best, scorer = choose_scorer(artifacts, params, question.collection, question.predictor, question.features)
    given = [network for path in files for network in read_networks(path, scorer.layout)]
    activations = [_activation(network, question) for network in given]
    weights = np.stack([network.row for network in given])
    scored = scorer.score(weights, activations)
    nearest = _nearest(artifacts, question, best.features, weights, activations)
    values = scored[["predicted", "low", "high"]].to_numpy().tolist()
    networks = [
        NetworkScore(network.name, predicted, low, high, like)
        for network, (predicted, low, high), like in zip(given, values, nearest, strict=True)
    ]
    return Answer(question.collection, best, scorer.confidence, networks)


def _nearest(
    artifacts: Artifacts,
    question: Question,
    features: str,
    weights: NDArray[np.float32],
    activations: Sequence[str | None],
) -> list[list[Neighbour]]:
    if not question.neighbours:
        return [[] for _ in weights]
    try:
        neighbours = Neighbours.of(artifacts, question.collection, features)
        return neighbours.nearest(weights, activations, question.neighbours)
    except CnnzooError as error:
        raise CnnzooError(f"{error}. `--neighbours 0` scores without the networks of the zoo.") from error


def _activation(network: GivenNetwork, question: Question) -> str | None:
    """Return what the file says, else what the option says; raises `CnnzooError` if they contradict each other."""
    if None not in {network.activation, question.activation} and network.activation != question.activation:
        raise CnnzooError(
            f"{network.name}: its file says {network.activation}, `--activation` says {question.activation}"
        )
    return network.activation or question.activation
