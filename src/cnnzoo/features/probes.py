"""Data-free probing: what a network says to synthetic images, in numbers that predict how well it classifies.

A network that learned little answers every image alike or changes its mind with the slightest shift; one that learned
well is sure of some patterns, unsure of others, uses all its classes, and keeps its answer under small changes. No
description depends on the order of classes or of hidden units: classes are sorted, or enter through singular values.
All are continuous in the logits (no count of argmax), so rounding stays rounding.

Undefined logits (diverged networks) count as 0, infinite or huge ones as LIMIT: the result is always finite.

Shape letters: N networks, F families, I patterns, V variants, B = F * I * V images, K classes, Q positions, U units.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.arithmetic import exp, fold, log, log1p
from cnnzoo.features.eigenvalues import eigenvalues
from cnnzoo.features.exact_products import gram
from cnnzoo.features.parts import FAMILIES, HIDDEN_QUANTILES, PROBE_QUANTILES, VARIANTS, Probes
from cnnzoo.features.probe_images import PATTERNS, probe_images, side_for
from cnnzoo.network.forward import forward_of
from cnnzoo.network.layout import Layout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Found = dict[str, Doubles]
"""Descriptions by their column, (N,) each."""

NETWORKS = 64
"""Networks described together: fewer make the eigenvalues dearer, more leave a core's cache (measured)."""
LIMIT = 1e12
SHARPNESS = 20.0
"""Logits, divided by their own spread, times this, through softmax: nearly one-hot, but continuous."""
NEGLIGIBLE = 1e-3
"""Differences between logits below this share of the largest logit are taken as no difference: float32 rounding."""
FLOOR = 1e-8
"""Added to variances, so that networks without any have logarithms and ratios."""


class Probing:
    """The probe images, ready for networks of one layout."""

    def __init__(self, part: Probes, layout: Layout) -> None:
        self._columns = part.columns(layout)
        side = side_for(layout.architecture)
        self._images, self._layout = probe_images(side).reshape(-1, side, side), layout
        self._kept = threading.local()  # each thread runs networks in its own memory

    def describe(self, rows: Floats, activations: Sequence[str]) -> Floats:
        """Return the descriptions of networks `rows` (N, P), float32 (N, columns), all finite."""
        starts = range(0, len(rows), NETWORKS)
        blocks = (slice(start, start + NETWORKS) for start in starts)
        described = [self._describe(rows[block], activations[block]) for block in blocks]
        return np.concatenate(described) if described else np.empty((0, len(self._columns)), dtype=np.float32)

    def _describe(self, rows: Floats, activations: Sequence[str]) -> Floats:
        if not hasattr(self._kept, "forward"):
            self._kept.forward = forward_of(self._images, self._layout)
        logits, maps = self._kept.forward(rows, activations)
        found = describe_logits(logits) | describe_hidden(maps)
        return np.stack([found[column] for column in self._columns], axis=1).astype(np.float32)


def describe_logits(logits: Floats) -> Found:
    """Return the descriptions of logits (N, B, K); B in the order of `probe_images`."""
    answers = _Answers.of(logits)
    return _summaries(answers) | _classes(answers) | _spectra(answers) | _families(answers) | _variants(answers)


def describe_hidden(maps: Floats) -> Found:
    """Return the descriptions of the last feature maps (N, B, Q, U): quantiles over units, so U may be any number.

    Sums over images and positions are folded: NumPy's own are slow beside an inner axis of 16 units.
    """
    networks, images, positions, units = maps.shape
    values = _finite(maps)
    pooled = fold(values, axis=2) / positions  # (N, B, U)
    values = values.reshape(networks, images * positions, units)
    mean, squares = _mean(values), values * values
    pooled -= _mean(pooled)[:, None]
    by_unit = {
        "mean": _signed_log(mean),
        "std": log1p(np.sqrt(np.maximum(_mean(squares) - mean * mean, 0))),
        "saturated": _mean(np.minimum(squares, 1)),
        "varied": log1p(np.sqrt(_mean(pooled * pooled))),
    }  # (N, U) each
    found: Found = {}
    for name, quantiles in _quantiles(by_unit, HIDDEN_QUANTILES).items():
        found |= {f"hidden:{name}:q{q}": each for q, each in zip(HIDDEN_QUANTILES, quantiles, strict=True)}
    found["hidden:dead"] = exp(-by_unit["std"] / NEGLIGIBLE).mean(axis=1)
    found["hidden:rank"] = _rank(_singular_values(pooled), np.sqrt(squares.max(axis=(1, 2))))
    return found


@dataclass(frozen=True)
class _Answers:
    """What N networks say to B images about K classes."""

    centred: Doubles
    """Logits less their mean over the classes, (N, B, K): softmax does not see the mean."""
    probabilities: Doubles
    """(N, B, K)."""
    ordered: Doubles
    """The centred logits of each image, descending, (N, B, K)."""
    ordered_probabilities: Doubles
    sharp: Doubles
    """Probabilities of logits that are SHARPNESS times as large as their spread: nearly one-hot, (N, B, K)."""
    spread: Doubles
    """Standard deviation of each image's logits, (N, B)."""
    entropy: Doubles
    """Of each image's probabilities, (N, B)."""
    negligible: Doubles
    """Differences that rounding may make, (N,)."""

    @classmethod
    def of(cls, logits: Floats) -> "_Answers":
        values = _finite(logits)
        centred = values - values.mean(axis=2, keepdims=True)
        negligible = NEGLIGIBLE * np.abs(values).max(axis=(1, 2))
        ordered = _descending(centred)
        probabilities, ordered_probabilities = _softmax(centred), _softmax(ordered)
        spread = np.sqrt(_dot(centred, centred) / centred.shape[2])
        sharp = _softmax(centred * (SHARPNESS / (spread + negligible[:, None] + FLOOR))[..., None])
        entropy = _entropy(ordered_probabilities)
        return cls(centred, probabilities, ordered, ordered_probabilities, sharp, spread, entropy, negligible)

    @property
    def confidence(self) -> Doubles:
        """Each image's largest probability, (N, B)."""
        return self.ordered_probabilities[..., 0]

    @property
    def gap(self) -> Doubles:
        """log(1 + the largest logit less the second largest) of each image, (N, B)."""
        return log1p(self.ordered[..., 0] - self.ordered[..., 1])

    @property
    def floor(self) -> Doubles:
        """The variance of logits that counts as none, (N,)."""
        return self.negligible * self.negligible + FLOOR

    def by_family(self, values: Doubles) -> Doubles:
        """(N, B, ...) -> (N, F, I * V, ...)."""
        return values.reshape(len(values), len(FAMILIES), PATTERNS * len(VARIANTS), *values.shape[2:])

    def by_variant(self, values: Doubles) -> Doubles:
        """(N, B, ...) -> (V, N, F * I, ...)."""
        grid = values.reshape(len(values), len(FAMILIES) * PATTERNS, len(VARIANTS), *values.shape[2:])
        return np.ascontiguousarray(np.moveaxis(grid, 2, 0))


def _summaries(answers: _Answers) -> Found:
    """Describe how sure the network is of single images, and how differently sure of different ones."""
    quantities = {
        "confidence": answers.confidence,
        "entropy": answers.entropy,
        "gap": answers.gap,
        "spread": log1p(answers.spread),
    }
    found: Found = {}
    for name, quantiles in _quantiles(quantities, PROBE_QUANTILES).items():
        found |= {f"{name}:q{q}": each for q, each in zip(PROBE_QUANTILES, quantiles, strict=True)}
        found |= {f"{name}:mean": quantities[name].mean(axis=1), f"{name}:std": quantities[name].std(axis=1)}
    return found


def _classes(answers: _Answers) -> Found:
    """Describe how the classes differ, in single images (sorted in each) and over all (sorted once)."""
    mean, share = answers.probabilities.mean(axis=1), answers.sharp.mean(axis=1)  # (N, K)
    ordered = answers.ordered.mean(axis=1)
    return (
        _numbered("gap", log1p(ordered[:, :-1] - ordered[:, 1:]))
        | _numbered("probability", log(answers.ordered_probabilities.mean(axis=1) + 1e-6))
        | _numbered("balance", _descending(mean))
        | _numbered("share", _descending(share))
        | _numbered("offset", _signed_log(_descending(answers.centred.mean(axis=1))))
        | _numbered("deviation", log1p(_descending(answers.centred.std(axis=1))))
        | {
            "balance:entropy": _entropy(mean),
            "share:entropy": _entropy(share),
            "information": _entropy(mean) - answers.entropy.mean(axis=1),
        }
    )


def _spectra(answers: _Answers) -> Found:
    """Describe how varied the answers are: singular values of probes x classes, without the one that is 0."""
    images = answers.centred.shape[1]
    tables = np.concatenate([answers.centred, answers.probabilities])
    sizes = _singular_values(tables - _mean(tables)[:, None])[:, :-1] / np.sqrt(images)
    values = dict(zip(("logits", "probabilities"), np.split(sizes, 2), strict=True))  # (N, K - 1) each
    relative = values["logits"] / (values["logits"].sum(axis=1) + answers.negligible + FLOOR)[:, None]
    return (
        _numbered("logits:s", log1p(values["logits"]))
        | _numbered("logits:relative.s", relative)
        | _numbered("probabilities:s", values["probabilities"])
        | {"rank": _rank(values["logits"], answers.negligible / NEGLIGIBLE)}
    )


def _families(answers: _Answers) -> Found:
    """Describe how sure the network is of each kind of image, and how much its answers vary within the kind."""
    logits, probabilities = answers.by_family(answers.centred), answers.by_family(answers.probabilities)
    entropy = answers.by_family(answers.entropy).mean(axis=2)  # (N, F)
    mean = probabilities.mean(axis=2)  # (N, F, K)
    within = logits.var(axis=2).mean(axis=2)  # (N, F)
    whole = answers.centred.var(axis=1).mean(axis=1)  # (N,)
    quantities = {
        "confidence": answers.by_family(answers.confidence).mean(axis=2),
        "entropy": entropy,
        "gap": answers.by_family(answers.gap).mean(axis=2),
        "information": _entropy(mean) - entropy,
        "within": within / (whole + answers.floor)[:, None],
        "variance": log(within + answers.floor[:, None]),
        "balance0": mean.max(axis=2),
    }
    return {
        f"{name}:{family}": values[:, index]
        for name, values in quantities.items()
        for index, family in enumerate(FAMILIES)
    }


def _variants(answers: _Answers) -> Found:
    """Describe how steady the answers are when an image is inverted, shifted or made noisy."""
    sharp = answers.by_variant(answers.sharp)
    logits, probabilities = answers.by_variant(answers.centred), answers.by_variant(answers.probabilities)
    whole = answers.centred.var(axis=1).sum(axis=1) + answers.floor  # (N,)
    power = [_dot(each, each).mean(axis=1) + answers.floor for each in logits]  # (N,) each
    found: Found = {}
    for index, variant in enumerate(VARIANTS[1:], start=1):
        change = np.abs(probabilities[0] - probabilities[index]).sum(axis=2) / 2  # total variation, (N, F * I)
        difference = logits[0] - logits[index]
        distance = _dot(difference, difference).mean(axis=1)
        product = _dot(logits[0], logits[index]).mean(axis=1)
        found |= {
            f"agreement:{variant}": _dot(sharp[0], sharp[index]).mean(axis=1),
            f"change:{variant}": change.mean(axis=1),
            f"distance:{variant}": log(distance / whole + 1e-6),
            f"correlation:{variant}": product / np.sqrt(power[0] * power[index]),
            f"scale:{variant}": log(power[index] / power[0]),
        }
        by_family = change.reshape(len(change), len(FAMILIES), PATTERNS).mean(axis=2)
        found |= {f"change:{family}:{variant}": by_family[:, i] for i, family in enumerate(FAMILIES)}
    return found


def _finite(values: Floats) -> Doubles:
    numbers = values.astype(np.float64)
    if not np.abs(values).max(initial=0) < LIMIT:  # true for NaN
        np.clip(np.nan_to_num(numbers, copy=False, nan=0.0), -LIMIT, LIMIT, out=numbers)
    return numbers


def _softmax(values: Doubles) -> Doubles:
    powers = exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _entropy(probabilities: Doubles) -> Doubles:
    """Return the entropy over the last axis, in nats."""
    return -_dot(probabilities, log(np.maximum(probabilities, 1e-30)))


def _descending(values: Doubles) -> Doubles:
    return -np.sort(-values, axis=-1)  # contiguous: sums do not depend on the layout


def _quantiles(quantities: Found, percent: Sequence[int]) -> dict[str, Doubles]:
    """Return quantiles over the last axis of several (N, n), by name (quantiles, N): in one call for all."""
    found = np.percentile(np.stack(list(quantities.values())), percent, axis=2)
    return {name: found[:, index] for index, name in enumerate(quantities)}


def _singular_values(matrices: Doubles) -> Doubles:
    """Return the singular values of (N, B, K), descending, (N, K): from Gram matrices, to 1e-8 of the largest."""
    return _descending(np.sqrt(np.maximum(eigenvalues(gram(matrices)), 0)))


def _rank(singular_values: Doubles, scale: Doubles) -> Doubles:
    """Return the effective rank (Roy and Vetterli 2007): exp of the entropy of the normalised singular values.

    Values far below `scale` (N,) are rounding; what is missing to the sum counts as one more direction without size.
    """
    whole = singular_values.sum(axis=1) + NEGLIGIBLE * scale + FLOOR
    return np.asarray(exp(_entropy(singular_values / whole[:, None])))


def _mean(values: Doubles) -> Doubles:
    """(N, n, U) -> (N, U)."""
    return np.asarray(fold(values, axis=1) / values.shape[1])


def _dot(first: Doubles, second: Doubles) -> Doubles:
    """Return the sums of products over the last axis: unlike np.vecdot's, in the same order on every processor."""
    return np.asarray((first * second).sum(axis=-1))


def _signed_log(values: Doubles) -> Doubles:
    return np.asarray(np.sign(values) * log1p(np.abs(values)))


def _numbered(prefix: str, values: Doubles) -> Found:
    return {f"{prefix}{index}": values[:, index] for index in range(values.shape[1])}
