"""The published layout of a row."""

from pathlib import Path

import numpy as np
import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture, Layout, layout_of

GOLDEN = Path(__file__).parents[1] / "zoo" / "golden" / "layout.csv"


def test_layout_of_the_published_network_is_the_published_file():
    assert layout_of(Architecture()).to_csv() == GOLDEN.read_text()


@pytest.mark.parametrize(
    "architecture",
    [Architecture(), Architecture(num_units=3, num_layers=1), Architecture(num_channels=3, num_layers=4)],
)
def test_layout_survives_its_file_and_knows_its_architecture(architecture):
    layout = Layout.from_csv(layout_of(architecture).to_csv())
    assert layout == layout_of(architecture)
    assert layout.architecture == architecture


def test_the_published_network_has_4970_parameters_58_of_them_biases():
    layout = layout_of(Architecture())
    assert layout.size == 4970
    assert int((~layout.kernel_mask).sum()) == 16 + 16 + 16 + 10


def test_split_and_join_are_inverse():
    layout = layout_of(Architecture(num_units=4))
    row = np.random.default_rng(1).standard_normal(layout.size, dtype=np.float32)
    np.testing.assert_array_equal(layout.join(layout.split(row)), row)


def test_split_gives_views_over_any_leading_axes():
    layout = layout_of(Architecture())
    rows = np.zeros((2, 9, layout.size), dtype=np.float32)
    parts = layout.split(rows)
    parts["sequential/conv2d_1/kernel:0"][1, 8, 2, 2, 15, 15] = 5
    assert parts["sequential/conv2d_1/kernel:0"].shape == (2, 9, 3, 3, 16, 16)
    assert rows[1, 8, 2479] == 5  # the last number before conv2d_2's bias


@pytest.mark.parametrize(("image_size", "sizes"), [(28, (13, 6, 2)), (32, (15, 7, 3)), (15, (7, 3, 1))])
def test_feature_maps_have_the_published_sizes(image_size, sizes):
    assert Architecture().feature_sizes(image_size) == sizes


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        (0, "name,start,end,size,shape", "the header must be varname"),
        (2, 'sequential/conv2d/kernel:0,17,161,144,"(3, 3, 1, 16)"', "line 3.*expected start 16"),
        (2, 'sequential/conv2d/kernel:0,16,160,145,"(3, 3, 1, 16)"', "line 3.*do not agree"),
        (2, 'sequential/conv2d/kernel:0,16,161,144,"(3, 3, 1, 16)"', "line 3.*do not agree"),
        (2, 'sequential/conv2d/kernel:0,16,160,144,"(3, 3, 1, 15)"', "line 3.*do not agree"),
        (8, 'sequential/dense/kernel:0,4811,4971,160,"(16, 10)"', "line 9.*expected start 4810"),
        (2, "sequential/conv2d/kernel:0,16,160,144,__import__('os')", "line 3: cannot be read"),
        (8, "", "line 9: cannot be read"),
    ],
)
def test_a_damaged_layout_is_refused_with_its_line(line, replacement, message):
    lines = GOLDEN.read_text().splitlines()
    lines[line] = replacement
    with pytest.raises(CnnzooError, match=message):
        Layout.from_csv("\n".join(lines) + "\n")


@pytest.mark.parametrize("lines", [1, 2, 4, 8])
def test_a_layout_file_that_ends_within_a_layer_is_refused(lines):
    """A header alone, or a bias whose kernel is missing."""
    text = "".join(GOLDEN.read_text().splitlines(keepends=True)[:lines])
    with pytest.raises(CnnzooError, match=f"every layer has a bias and a kernel, got {lines - 1} variables"):
        Layout.from_csv(text)


@pytest.mark.parametrize("size", [4969, 4971, 0])
def test_rows_of_another_length_are_refused(size):
    with pytest.raises(CnnzooError, match=f"has 4970 parameters, got {size}"):
        layout_of(Architecture()).split(np.zeros((2, size), dtype=np.float32))


@pytest.mark.parametrize("shape", [(10, 16), (160,), (16, 11), (1, 16, 10)])
def test_a_tensor_of_another_shape_is_refused_even_if_it_has_as_many_elements(shape):
    layout = layout_of(Architecture())
    tensors = layout.split(np.zeros(layout.size, dtype=np.float32))
    with pytest.raises(CnnzooError, match=r"`sequential/dense/kernel:0` has shape .*, the layout wants \(16, 10\)"):
        layout.join(tensors | {"sequential/dense/kernel:0": np.zeros(shape, dtype=np.float32)})


def test_a_layout_of_another_family_has_no_architecture():
    text = GOLDEN.read_text().replace("dense/", "dense_7/")
    with pytest.raises(CnnzooError, match="not that of a network of this family"):
        _ = Layout.from_csv(text).architecture


@pytest.mark.parametrize(("layers", "least"), [(1, 3), (2, 7), (3, 15), (4, 31)])
def test_images_too_small_for_the_layers_are_refused(layers, least):
    """The smallest image leaves one position; each layer more needs 2 n + 1 pixels."""
    architecture = Architecture(num_layers=layers)
    assert architecture.feature_sizes(least)[-1] == 1
    for size in range(1, least):
        with pytest.raises(CnnzooError, match=f"{size} x {size} pixels are too small for `num_layers={layers}`"):
            architecture.feature_sizes(size)


def test_multiply_adds_of_the_published_network():
    """Counted by hand: 169 positions x 144 twice, for the first layer has no input gradient; the others three times."""
    assert Architecture().multiply_adds(28) == 2 * 169 * 144 + 3 * (36 + 4) * 2304 + 3 * 160 == 325_632
