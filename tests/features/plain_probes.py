"""What the feature set `probes` holds, written down again for one network: torch runs it, SciPy and NumPy describe it.

Shape letters: F families, I patterns, V variants, B = F * I * V images, K classes, Q positions, U units.
"""

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from cnnzoo.network.layout import Layout
from cnnzoo.network.module import ACTIVATIONS, SmallCNN

FAMILIES = ("grating", "blobs", "texture", "strokes", "edge", "shapes")
VARIANTS = ("plain", "inverted", "shifted", "noisy")


def run(row: np.ndarray, layout: Layout, activation: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (B, K) and the last feature maps (B, Q, U) of one network for grey images (B, S, S), float64."""
    network = SmallCNN.from_row(row, layout, activation).double()
    maps = torch.from_numpy(images.astype(np.float64))[:, None].expand(-1, layout.architecture.num_channels, -1, -1)
    with torch.no_grad():
        logits = network(maps)
        for convolution in network.convolutions:
            maps = ACTIVATIONS[activation](convolution(maps))
    return logits.numpy(), maps.flatten(2).transpose(1, 2).numpy()


def plain_descriptions(logits: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Return every column of the feature set `probes` for one network."""
    return _of_answers(logits) | _of_hidden_units(maps)


def _of_answers(logits: np.ndarray) -> dict[str, float]:
    images, classes = logits.shape
    p = softmax(logits, axis=1)
    centred = logits - logits.mean(axis=1, keepdims=True)
    down = -np.sort(-logits, axis=1)
    largest = np.abs(logits).max()
    negligible = 1e-3 * largest
    floor = negligible**2 + 1e-8
    sharp = softmax(20 * centred / (logits.std(axis=1, keepdims=True) + negligible + 1e-8), axis=1)
    quantities = {
        "confidence": p.max(axis=1),
        "entropy": -(p * log_softmax(logits, axis=1)).sum(axis=1),
        "gap": np.log1p(down[:, 0] - down[:, 1]),
        "spread": np.log1p(logits.std(axis=1)),
    }
    found: dict[str, float] = {}
    for name, values in quantities.items():
        found |= {f"{name}:q{q}": np.percentile(values, q) for q in (5, 25, 50, 75, 95)}
        found |= {f"{name}:mean": values.mean(), f"{name}:std": values.std()}

    logit_sizes = np.linalg.svd(centred - centred.mean(axis=0), compute_uv=False)[: classes - 1] / np.sqrt(images)
    answer_sizes = np.linalg.svd(p - p.mean(axis=0), compute_uv=False)[: classes - 1] / np.sqrt(images)
    offsets = -np.sort(-centred.mean(axis=0))
    for name, values in {
        "gap": np.log1p(-np.diff(down.mean(axis=0))),
        "probability": np.log(-np.sort(-p, axis=1).mean(axis=0) + 1e-6),
        "balance": -np.sort(-p.mean(axis=0)),
        "share": -np.sort(-sharp.mean(axis=0)),
        "offset": np.sign(offsets) * np.log1p(np.abs(offsets)),
        "deviation": np.log1p(-np.sort(-centred.std(axis=0))),
        "logits:s": np.log1p(logit_sizes),
        "logits:relative.s": logit_sizes / (logit_sizes.sum() + negligible + 1e-8),
        "probabilities:s": answer_sizes,
    }.items():
        found |= {f"{name}{index}": value for index, value in enumerate(values)}
    found["balance:entropy"] = _entropy(p.mean(axis=0))
    found["share:entropy"] = _entropy(sharp.mean(axis=0))
    found["information"] = _entropy(p.mean(axis=0)) - quantities["entropy"].mean()
    found["rank"] = np.exp(_entropy(logit_sizes / (logit_sizes.sum() + 1e-3 * largest + 1e-8)))

    def grid(values: np.ndarray) -> np.ndarray:
        """(B, ...) -> (F, I, V, ...)."""
        return values.reshape(len(FAMILIES), -1, len(VARIANTS), *values.shape[1:])

    for index, family in enumerate(FAMILIES):
        answers = grid(p)[index].reshape(-1, classes)
        entropy = grid(quantities["entropy"])[index].mean()
        within = grid(centred)[index].reshape(-1, classes).var(axis=0).mean()
        found[f"confidence:{family}"] = answers.max(axis=1).mean()
        found[f"entropy:{family}"] = entropy
        found[f"gap:{family}"] = grid(quantities["gap"])[index].mean()
        found[f"information:{family}"] = _entropy(answers.mean(axis=0)) - entropy
        found[f"within:{family}"] = within / (centred.var(axis=0).mean() + floor)
        found[f"variance:{family}"] = np.log(within + floor)
        found[f"balance0:{family}"] = answers.mean(axis=0).max()

    def power(variant: int) -> float:
        return (grid(centred)[:, :, variant] ** 2).sum(axis=-1).mean() + floor

    for index, variant in enumerate(VARIANTS[1:], start=1):
        change = np.abs(grid(p)[:, :, 0] - grid(p)[:, :, index]).sum(axis=-1) / 2  # (F, I)
        plain, changed = grid(centred)[:, :, 0], grid(centred)[:, :, index]
        distance = ((plain - changed) ** 2).sum(axis=-1).mean()
        found[f"agreement:{variant}"] = (grid(sharp)[:, :, 0] * grid(sharp)[:, :, index]).sum(axis=-1).mean()
        found[f"change:{variant}"] = change.mean()
        found[f"distance:{variant}"] = np.log(distance / (centred.var(axis=0).sum() + floor) + 1e-6)
        found[f"correlation:{variant}"] = (plain * changed).sum(axis=-1).mean() / np.sqrt(power(0) * power(index))
        found[f"scale:{variant}"] = np.log(power(index) / power(0))
        found |= {f"change:{family}:{variant}": change[place].mean() for place, family in enumerate(FAMILIES)}
    return found


def _of_hidden_units(maps: np.ndarray) -> dict[str, float]:
    units = maps.shape[-1]
    values, pooled = maps.reshape(-1, units), maps.mean(axis=1)
    mean, std = values.mean(axis=0), values.std(axis=0)
    by_unit = {
        "mean": np.sign(mean) * np.log1p(np.abs(mean)),
        "std": np.log1p(std),
        "saturated": np.minimum(values**2, 1).mean(axis=0),
        "varied": np.log1p(pooled.std(axis=0)),
    }
    found = {f"hidden:{name}:q{q}": np.percentile(each, q) for name, each in by_unit.items() for q in range(0, 101, 25)}
    found["hidden:dead"] = np.exp(-np.log1p(std) / 1e-3).mean()
    sizes = np.linalg.svd(pooled - pooled.mean(axis=0), compute_uv=False)
    found["hidden:rank"] = np.exp(_entropy(sizes / (sizes.sum() + 1e-3 * np.abs(values).max() + 1e-8)))
    return found


def _entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(np.maximum(p, 1e-30))).sum())
