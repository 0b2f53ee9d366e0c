"""Layers counted from the output: the same layers, under names that fit networks of any depth."""

import numpy as np
import pytest

from cnnzoo import features
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features.names import columns_of
from cnnzoo.network.layout import Architecture, layout_of

LAYOUT = layout_of(Architecture())
COMPARABLE = "wstats-layers:0,-3,-2,-1-qts:0,25,50,75,100"


def columns(name: str, layout=LAYOUT) -> list[str]:
    return [column for part in features.parse(name) for column in columns_of(part, layout)]


def test_columns_are_equal_for_networks_of_any_depth_and_width_of_image():
    for name in (COMPARABLE, "wnorm-layers:0,-1-l2", "wspectra-layers:-2,-1", "wproducts-layers:-3,-2,-1", "probes"):
        depths = [columns(name, layout_of(Architecture(num_layers=depth))) for depth in (3, 4, 5)]
        assert depths[0] == depths[1] == depths[2]
    assert columns("probes", layout_of(Architecture(num_units=7, num_layers=1))) == columns("probes")


def test_columns_are_named_by_the_layer_as_written():
    assert columns("wstats-layers:0,-1-qts:50") == [
        f"layer{layer}/{tensor}:{statistic}"
        for layer in (0, -1)
        for tensor in ("bias", "kernel")
        for statistic in ("q50", "std", "mean")
    ]
    assert columns("wstats-layers:0,3-qts:50")[0] == "conv2d/bias:q50"


@pytest.mark.parametrize(
    ("kind", "rest"), [("wstats", "-qts:0,25,50,75,100"), ("wnorm", "-l1"), ("wspectra", ""), ("wchannels", "")]
)
def test_layers_from_the_output_are_those_from_the_input(kind, rest):
    weights = np.random.default_rng(0).standard_normal((5, LAYOUT.size), dtype=np.float32)
    parts = [features.parse(f"{kind}-layers:{layers}{rest}")[0] for layers in ("0,-3,-2,-1", "0,1,2,3")]
    from_output, from_input = features.compute(weights, LAYOUT, parts)
    np.testing.assert_array_equal(from_output, from_input)


def test_in_a_network_of_two_convolutions_the_first_layer_is_also_the_third_from_the_output():
    layout = layout_of(Architecture(num_layers=2))
    weights = np.random.default_rng(0).standard_normal((3, layout.size), dtype=np.float32)
    (table,) = features.compute(weights, layout, features.parse(COMPARABLE))
    np.testing.assert_array_equal(table[:, :14], table[:, 14:28])


@pytest.mark.parametrize("layers", ["0,-4,-1", "-5", "4,-1"])
def test_a_layer_that_the_networks_lack_is_named(layers):
    missing = {"0,-4,-1": -4, "-5": -5, "4,-1": 4}[layers]
    layout = layout_of(Architecture(num_layers=2)) if missing == -4 else LAYOUT
    with pytest.raises(CnnzooError, match=f"there is no layer {missing}"):
        columns(f"wnorm-layers:{layers}-l1", layout)


@pytest.mark.parametrize(
    "name",
    [
        "wstats-layers:-1,0-qts:50",
        "wstats-layers:0,-1,-2-qts:50",
        "wstats-layers:0,0,-1-qts:50",
        "wnorm-layers:-0-l1",
        "wnorm-layers:--1-l1",
        "wspectra-layers:",
        "wspectra-layers:1,0",
        "wproducts-layers:0",
        "wproducts-layers:0,2",
        "wproducts-layers:0,-1",
        "wproducts-layers:-3,-1",
        "probes:0",
    ],
)
def test_nonsense_is_refused(name):
    with pytest.raises(CnnzooError, match="unknown feature set"):
        features.parse(name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("wstats-layers:0,-1-qts:50", "wstats-layers:-2,-1-qts:0"),
        ("wstats-layers:0,-1-qts:50", "wstats-layers:0,3-qts:50"),
        ("wstats-layers:0,-1-qts:50", "wstats-layers:-2-qts:50"),
        ("wnorm-layers:-1-l1", "wnorm-layers:0,-1-l1"),
        ("wnorm-layers:-1-l1", "wnorm-layers:-1-l2"),
        ("wspectra-layers:0,1", "wspectra-layers:1"),
        ("wspectra-layers:0,1", "wchannels-layers:0,1"),
        ("wchannels-layers:0", "wchannels-layers:0,-1"),
        ("wproducts-layers:0,1,2", "wproducts-layers:1,2"),
        ("wproducts-layers:0,1", "wproducts-layers:1,2"),
        ("wproducts-layers:0,1,2", "wproducts-layers:0,1,2"),
        ("wproducts-layers:0,1", "wproducts-layers:-4,-3"),
        ("probes", "probes"),
        ("probes", "wstats-glob"),
    ],
)
def test_parts_that_share_a_column_are_refused_and_no_others(first, second):
    if set(columns(first)) & set(columns(second)):
        with pytest.raises(CnnzooError, match="hold the same columns"):
            features.parse(f"{first}+{second}")
    else:
        both = columns(f"{first}+{second}")
        assert len(both) == len(set(both)) == len(columns(first)) + len(columns(second))
