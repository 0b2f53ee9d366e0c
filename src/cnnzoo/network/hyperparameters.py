"""The hyperparameters that differ between the networks of a collection, by their published names."""

from typing import Literal, get_args

Activation = Literal["relu", "tanh"]
Optimizer = Literal["sgd", "adam", "rmsprop"]
Initializer = Literal["he_normal", "glorot_normal", "orthogonal", "RandomNormal", "TruncatedNormal"]

RANGED = ("learning_rate", "l2reg", "init_std", "dropout")
CHOSEN = ("train_fraction", "activation", "optimizer", "w_init")
SAMPLED = RANGED + CHOSEN
"""Those of the published zoo."""
LABEL_NOISE = "label_noise"
"""The share of wrong labels among a network's training images: sampled where a collection asks for it."""

VALUES = {"activation": get_args(Activation), "optimizer": get_args(Optimizer), "w_init": get_args(Initializer)}
"""The values of the categorical ones."""
