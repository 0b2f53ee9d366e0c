"""The published layout of a row."""

from pathlib import Path

import numpy as np
import pytest

from cnnzoo.errors import CnnzooError
from cnnzoo.layout import Architecture, Layout, layout_of

GOLDEN = Path(__file__).parent / "collection" / "golden" / "layout.csv"


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
        (2, "sequential/conv2d/kernel:0,16,160,144,__import__('os')", "line 3: cannot be read"),
        (8, "", "line 9: cannot be read"),
    ],
)
def test_a_damaged_layout_is_refused_with_its_line(line, replacement, message):
    lines = GOLDEN.read_text().splitlines()
    lines[line] = replacement
    with pytest.raises(CnnzooError, match=message):
        Layout.from_csv("\n".join(lines) + "\n")


def test_a_layout_of_another_family_has_no_architecture():
    text = GOLDEN.read_text().replace("dense/", "dense_7/")
    with pytest.raises(CnnzooError, match="not that of a network of this family"):
        _ = Layout.from_csv(text).architecture


def test_images_too_small_for_the_layers_are_refused():
    with pytest.raises(CnnzooError, match="8 x 8 pixels are too small for `num_layers=3`"):
        Architecture().feature_sizes(8)


def test_multiply_adds_of_the_published_network():
    """Counted by hand: 169 positions x 144 twice, for the first layer has no input gradient; the others three times."""
    assert Architecture().multiply_adds(28) == 2 * 169 * 144 + 3 * (36 + 4) * 2304 + 3 * 160 == 325_632
