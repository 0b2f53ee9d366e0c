"""Digests of all bits of features, of rows and answers that are hard to compute: `python tests/features/bits.py`.

They are those of the tables that are stored (float32), and of what is computed in float64 before it is rounded to them,
which would hide most differences of last bits.
"""

import hashlib

import numpy as np

from cnnzoo import features
from cnnzoo.features.invariants import describe_channels, describe_products, describe_spectra
from cnnzoo.features.probe_images import probe_images
from cnnzoo.features.probes import describe_hidden, describe_logits
from cnnzoo.network.layout import Architecture, Layout, layout_of

LAYOUTS = {
    "published": (layout_of(Architecture()), "0,1,2,3"),
    "other": (layout_of(Architecture(num_units=21, num_layers=2, num_channels=3, num_classes=7)), "0,1,2"),
}
SETS = ("wstats-layers:{}-qts:0,10,33.3,50,75,100", "wnorm-layers:{}-l1", "wnorm-layers:{}-l2")
DESCRIBED = {
    "wspectra-layers:{}": describe_spectra,
    "wchannels-layers:{}": describe_channels,
    "wproducts-layers:{}": describe_products,
}
SETS += tuple(DESCRIBED)


def hard_networks(layout: Layout) -> np.ndarray:
    """Return networks (40, P), float32: uniform draws, which need no library's functions, and what breaks sums."""
    random = np.random.default_rng(0)
    rows = _draw(random, 40, layout.size)
    rows[0] = 0
    rows[1] = -0.0
    rows[2, layout.size // 2] = np.nan
    rows[3, layout.size // 2] = np.inf
    rows[4] *= np.float32(3e38)
    rows[5] *= np.float32(1e-40)
    rows[6] = np.rint(rows[6] * 3)  # ties, with zeros of both signs
    rows[7] = 1
    rows[8, ::7] *= np.float32(1e20)
    rows[9] += 5
    rows[10, layout.size // 2 :] = -np.inf
    return rows


def hard_answers() -> tuple[np.ndarray, np.ndarray]:
    """Return logits (70, B, K) and feature maps (70, B, Q, U), float32."""
    random = np.random.default_rng(1)
    images = probe_images(28)[..., 0, 0].size
    logits, maps = 4 * _draw(random, 70, images, 10), np.maximum(_draw(random, 70, images, 4, 16), 0)
    for values in (logits, maps):
        values[0] = 0
        values[1] = -0.0
        values[2, 5] = np.nan
        values[3] = np.inf
        values[4] *= np.float32(1e30)
        values[5] *= np.float32(1e-30)
        values[6] = values[6, :1]  # the same to every image
        values[7] = np.rint(values[7])
    return logits, maps


def _draw(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Return float32 numbers in [-1, 1], most of them small, that are the same on every processor (powers are not)."""
    uniform = 2 * random.random(shape, dtype=np.float32) - 1
    return uniform * uniform * uniform


def digests() -> dict[str, str]:
    """Return the SHA-256 of each set by its name."""
    found = {}
    for kind, (layout, layers) in LAYOUTS.items():
        for name in ("wstats-glob", *SETS):
            (table,) = features.compute(hard_networks(layout), layout, features.parse(name.format(layers)))
            found[f"{kind} {name.format(layers)}"] = _digest(table)
        for name, describe in DESCRIBED.items():
            with np.errstate(over="ignore", invalid="ignore"):
                (part,) = features.parse(name.format(layers))
                found[f"{kind} {name.format(layers)} float64"] = _digest(describe(part, layout, hard_networks(layout)))
    logits, maps = hard_answers()
    for name, described in (("logits", describe_logits(logits)), ("hidden", describe_hidden(maps))):
        found[f"probes of {name}"] = _digest(np.stack([described[column] for column in sorted(described)]))
    for side in (28, 31):
        found[f"probe images {side}"] = _digest(probe_images(side))
    return found


def _digest(values: np.ndarray) -> str:
    if values.dtype == np.float64:  # one kind of zero and of NaN, as in the tables
        values = np.where(np.isnan(values), np.nan, values + 0.0)
    return hashlib.sha256(values.tobytes()).hexdigest()


def describe() -> str:
    """Return the lines of digests.txt."""
    return "".join(f"{digest} {name}\n" for name, digest in digests().items())


if __name__ == "__main__":
    print(describe(), end="")
