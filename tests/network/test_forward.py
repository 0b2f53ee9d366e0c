"""Networks on probe images: the native kernel and NumPy against the torch module, and the kernel's bits."""

import numpy as np
import pytest
import torch

from cnnzoo import kernel
from cnnzoo.features.probe_images import probe_images, side_for
from cnnzoo.network import forward
from cnnzoo.network.forward import KernelForward, NumpyForward, forward_of
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.network.module import SmallCNN

needs_kernel = pytest.mark.skipif(kernel.unavailable_reason() is not None, reason=str(kernel.unavailable_reason()))

ARCHITECTURES = [
    Architecture(),
    Architecture(num_units=5, num_layers=1),
    Architecture(num_units=8, num_layers=2, num_classes=3),
    Architecture(num_units=4, num_layers=4),
    Architecture(num_units=24, num_layers=2),
]
ACTIVATIONS = ["relu", "tanh", "tanh", "relu", "relu"]


def images_for(architecture):
    side = side_for(architecture)
    return probe_images(side).reshape(-1, side, side)


def networks(layout, count):
    return np.random.default_rng(1).normal(0, 0.2, (count, layout.size)).astype(np.float32)


@pytest.mark.parametrize("way", [NumpyForward, pytest.param(KernelForward, marks=needs_kernel)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_networks_answer_as_the_torch_module_does(architecture, way):
    layout = layout_of(architecture)
    weights, images = networks(layout, 5), images_for(architecture)
    logits, maps = way(images, layout)(weights, ACTIVATIONS)
    for row, activation, found in zip(weights, ACTIVATIONS, logits, strict=True):
        with torch.no_grad():
            expected = SmallCNN.from_row(row, layout, activation)(torch.from_numpy(images.copy())[:, None]).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1, np.abs(expected).max()))
    bias, dense = (layout.variables[index] for index in (-2, -1))
    for row, found, features in zip(weights, logits, maps, strict=True):  # the maps are those that the logits come from
        pooled = features.mean(axis=1, dtype=np.float64)
        expected = pooled @ row[dense.start : dense.end].reshape(dense.shape) + row[bias.start : bias.end]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1, np.abs(expected).max()))


@needs_kernel
@pytest.mark.parametrize("count", [1, 19])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernel_has_the_bits_of_the_definition(architecture, count):
    layout = layout_of(architecture)
    weights, images = networks(layout, count), images_for(architecture)
    activations = ["relu", "relu", "tanh"] * 7
    fast = KernelForward(images, layout)(weights, activations[:count])
    defined = KernelForward(images, layout, reference=True)(weights, activations[:count])
    for ours, expected in zip(fast, defined, strict=True):
        np.testing.assert_array_equal(ours.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("way", [NumpyForward, pytest.param(KernelForward, marks=needs_kernel)])
def test_colour_channels_all_see_the_grey_image(way):
    layout = layout_of(Architecture(num_channels=3))
    weights = networks(layout, 3)
    images = images_for(layout.architecture)
    logits, _ = way(images, layout)(weights, ["relu"] * 3)
    with torch.no_grad():
        grey = torch.from_numpy(images.copy())[:, None].expand(-1, 3, -1, -1)
        expected = SmallCNN.from_row(weights[1], layout, "relu")(grey).numpy()
    np.testing.assert_allclose(logits[1], expected, rtol=1e-4, atol=1e-6)


@needs_kernel
def test_the_kernel_runs_networks_where_it_can(monkeypatch):
    layout = layout_of(Architecture())
    assert isinstance(forward_of(images_for(layout.architecture), layout), KernelForward)
    monkeypatch.setattr(forward, "unavailable_reason", lambda: "none was built")
    assert isinstance(forward_of(images_for(layout.architecture), layout), NumpyForward)


@needs_kernel
def test_faulty_arrays_are_refused_before_they_can_do_harm():
    layout = layout_of(Architecture())
    images = images_for(layout.architecture)
    with pytest.raises(ValueError, match="shape"):
        KernelForward(images, layout)(networks(layout_of(Architecture(num_units=8)), 2), ["relu"] * 2)
