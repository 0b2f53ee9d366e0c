"""What a dataset holds, against pandas and the torch module of each row."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cnnzoo.core.errors import CnnzooError
from cnnzoo.data import Batch, Standardizer, ZooDataset
from features.permutations import permute_hidden_units
from zoos import FINAL


@pytest.mark.parametrize("half", [None, "train", "test"])
@pytest.mark.parametrize(
    ("epochs", "steps"), [("final", [FINAL]), ("all", [0, FINAL]), ([0], [0]), ((FINAL, 0), [0, FINAL])]
)
def test_rows_are_those_of_the_half_at_the_epochs(zoo, half, epochs, steps):
    data = ZooDataset(zoo, half=half, epochs=epochs)
    halves = np.concatenate([zoo.at(step, half) for step in steps])
    assert data.rows.tolist() == sorted(halves.tolist())
    assert len(data) == len(halves)


@pytest.mark.parametrize(
    ("where", "same"),
    [
        ("optimizer == 'adam'", lambda m: m["config.optimizer"] == "adam"),
        (
            "dropout < 0.3 and activation == 'relu'",
            lambda m: (m["config.dropout"] < 0.3) & (m["config.activation"] == "relu"),
        ),
        ("test_accuracy > 0.5", lambda m: m["test_accuracy"] > 0.5),
        ("w_init in ['orthogonal', 'he_normal']", lambda m: m["config.w_init"].isin(["orthogonal", "he_normal"])),
    ],
)
def test_a_condition_selects_as_pandas_does(zoo, where, same):
    data = ZooDataset(zoo, epochs="all", where=where)
    expected = np.flatnonzero(same(zoo.metrics).to_numpy())
    assert 0 < len(expected) < len(zoo.metrics)
    assert data.rows.tolist() == expected.tolist()


def test_pairs_are_the_rows_of_the_matrix_and_their_target(zoo):
    data = ZooDataset(zoo, half="train")
    for place in (0, 3, -1):
        weights, accuracy = data[place]
        row = data.rows[place]
        assert weights.dtype == accuracy.dtype == torch.float32
        assert weights.numpy().tobytes() == zoo.weights[row].tobytes()
        assert accuracy.shape == ()
        assert accuracy.item() == np.float32(zoo.metrics["test_accuracy"].iloc[row])


def test_several_targets_stand_side_by_side_under_short_or_published_names(zoo):
    data = ZooDataset(zoo, target=["train_loss", "dropout", "config.learning_rate"])
    expected = zoo.metrics[["train_loss", "config.dropout", "config.learning_rate"]].to_numpy(np.float32)[data.rows]
    weights, targets = data[Batch(np.arange(5))]
    assert weights.shape == (5, zoo.layout.size)
    assert targets.numpy().tolist() == expected[:5].tolist()


def test_rows_may_be_given(zoo):
    data = ZooDataset(zoo, rows=[7, 2, 2])
    assert data.rows.tolist() == [7, 2, 2]
    assert np.array_equal(data[1][0].numpy(), zoo.weights[2])


def test_tensors_in_the_published_order_are_those_of_the_layout(zoo):
    weights, _ = ZooDataset(zoo, layers=True)[4]
    expected = zoo.layout.split(zoo.weights[ZooDataset(zoo).rows[4]])
    assert list(weights) == [variable.name for variable in zoo.layout.variables]
    assert all(np.array_equal(weights[name].numpy(), value) for name, value in expected.items())


def test_tensors_in_torchs_order_are_the_parameters_of_the_module(zoo):
    data = ZooDataset(zoo, layers=True, order="torch")
    module = zoo.module(data.rows[4])
    assert {name: tensor.tolist() for name, tensor in data[4][0].items()} == {
        name: parameter.tolist() for name, parameter in module.named_parameters()
    }
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(torch.func.functional_call(module, data[4][0], images), module(images))


def test_a_flat_row_in_torchs_order_is_the_vector_of_the_module(zoo):
    data = ZooDataset(zoo, order="torch")
    module = zoo.module(data.rows[4])
    assert torch.equal(data[4][0], nn.utils.parameters_to_vector(module.parameters()))
    nn.utils.vector_to_parameters(data[5][0], module.parameters())
    other = zoo.module(data.rows[5])
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("layers", [False, True])
def test_a_batch_is_its_pairs_stacked_also_by_torchs_own_loader(zoo, layers):
    data = ZooDataset(zoo, layers=layers, order="torch", permute=True, seed=5)
    weights, targets = data[Batch(np.array([3, 0, 8]))]
    theirs, their_targets = next(iter(DataLoader(data, batch_size=3, sampler=[3, 0, 8])))
    assert torch.equal(targets, their_targets)
    if layers:
        assert all(torch.equal(weights[name], theirs[name]) for name in weights | theirs)
    else:
        assert torch.equal(weights, theirs)


def test_permuted_networks_are_the_same_functions_in_another_order_each_epoch(zoo):
    data = ZooDataset(zoo, order="torch", layers=True, permute=True)
    images = torch.rand(4, 1, 28, 28)
    module = zoo.module(data.rows[2]).double()
    seen = []
    for epoch in range(4):
        weights, _ = data[Batch(np.array([2]), epoch)]
        one = {name: tensor[0].double() for name, tensor in weights.items()}
        assert torch.allclose(
            torch.func.functional_call(module, one, images.double()), module(images.double()), atol=1e-12
        )
        seen.append(one["convolutions.1.weight"])
    assert not any(torch.equal(seen[0], other) for other in seen[1:])


def test_permutations_are_one_of_those_that_the_oracle_makes(zoo):
    """Each hidden unit of a permuted network is a unit of the original: as multisets they agree, layer by layer."""
    data = ZooDataset(zoo, permute=True, seed=1)
    row = zoo.weights[data.rows[:1]]
    ours = data[Batch(np.array([0]))][0].numpy()
    theirs = permute_hidden_units(row, zoo.layout, np.random.default_rng(0))
    for bias, kernel in zoo.layout.layers:
        for part in (bias, kernel):
            values = [np.sort(zoo.layout.split(found)[part.name], axis=None) for found in (row, ours, theirs)]
            assert np.array_equal(values[0], values[1])
            assert np.array_equal(values[0], values[2])
    assert not np.array_equal(ours, row)


def test_every_order_of_hidden_units_is_drawn_equally_often(zoo):
    """4 units have 24 orders; 24,000 draws of the first layer: chi-square with 23 degrees of freedom."""
    from cnnzoo.data.permuting import draw_orders

    orders = draw_orders(np.arange(12_000), layers=2, units=4, seed=3, epoch=1)
    assert orders.shape == (12_000, 2, 4)
    assert (np.sort(orders, axis=-1) == np.arange(4)).all()
    _, counts = np.unique(orders.reshape(-1, 4), axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 49.7  # passed by 999 of 1,000 seeds
    other = draw_orders(np.arange(12_000), layers=2, units=4, seed=4, epoch=1)
    assert 0.02 < (orders == other).all(axis=-1).mean() < 0.07  # 1 in 24 by chance


@pytest.mark.parametrize("per", ["parameter", "tensor"])
def test_standardised_training_weights_have_mean_0_and_deviation_1(zoo, per, monkeypatch):
    monkeypatch.setattr("cnnzoo.data.standardizing.CHUNK", 5)
    train = zoo.final("train")
    data = ZooDataset(zoo, rows=train, standardizer=Standardizer.fit(zoo, train, per))
    weights = data[Batch(np.arange(len(train)))][0].numpy().astype(np.float64)
    for variable in zoo.layout.variables:
        part = weights[:, variable.start : variable.end]
        axis = 0 if per == "parameter" else None
        assert np.allclose(part.mean(axis=axis), 0, atol=1e-6)
        assert np.allclose(part.std(axis=axis), 1, atol=1e-5)
    raw = zoo.weights[train].astype(np.float64)
    if per == "parameter":
        assert np.allclose(weights, (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-5)


def test_what_is_constant_is_left_at_zero(zoo):
    rows = np.array([6, 6, 6])
    data = ZooDataset(zoo, rows=rows, standardizer=Standardizer.fit(zoo, rows, "parameter"))
    assert not data[0][0].abs().max() > 1e-6


def test_a_pickled_dataset_maps_the_matrix_again(zoo):
    data = ZooDataset(zoo, half="test", permute=True, seed=9)
    packed = pickle.dumps(data)
    assert len(packed) < zoo.weights.nbytes / 4
    again = pickle.loads(packed)
    assert torch.equal(again[3][0], data[3][0])
    assert isinstance(again.zoo.weights, np.memmap)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": [3]}, r"no checkpoints at epoch 3; there are 0, 86"),
        ({"epochs": "last"}, r'`epochs` must be "final", "all" or a list'),
        ({"epochs": []}, r"no row is left"),
        ({"where": "optimiser == 'adam'"}, r"`where` cannot be evaluated: .*optimiser.*optimizer"),
        ({"where": "dropout <"}, r"`where` cannot be evaluated"),
        ({"where": "dropout + 1"}, r"must be true or false for each row"),
        ({"where": "dropout > 2"}, r"no row is left \(epochs 'final', where 'dropout > 2'\)"),
        ({"target": "test_acuracy"}, r"no column `test_acuracy`; did you mean `test_accuracy`\?"),
        ({"target": "optimizer"}, r"a target must be a numeric column: config.optimizer"),
        ({"target": []}, r"none given"),
        ({"order": "keras"}, r'`order` must be "published" or "torch"'),
        ({"rows": [48]}, r"rows are 0 ... 47, got 48"),
        ({"rows": [0.5]}, r"`rows` must be row numbers"),
        ({"rows": [1], "half": "train"}, r"give either `rows` or"),
    ],
)
def test_wrong_options_are_named(zoo, options, says):
    with pytest.raises(CnnzooError, match=says):
        ZooDataset(zoo, **options)


def test_a_place_outside_is_an_index_error_so_that_loops_end(zoo):
    data = ZooDataset(zoo)
    with pytest.raises(IndexError, match="the dataset has 24 rows"):
        data[24]
    assert len(list(data)) == 24
    assert torch.equal(data[-24][0], data[0][0])


def test_a_wrong_standardisation_is_named(zoo):
    with pytest.raises(CnnzooError, match='`per` must be "parameter" or "tensor"'):
        Standardizer.fit(zoo, zoo.final(), "layer")
