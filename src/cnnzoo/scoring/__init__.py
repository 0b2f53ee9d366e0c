"""Scoring: how good a network is, from its weights alone.

`formats.py` reads tensors from files of many kinds, `networks.py` recognises a network of the family in them,
`scorer.py` predicts its accuracy with an interval, `choice.py` takes the predictor for that from a project,
`neighbours.py` finds the networks of the zoo that are like it, `answer.py` is what `cnnzoo score` says.
"""

from cnnzoo.scoring.answer import Answer, Question, answer
from cnnzoo.scoring.choice import choose_scorer
from cnnzoo.scoring.neighbours import Neighbour, Neighbours
from cnnzoo.scoring.networks import GivenNetwork, network_of, read_networks
from cnnzoo.scoring.scorer import Scorer

__all__ = [
    "Answer",
    "GivenNetwork",
    "Neighbour",
    "Neighbours",
    "Question",
    "Scorer",
    "answer",
    "choose_scorer",
    "network_of",
    "read_networks",
]
