"""Golden values of every kind of draw: hyperparameters, subset, order, dropout, initial weights.

They are what the first zoo was made with. A test that fails here says that every network of every collection would
change, and with it all shards and predictors. If that is meant, run this file as a script: it writes the values again;
old shards must not be taken for new ones then, so their names have to change as well.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from builders import WEIGHT_INITIALIZERS, make_recipe
from cnnzoo.config import load
from cnnzoo.core import seeds
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.training.cohorts import cohort_of
from cnnzoo.training.dropout import MaskPlan, masks, step_key
from cnnzoo.training.initializers import initial_weights
from cnnzoo.training.minibatches import Schedule
from cnnzoo.zoo.recipes import draw
from imports import ROOT

GOLDEN = Path(__file__).with_suffix(".json")
SEED, COLLECTION = 20200226, "mnist5k"
FRACTIONS = (0.1, 0.25, 0.5, 1.0)
LAYOUT = layout_of(Architecture())
PUBLISHED_RANGES = {
    "learning_rate": {"log_uniform": [5e-4, 5e-2]},
    "l2reg": {"log_uniform": [1e-8, 1e-2]},
    "init_std": {"log_uniform": [1e-3, 0.5]},
    "dropout": {"uniform": [0.0, 0.7]},
    "train_fraction": {"choice": list(FRACTIONS)},
    "activation": {"choice": ["relu", "tanh"]},
    "optimizer": {"choice": ["sgd", "adam", "rmsprop"]},
    "w_init": {"choice": list(WEIGHT_INITIALIZERS)},
    "epochs": 86,
    "epochs_between_checkpoints": 20,
}


def params():
    """The parameters of the first zoo, whatever params.yaml says today."""
    loaded = load(ROOT / "params.yaml")
    ranges = type(loaded.recipes).model_validate(PUBLISHED_RANGES)
    some = next(iter(loaded.populations.values()))
    population = type(some)(dataset="mnist5k", networks=3, minibatch=64, num_units=16, num_layers=3)
    return loaded.model_copy(update={"seed": SEED, "recipes": ranges, "populations": {COLLECTION: population}})


def recipes():
    return [recipe.values() for recipe in draw(params(), COLLECTION)]


def schedule(fraction):
    return Schedule(SEED, COLLECTION, fraction, images=40, minibatch=4)


def subsets():
    return {repr(fraction): schedule(fraction).subset.tolist() for fraction in FRACTIONS}


def orders():
    """The images of two epochs' minibatches: positions in the subset, in the order in which they are seen."""
    return {
        f"{fraction}, epoch {epoch}": schedule(fraction).epoch(epoch).tolist()
        for fraction in FRACTIONS
        for epoch in (1, 2)
    }


def dropout_keys():
    """The keys that an engine is given of networks 0 and 17."""
    pair = [make_recipe(network, random_seed=SEED, train_fraction=1.0) for network in (0, 17)]
    return cohort_of(pair, COLLECTION, 28).dropout_keys.tolist()


def dropout_masks():
    """What 3 x 3 and 1 x 1 positions of 4 channels keep of two images at a rate of 0.4, as bits from left to right."""
    key = seeds.key_words(SEED, "dropout", COLLECTION, 17)
    return {
        f"step {step}": [
            "".join(str(int(bit)) for bit in mask.ravel())
            for mask in masks(MaskPlan((9, 1), 4), step_key(key, step), 0.4, 2)
        ]
        for step in (0, 5)
    }


def weights():
    """Of each kernel: the first four numbers, and the root mean square."""
    result = {}
    for w_init in WEIGHT_INITIALIZERS:
        recipe = make_recipe(17, random_seed=SEED, w_init=w_init, init_std=0.05)
        kernels = LAYOUT.split(initial_weights(recipe, COLLECTION, LAYOUT))
        result[w_init] = {
            name: [
                *(float(f"{value:.8g}") for value in kernel.ravel()[:4]),
                float(f"{np.sqrt(np.mean(kernel**2)):.8g}"),
            ]
            for name, kernel in kernels.items()
            if name.endswith("kernel:0")
        }
    return result


DRAWS = {
    "recipes": recipes,
    "subsets": subsets,
    "orders": orders,
    "dropout_keys": dropout_keys,
    "dropout_masks": dropout_masks,
    "weights": weights,
}


def golden(kind):
    return json.loads(GOLDEN.read_text(encoding="utf-8"))[kind]


@pytest.mark.parametrize("kind", ["subsets", "orders", "dropout_keys", "dropout_masks"])
def test_integer_draws_are_those_of_the_first_zoo(kind):
    assert DRAWS[kind]() == golden(kind)


def test_hyperparameters_are_those_of_the_first_zoo():
    """Up to the last digits, in which exponential functions of two libraries may differ."""
    for drawn, expected in zip(recipes(), golden("recipes"), strict=True):
        assert list(drawn) == list(expected)
        assert drawn == {
            name: pytest.approx(value, rel=1e-13) if isinstance(value, float) else value
            for name, value in expected.items()
        }


@pytest.mark.parametrize("w_init", WEIGHT_INITIALIZERS)
def test_initial_weights_are_those_of_the_first_zoo(w_init):
    """To float32's rounding; LAPACK's factorisation, behind `orthogonal`, rounds by the machine."""
    drawn, expected = weights()[w_init], golden("weights")[w_init]
    assert list(drawn) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(drawn[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def written_out(value, depth=0):
    """JSON with one record a line."""
    if not isinstance(value, dict) or depth == 2:
        return json.dumps(value)
    lines = [f"{' ' * (depth + 1)}{json.dumps(key)}: {written_out(inner, depth + 1)}" for key, inner in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


if __name__ == "__main__":
    GOLDEN.write_text(written_out({kind: make() for kind, make in DRAWS.items()}) + "\n", encoding="utf-8")
