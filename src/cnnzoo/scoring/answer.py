"""The answer to `cnnzoo score`: a row for each network that was given, for people or for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.hyperparameters import VALUES
from cnnzoo.scoring.choice import Candidate, choose_scorer
from cnnzoo.scoring.neighbours import Neighbour, Neighbours
from cnnzoo.scoring.networks import GivenNetwork, read_networks
from cnnzoo.scoring.scorer import Scorer


@dataclass(frozen=True)
class Question:
    """Which predictor to ask, and with which options."""

    collection: str
    predictor: str | None = None
    features: str | None = None
    activation: str | None = None
    neighbours: int = 3


@dataclass(frozen=True)
class NetworkScore:
    """The score of one network; accuracies are fractions."""

    name: str
    activation: str | None
    """The activation it was scored with; None if neither the file nor the option says and no predictor needs it."""
    assumed: bool
    """Whether the activation is one of those that are possible: then each of them has a score of its own."""
    predicted: float
    low: float
    high: float
    nearest: Sequence[Neighbour]


@dataclass(frozen=True)
class Answer:
    """The scores of all networks, and the predictor that gave them."""

    collection: str
    predictor: Candidate
    confidence: float
    networks: Sequence[NetworkScore]
    failed: Sequence[str] = ()
    """What is wrong with the files and rows that could not be scored."""

    def json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    def print(self) -> None:
        """Print a table."""
        from rich.console import Console
        from rich.table import Table

        by = f"{self.predictor.predictor} on {self.predictor.features}, learned from {self.collection}"
        table = Table(title="Test accuracy, predicted from the weights", caption=by)
        table.add_column("network", overflow="fold")
        asks = any(network.assumed for network in self.networks)
        if asks:
            table.add_column("activation")
        table.add_column("predicted", justify="right")
        table.add_column(f"{100 * self.confidence:g}% interval", justify="right")
        table.add_column("most like")
        for network in self.networks:
            like = [f"{near.rank}. {near.network} ({near.test_accuracy:.1%})" for near in network.nearest]
            table.add_row(
                network.name,
                *([f"if {network.activation}" if network.assumed else network.activation] if asks else []),
                f"{network.predicted:.1%}",
                f"{network.low:.1%} to {network.high:.1%}",
                "\n".join(like),
            )
        Console().print(table)


def answer(artifacts: Artifacts, params: config.Params, files: Sequence[Path], question: Question) -> Answer:
    """Score the networks in the files.

    A network whose activation the predictor needs, and neither its file nor the question says, is scored with each.
    A file or row that holds no network of the collection's layout does not keep the others from being scored. Raises
    `CnnzooError` if none can be scored, or if there is no predictor.
    """
    if question.activation is not None and question.activation not in VALUES["activation"]:
        raise CnnzooError(f"`--activation` is {question.activation!r}, allowed are {', '.join(VALUES['activation'])}")
    best, scorer = choose_scorer(artifacts, params, question.collection, question.predictor, question.features)
    read, failed = _read(files, scorer, question)
    if not read:
        raise CnnzooError("\n".join(failed))
    cases = [_cases(network, scorer) for network in read]
    given = [case for possible in cases for case in possible]
    assumed = [len(possible) > 1 for possible in cases for _ in possible]
    activations = [network.activation for network in given]
    weights = np.stack([network.row for network in given])
    scored = scorer.score(weights, activations)
    nearest = _nearest(artifacts, question, best.features, weights, activations)
    values = scored[["predicted", "low", "high"]].to_numpy().tolist()
    networks = [
        NetworkScore(network.name, network.activation, unknown, predicted, low, high, like)
        for network, unknown, (predicted, low, high), like in zip(given, assumed, values, nearest, strict=True)
    ]
    return Answer(question.collection, best, scorer.confidence, networks, failed)


def _read(files: Sequence[Path], scorer: Scorer, question: Question) -> tuple[list[GivenNetwork], list[str]]:
    """Return the networks in the files, and what is wrong with those that cannot be read."""
    read: list[GivenNetwork] = []
    failed: list[str] = []
    for path in files:
        try:
            found = [_with_activation(network, question) for network in read_networks(path, scorer.layout)]
        except CnnzooError as error:
            failed.append(str(error))
            continue
        read += [network for network in found if network.fault is None]
        failed += [network.fault for network in found if network.fault is not None]
    return read, failed


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


def _with_activation(network: GivenNetwork, question: Question) -> GivenNetwork:
    """Return the network with the activation that file or option say; raises `CnnzooError` if they contradict."""
    if None not in {network.activation, question.activation} and network.activation != question.activation:
        raise CnnzooError(
            f"{network.name}: its file says {network.activation}, `--activation` says {question.activation}"
        )
    return replace(network, activation=network.activation or question.activation)


def _cases(network: GivenNetwork, scorer: Scorer) -> list[GivenNetwork]:
    """Return the network, or the network with each activation if the predictor needs one and none is known."""
    if network.activation is not None or not scorer.needs_activation:
        return [network]
    return [replace(network, activation=activation) for activation in VALUES["activation"]]
