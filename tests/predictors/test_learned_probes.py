"""The predictor that runs networks: its probing against torch, and what it must not see."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import r2_score

from cnnzoo import predictors
from cnnzoo.features import Weights
from cnnzoo.network.layout import Architecture, Layout, layout_of
from cnnzoo.network.module import SmallCNN
from cnnzoo.predictors.probing import Probing, draw_probes, find_network

SHAPES = [Architecture(4), Architecture(3, num_layers=1), Architecture(5, num_layers=4, num_channels=2)]
LAYOUT = layout_of(SHAPES[0])
SMALL = {"probes": 6, "hidden_units": 24, "members": 2, "epochs": 8, "learning_rate": 1e-2}


def draw_weights(layout: Layout, networks: int, seed: int = 0) -> np.ndarray:
    return 0.3 * np.random.default_rng(seed).standard_normal((networks, layout.size), dtype=np.float32)


def make_table(weights: np.ndarray, layout: Layout, activations: list[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame(weights, columns=Weights("weights", None).columns(layout))
    if activations is not None:
        table["config.activation"] = pd.Categorical(activations, categories=["relu", "tanh"])
    return table


def make_population(networks: int, known: bool = True) -> tuple[pd.DataFrame, np.ndarray]:
    """Networks whose accuracy is how large their answers to noise are: nothing that one weight tells."""
    scale = np.exp(np.random.default_rng(1).normal(0, 0.5, (networks, 1)))
    weights = (draw_weights(LAYOUT, networks) * scale).astype(np.float32)
    activations = ["relu", "tanh"] * (networks // 2)
    images = torch.from_numpy(np.random.default_rng(2).standard_normal((8, 1, 15, 15)).astype(np.float32))
    with torch.no_grad():
        answers = [
            SmallCNN.from_row(row, LAYOUT, activation)(images).std()
            for row, activation in zip(weights, activations, strict=True)
        ]
    size = np.log(np.array(answers, dtype=np.float64))
    accuracy = 1 / (1 + np.exp(-(size - size.mean()) / size.std()))
    return make_table(weights, LAYOUT, activations if known else None), accuracy


def permute_hidden(weights: np.ndarray, layout: Layout, seed: int) -> np.ndarray:
    """Put the channels of every hidden layer in another order, in each network another one."""
    rng, changed = np.random.default_rng(seed), weights.copy()
    for row in changed:
        order = None
        for index, (bias, kernel) in enumerate(layout.layers):
            tensor = row[kernel.start : kernel.end].reshape(kernel.shape)
            if order is not None:
                tensor[:] = np.take(tensor.copy(), order, axis=-2)
            if index < len(layout.layers) - 1:
                order = rng.permutation(kernel.shape[-1])
                tensor[:] = np.take(tensor.copy(), order, axis=-1)
                row[bias.start : bias.end] = row[bias.start : bias.end][order]
    assert not np.array_equal(changed, weights)
    return changed


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_probing_gives_the_logits_of_the_network(shape, activation):
    layout = layout_of(shape)
    weights = draw_weights(layout, 5)
    probes = draw_probes(7, layout, np.random.default_rng(0))
    with torch.no_grad():
        found, _ = Probing(probes, layout)._run(torch.from_numpy(weights), getattr(torch, activation))
        expected = torch.stack([SmallCNN.from_row(row, layout, activation)(probes) for row in weights])
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_each_network_is_run_with_its_own_activation():
    layout, weights = LAYOUT, torch.from_numpy(draw_weights(LAYOUT, 6))
    probing = Probing(draw_probes(4, layout, np.random.default_rng(0)), layout)
    with torch.no_grad():
        both = probing(weights, None)
        mixed = probing(weights, torch.tensor([True, False, False, True, False, True]))
    width = both.shape[1] // 2
    for row, is_relu in enumerate([True, False, False, True, False, True]):
        half = both[row, :width] if is_relu else both[row, width:]
        torch.testing.assert_close(mixed[row], half, rtol=1e-4, atol=1e-5)


def answers(weights: np.ndarray, activations: list[str], probes: np.ndarray) -> np.ndarray:
    """Return asinh of the logits (N, K * U) that torch's networks give to the probes."""
    images = torch.from_numpy(probes)
    with torch.no_grad():
        logits = [
            SmallCNN.from_row(row, LAYOUT, activation)(images)
            for row, activation in zip(weights, activations, strict=True)
        ]
    return torch.asinh(torch.stack(logits)).flatten(1).numpy()


@pytest.mark.parametrize("categories", [["relu", "tanh"], ["tanh", "relu"], None])
def test_networks_are_run_with_the_activation_that_their_column_says(categories, tmp_path):
    """By the saved file: descriptions begin with the answers to the saved probes, and are centred by their means."""
    weights = 2 * draw_weights(LAYOUT, 24)
    activations = ["relu" if number % 3 else "tanh" for number in range(24)]
    table = make_table(weights, LAYOUT)
    column = activations if categories is None else pd.Categorical(activations, categories=categories)
    table.insert(2, "config.activation", column)
    model = predictors.LearnedProbes(probes=3, members=1, epochs=1, probe_learning_rate=0.0)
    predictors.save(model.fit(table, np.linspace(0.1, 0.9, 24)), tmp_path / "model")
    arrays = load_file(tmp_path / "model" / "arrays.safetensors")
    expected = answers(weights, activations, arrays["module.probing.probes"])
    swapped = answers(
        weights, ["relu" if kind == "tanh" else "tanh" for kind in activations], arrays["module.probing.probes"]
    )
    found = arrays["module.centre"][: expected.shape[1]]
    np.testing.assert_allclose(found, expected.mean(axis=0), atol=1e-5)
    assert np.abs(found - swapped.mean(axis=0)).max() > 0.05
    np.testing.assert_allclose(arrays["module.scale"][: expected.shape[1]], expected.std(axis=0), atol=1e-5)


@pytest.mark.slow
def test_networks_are_predicted_the_same_alone_or_among_others():
    """Also beyond the 256 that are run at a time, with both activations in each."""
    table, accuracy = make_population(300)
    model = predictors.LearnedProbes(**SMALL | {"epochs": 1}).fit(table[:60], accuracy[:60])
    whole = model.predict(table)
    assert np.ptp(whole) > 1e-3
    for rows in ([0], [1], [17, 4], [255], [256], [299, 0, 256]):
        np.testing.assert_allclose(model.predict(table.iloc[rows]), whole[rows], atol=1e-5)


@pytest.mark.slow
def test_columns_of_networks_may_be_learned_from_in_any_order():
    table, accuracy = make_population(40)
    mixed = table[list(np.random.default_rng(0).permutation(table.columns))]
    first, second = (predictors.LearnedProbes(**SMALL).fit(each, accuracy).predict(each) for each in (table, mixed))
    np.testing.assert_allclose(second, first, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("rate", [0.0, 3e-3])
def test_predictions_do_not_see_the_order_of_hidden_channels(known, rate):
    table, accuracy = make_population(60, known)
    model = predictors.LearnedProbes(**SMALL, probe_learning_rate=rate).fit(table, accuracy)
    names = Weights("weights", None).columns(LAYOUT)
    permuted = table.copy()
    permuted[names] = permute_hidden(table[names].to_numpy(), LAYOUT, seed=3)
    predicted = model.predict(table)
    assert np.ptp(predicted) > 0.1
    np.testing.assert_allclose(model.predict(permuted), predicted, atol=1e-4)


@pytest.mark.slow
def test_learns_what_networks_do():
    table, accuracy = make_population(300)
    model = predictors.LearnedProbes(**(SMALL | {"epochs": 20})).fit(table.iloc[:200], accuracy[:200])
    assert r2_score(accuracy[200:], model.predict(table.iloc[200:])) > 0.8


@pytest.mark.slow
def test_shuffled_accuracies_are_not_learned():
    table, accuracy = make_population(200)
    shuffled = np.random.default_rng(0).permutation(accuracy)
    model = predictors.LearnedProbes(**SMALL, dropout=0.4).fit(table.iloc[:100], shuffled[:100])
    assert r2_score(shuffled[100:], model.predict(table.iloc[100:])) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_saved_and_loaded_predicts_the_same_networks_bit_for_bit(known, tmp_path):
    table, accuracy = make_population(40, known)
    table.insert(3, "config.dropout", np.linspace(0, 0.7, 40))
    model = predictors.LearnedProbes(**SMALL).fit(table, accuracy)
    predictors.save(model, tmp_path / "model")
    np.testing.assert_array_equal(predictors.load(tmp_path / "model").predict(table), model.predict(table))


def test_probes_are_learned_unless_their_rate_is_zero():
    table, accuracy = make_population(40)
    fixed, again, learned = (
        predictors.LearnedProbes(**SMALL | {"epochs": epochs}, probe_learning_rate=rate)
        .fit(table, accuracy)
        .module_.probing.probes
        for rate, epochs in ((0.0, 2), (0.0, 4), (3e-3, 2))
    )
    assert torch.equal(fixed, again)
    assert (fixed - learned).abs().max() > 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 20])
def test_training_may_have_any_number_of_steps(steps):
    """The rise of the learning rate takes a tenth of them: of ten steps that is one."""
    features = np.random.default_rng(0).standard_normal((8, 2))
    accuracy = 1 / (1 + np.exp(-features[:, 0]))
    model = predictors.LearnedProbes(hidden_units=4, members=1, minibatch=8, epochs=steps).fit(features, accuracy)
    assert np.isfinite(model.predict(features)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_is_found_wherever_its_columns_stand(shape):
    layout = layout_of(shape)
    names = Weights("weights", None).columns(layout)
    mixed = ["config.dropout", *np.random.default_rng(0).permutation(names), "other"]
    found = find_network(mixed)
    assert found.layout == layout
    assert [mixed[position] for position in found.positions] == names


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["x", "y"],
        Weights("weights", None).columns(LAYOUT)[:-1],
        Weights("weights.3", 3).columns(LAYOUT),
        ["conv2d/kernel:q50", "conv2d/bias:q50", "dense/bias:q50", "dense/kernel:q50"],
    ],
)
def test_anything_but_a_whole_network_is_not_run(names):
    assert find_network(names) is None


def test_parts_of_networks_are_columns_like_others():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((200, 50)), columns=Weights("weights.3", 3).columns(LAYOUT))
    accuracy = 1 / (1 + np.exp(-2 * table["dense/bias:3"]))
    model = predictors.LearnedProbes(**(SMALL | {"epochs": 20})).fit(table[:150], accuracy[:150])
    assert model.module_.probing is None
    assert r2_score(accuracy[150:], model.predict(table[150:])) > 0.5


@pytest.mark.slow
def test_networks_that_overflow_are_predicted_and_do_no_harm():
    table, accuracy = make_population(60)
    names = Weights("weights", None).columns(LAYOUT)
    table.loc[[0, 1, 17], names] *= 1e20
    model = predictors.LearnedProbes(**SMALL).fit(table, accuracy)
    predicted = model.predict(table)
    assert np.isfinite(predicted).all()
    assert np.ptp(predicted) > 0.1
    assert torch.isfinite(model.module_.probing.probes).all()
