"""What networks that belong together say: how much of the accuracy is the seed's, and what one hyperparameter does.

Replicates share their hyperparameters and differ in the seed. The accuracy of replicate j of configuration i is taken
as mean + a_i + e_ij with independent a (hyperparameters) and e (seed): a one-way random-effects model. Its variances
are estimated by analysis of variance, unbiased also where diverged networks leave groups of unequal size (Searle,
Casella and McCulloch 1992, Variance Components, section 3.6). The share var(a) / (var(a) + var(e)), the
intraclass correlation, is the R2 that the best function of the hyperparameters would reach.

Shape letters: K networks, G groups, B resamples.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.config import Params
from cnnzoo.core import seeds
from cnnzoo.core.results import TARGET
from cnnzoo.network.hyperparameters import LABEL_NOISE, SAMPLED
from cnnzoo.report.results import CollectionResults

GROUP, SEED = "config.group", "config.random_seed"
PAIR_COLUMNS = ("collection", "group", "hyperparameter", "first", "second", "difference")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """The variance of a collection's final test accuracy, divided."""

    configurations: int
    networks: int
    between: float
    """That of the configurations' expected accuracies; an unbiased estimate can be negative."""
    within: float
    """That of networks that differ in the seed alone."""
    share: float
    """The share of the hyperparameters, in [0, 1]."""
    low: float
    """The ends of the share's bootstrap interval, from resampled configurations."""
    high: float


def is_replicated(found: CollectionResults) -> bool:
    """Return whether a collection's networks come in groups that differ in the seed."""
    return GROUP in found.final and bool((found.final.groupby(GROUP)[SEED].nunique() > 1).any())


def seed_components(found: CollectionResults, params: Params) -> Components | None:
    """Return the division of a collection's variance; None without replicates, or with too few to divide it."""
    if not is_replicated(found):
        return None
    groups, _ = pd.factorize(found.final[GROUP])
    count = int(groups.max()) + 1
    if count < 2:
        return None
    # Sums of deviations from the mean: sums of squares of accuracies near 1 would lose digits.
    deviation = found.accuracy - found.accuracy.mean()
    powers = (np.ones_like(deviation), deviation, deviation**2)
    sums: Floats = np.array([np.bincount(groups, weights=power) for power in powers], dtype=np.float64)  # (3, G)
    between, within = components(sums)
    rng = seeds.generator(params.seed, "report.replicates", found.name)
    drawn = sums[:, rng.integers(0, count, (params.evaluate.bootstrap, count))]  # (3, B, G)
    tail = (1 - params.evaluate.confidence) / 2
    shares = share(*components(drawn))
    low, high = np.nanquantile(shares, [tail, 1 - tail]) if np.isfinite(shares).any() else (np.nan, np.nan)
    return Components(
        count, len(groups), float(between), float(within), float(share(between, within)), float(low), float(high)
    )


def components(sums: Floats) -> tuple[Floats, Floats]:
    """Return the variances between and within groups, (...) each.

    `sums` (3, ..., G) holds each group's number of values, their sum, and the sum of their squares.
    """
    sizes, totals, squares = sums
    groups, values = sizes.shape[-1], sizes.sum(axis=-1)
    of_groups = (totals**2 / sizes).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = (squares.sum(axis=-1) - of_groups) / (values - groups)
        mean_square = (of_groups - totals.sum(axis=-1) ** 2 / values) / (groups - 1)
        usual_size = (values - (sizes**2).sum(axis=-1) / values) / (groups - 1)
        return (mean_square - within) / usual_size, within


def share(between: Floats, within: Floats) -> Floats:
    """Return the share of the first variance in both, one below 0 counted as 0; NaN if there is no variance."""
    positive = np.maximum(between, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(positive / (positive + within))


def pair_differences(found: CollectionResults) -> pd.DataFrame:
    """Return each pair's differing hyperparameter, its values, and how much more accurate the second network is.

    Numbers stand in ascending order, categories in alphabetical order. Pairs of which one network diverged are left
    out; no rows where networks do not come in pairs.
    """
    rows: list[tuple[object, ...]] = []
    if GROUP in found.final and not is_replicated(found):
        names = [f"config.{name}" for name in (*SAMPLED, LABEL_NOISE) if f"config.{name}" in found.final]
        for group, pair in found.final.groupby(GROUP):
            differing = [name for name in names if pair[name].nunique() > 1]
            if len(pair) == 2 and differing:
                ordered = pair.sort_values(differing[0])
                first, second = ordered[differing[0]]
                change = ordered[TARGET].iloc[1] - ordered[TARGET].iloc[0]
                rows.append((found.name, group, differing[0].removeprefix("config."), first, second, change))
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
