"""Scoring: tell from its weights alone how good a network is.

`formats.py` reads tensors from files of many kinds, `networks.py` recognises a network of the family in them,
`scorer.py` predicts its accuracy with an interval, `choice.py` takes the predictor for that from a project,
`answer.py` is what `cnnzoo score` says.
"""

from cnnzoo.scoring.answer import Answer, Question, answer
from cnnzoo.scoring.choice import Neighbour, Neighbours, choose_scorer
from cnnzoo.scoring.networks import GivenNetwork, read_networks
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
    "read_networks",
]
