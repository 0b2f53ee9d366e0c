"""Golden values of probe images and features: what saved predictors were trained on and must go on reading.

`python tests/features/golden.py` writes probe_images.txt and features.txt again. A change of either file means that
predictors saved before would read other numbers: then their format needs a new version.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cnnzoo import features
from cnnzoo.features.parts import FAMILIES, VARIANTS
from cnnzoo.features.probe_images import PATTERNS, probe_images
from cnnzoo.network.layout import Architecture, Layout, layout_of

IMAGES = Path(__file__).with_name("probe_images.txt")
FEATURES = Path(__file__).with_name("features.txt")
SIDES = (28, 31)
PIXELS = ((3, 20), (8, 5), (11, 13), (14, 14), (17, 9), (19, 22), (24, 12))
LAYOUT = layout_of(Architecture(num_units=4))
ACTIVATIONS = ("relu", "tanh", "relu")
SETS = (
    "wstats-glob",
    "wstats-layers:0,1,2,3-qts:0,25,50,75,100",
    "wstats-layers:0,-1-qts:10,33.3",
    "wnorm-layers:0,1,2,3-l1",
    "wnorm-layers:0,1,2,3-l2",
    "wspectra-layers:0,1,2,3",
    "wchannels-layers:0,1,2,3",
    "wproducts-layers:0,1,2,3",
    "probes",
)


def draw_networks(layout: Layout = LAYOUT) -> np.ndarray:
    """Return three networks (3, P) by a closed formula, which no generator of random numbers can change."""
    place = np.arange(1, layout.size + 1, dtype=np.float64)
    rows = [0.8 * np.sin(0.7 * place**2), 0.5 * np.cos(1.3 * place**2 + 1), 0.6 * np.sin(2.1 * place**2 + 2)]
    return np.stack(rows).astype(np.float32)


def describe_networks() -> pd.DataFrame:
    """Return all features, a row for each: set, column, and the value of each network."""
    metrics = pd.DataFrame({"config.activation": ACTIVATIONS})
    tables = {name: features.describe(name, draw_networks(), LAYOUT, metrics) for name in SETS}
    return pd.concat({name: table.T for name, table in tables.items()}, names=["set", "column"])


def describe_images() -> pd.DataFrame:
    """Return the sum of the levels (0 to 255) of each probe image, and those of some pixels."""
    lines = []
    for side in SIDES:
        levels = np.round((probe_images(side).astype(np.float64) + 1) / 2 * 255).astype(int)
        for family, variant, pattern in np.ndindex(len(FAMILIES), len(VARIANTS), PATTERNS):
            image = levels[family, pattern, variant]
            key = (side, FAMILIES[family], VARIANTS[variant], pattern)
            lines.append((*key, image.sum(), *(image[pixel] for pixel in PIXELS)))
    names = ["side", "family", "variant", "pattern"]
    return pd.DataFrame(lines, columns=[*names, "sum", *(f"{row}:{column}" for row, column in PIXELS)]).set_index(names)


def main() -> None:
    """Write both files."""
    describe_images().to_csv(IMAGES, sep=" ", lineterminator="\n")
    describe_networks().to_csv(FEATURES, sep=" ", float_format="%.7g", lineterminator="\n")


if __name__ == "__main__":
    main()
