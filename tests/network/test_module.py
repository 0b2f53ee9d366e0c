"""A row of weights as a torch module, and back."""

import numpy as np
import pytest
import torch

from builders import make_images, make_recipe, weights_of
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import network_input
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.network.module import ACTIVATIONS, SmallCNN

LAYOUT = layout_of(Architecture())


def make_row(network: int = 0) -> np.ndarray:
    return weights_of(make_recipe(network))[-1]


def forward_by_loops(row: np.ndarray, images: np.ndarray, activation: str) -> np.ndarray:
    """The definition in plain numpy, float64: images (B, H, W) -> logits (B, 10)."""
    act = np.tanh if activation == "tanh" else lambda x: np.maximum(x, 0)
    starts = [(0, 16, 160, 1), (160, 176, 2480, 16), (2480, 2496, 4800, 16)]  # the published boundaries, by hand
    features = images[..., None].astype(np.float64)  # (B, H, W, C)
    for bias, kernel, end, channels in starts:
        hwio = row[kernel:end].reshape(3, 3, channels, 16).astype(np.float64)
        side = (features.shape[1] - 3) // 2 + 1
        out = np.empty((len(images), side, side, 16))
        for y in range(side):
            for x in range(side):
                patch = features[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
                out[:, y, x] = np.einsum("bhwi,hwio->bo", patch, hwio) + row[bias:kernel]
        features = act(out)
    return features.mean(axis=(1, 2)) @ row[4810:].reshape(16, 10) + row[4800:4810]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("size", [28, 32])
def test_module_computes_the_network_of_the_row(activation, size):
    images = network_input(make_images(size=size).test_images)
    network = SmallCNN.from_row(make_row(), LAYOUT, activation)
    logits = network(torch.from_numpy(images)[:, None]).detach().numpy()
    # float32 sums of at most 144 terms of order 1: rounding stays below 1e-5 of the largest value
    np.testing.assert_allclose(logits, forward_by_loops(make_row(), images, activation), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "architecture", [Architecture(), Architecture(num_units=4, num_layers=2), Architecture(num_channels=3, num_units=8)]
)
def test_a_row_comes_back_bit_for_bit(architecture):
    layout = layout_of(architecture)
    bits = np.random.default_rng(0).integers(0, 2**32, layout.size, dtype=np.uint32)  # all kinds of floats, NaN too
    row = bits.view(np.float32)
    back = SmallCNN.from_row(row, layout, "relu").to_row(layout)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.view(np.uint32), bits)


def test_the_module_owns_its_parameters():
    row = make_row()
    network = SmallCNN.from_row(row, LAYOUT, "relu")
    row[:] = 0
    assert network.dense.bias.abs().sum() > 0
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in network.parameters())


def test_making_a_module_from_a_row_draws_nothing_from_the_global_generator():
    before = torch.random.get_rng_state()
    SmallCNN.from_row(make_row(), LAYOUT, "relu")
    assert torch.equal(before, torch.random.get_rng_state())


def test_dropout_acts_in_training_mode_alone():
    images = torch.from_numpy(network_input(make_images().test_images))[:, None]
    plain = SmallCNN.from_row(make_row(), LAYOUT, "tanh")
    dropping = SmallCNN.from_row(make_row(), LAYOUT, "tanh", dropout=0.5)
    assert torch.equal(plain(images), dropping(images))
    assert not torch.equal(plain(images), dropping.train()(images))


def one_layer(dropout, size, units=64, activation="tanh"):
    """A network in training mode whose logits are the means of its channels, on an image in which all pixels are 1."""
    torch.manual_seed(0)
    network = SmallCNN(Architecture(num_units=units, num_layers=1, num_classes=units), activation, dropout).train()
    with torch.no_grad():
        network.dense.weight.copy_(torch.eye(units))
        network.dense.bias.zero_()
        network.convolutions[0].weight.mul_(3.0)  # far from where tanh is linear
    image = torch.ones(1, 1, size, size)
    return network(image)[0].detach(), ACTIVATIONS[activation](network.convolutions[0](image))[0, :, 0, 0].detach()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_dropout_scales_the_activations_that_it_keeps(activation):
    """One position: each unit is dropped, or its activation is divided by the share that is kept."""
    dropped, activations = one_layer(0.25, size=3, activation=activation)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], activations[kept] / 0.75)
    assert 0.4 < float(kept[activations > 0].double().mean()) < 1


def test_dropout_drops_single_positions_not_channels():
    """961 positions of each channel: about as many are kept in every channel."""
    means, activations = one_layer(0.5, size=63)
    torch.testing.assert_close(means, activations, rtol=0.2, atol=0.01)  # six standard deviations of 0.032
    assert not torch.allclose(means, activations, rtol=1e-3)


def test_a_module_can_be_trained_on():
    network = SmallCNN(Architecture(), "relu", dropout=0.1)
    before = network.to_row(LAYOUT)
    loss = network(torch.zeros(4, 1, 28, 28)).square().sum()
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert (network.to_row(LAYOUT) != before).any()


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: SmallCNN.from_row(make_row()[:-1], LAYOUT, "relu"), r"float32 \(4970,\), got float32 \(4969,\)"),
        (lambda: SmallCNN.from_row(make_row()[None], LAYOUT, "relu"), r"got float32 \(1, 4970\)"),
        (lambda: SmallCNN.from_row(make_row().astype(np.float64), LAYOUT, "relu"), "got float64"),
        (lambda: SmallCNN.from_row(make_row(), LAYOUT, "gelu"), "relu, tanh, got 'gelu'"),
        (lambda: SmallCNN.from_row(make_row(), LAYOUT, "relu", dropout=1.0), r"\[0, 1\), got 1.0"),
        (lambda: SmallCNN().to_row(layout_of(Architecture(num_units=8))), "num_units=8"),
        (lambda: SmallCNN().double().to_row(LAYOUT), r"float64; call `.float\(\)`"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_message(attempt, message):
    with pytest.raises(CnnzooError, match=message):
        attempt()
