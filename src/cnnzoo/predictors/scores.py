"""Scores of predicted against true accuracies, with bootstrap intervals and a test against chance.

R2, mean squared and mean absolute error as scikit-learn defines them; Kendall's tau-b as SciPy does. Two of them are
undefined for some inputs: tau-b of a constant prediction is reported as 0 (it ranks nothing), R2 and tau of a constant
target as NaN.

Shape letters: n networks, S resamples.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

Floats = NDArray[np.float64]


def r2(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of the target's variance that is predicted; negative if worse than the target's mean."""
    target, predicted = _pair(target, predicted)
    return float(_r2_rows(target[None], predicted[None])[0])


def mse(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean squared error."""
    target, predicted = _pair(target, predicted)
    return float(np.mean((target - predicted) ** 2))


def mae(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean absolute error."""
    target, predicted = _pair(target, predicted)
    return float(np.mean(np.abs(target - predicted)))


def kendall_tau(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return Kendall's tau-b, the agreement of two rankings that may have ties, in [-1, 1]."""
    target, predicted = _pair(target, predicted)
    if np.ptp(target) == 0:
        return float("nan")
    if np.ptp(predicted) == 0:
        return 0.0
    # SciPy's p-value is not used; "asymptotic" is its cheap method, which divides by zero for two networks.
    return float(kendalltau(target, predicted, method="asymptotic" if len(target) > 2 else "exact").statistic)


def kendall_tau_ceiling(target: ArrayLike) -> float:
    """Return the highest tau-b that predictions without ties can reach against `target`.

    Of the N = n (n - 1) / 2 pairs, T are tied in the target. A ranking without ties has N pairs, of which at best
    N - T are concordant and none discordant, so tau-b = (N - T) / sqrt(N (N - T)) = sqrt(1 - T / N). A perfect ranker
    reaches it. (Only predictions with exactly the target's ties reach 1: no continuous predictor has them.)
    """
    values = np.asarray(target, dtype=np.float64)
    _, counts = np.unique(values, return_counts=True)
    pairs = len(values) * (len(values) - 1) / 2
    tied = float(np.sum(counts * (counts - 1.0))) / 2
    return float(np.sqrt(1 - tied / pairs)) if pairs > tied else float("nan")


SCORES: Mapping[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "r2": r2,
    "mse": mse,
    "mae": mae,
    "kendall_tau": kendall_tau,
}
"""The scores by the names of columns and files."""


def score(target: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Return all SCORES, and `kendall_tau_ceiling`."""
    values = {name: function(target, predicted) for name, function in SCORES.items()}
    return values | {"kendall_tau_ceiling": kendall_tau_ceiling(target)}


BLOCK = 4_000_000
"""Numbers in a table of resamples: 32 MB of float64."""
Draws = Mapping[str, Floats]
"""Each score by its name, (S,): one value a resample of the networks, NaN where it is undefined."""


def bootstrap(
    target: ArrayLike,
    predicted: ArrayLike,
    resamples: int,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
) -> Draws:
    """Return all SCORES of every resample.

    Networks are drawn with replacement, target and prediction together (Efron and Tibshirani 1993, section 13.3); all
    scores see the same resamples. Two predictors of the same networks see the same ones if their generators are equal:
    the differences of their draws are then those of a paired bootstrap. Where networks come in `groups`, int64 (n,),
    whole groups are drawn (a cluster bootstrap; Davison and Hinkley 1997, section 3.8): their networks are alike, so
    resamples of networks would promise too narrow intervals.
    """
    target, predicted = _pair(target, predicted)
    drawn: dict[str, list[Floats]] = {name: [] for name in SCORES}
    for rows in _resampled(len(target), resamples, rng, groups):
        truth, guess = target[rows], predicted[rows]
        error = truth - guess
        drawn["r2"].append(_r2_rows(truth, guess))
        drawn["mse"].append(np.mean(error**2, axis=1))
        drawn["mae"].append(np.mean(np.abs(error), axis=1))
        drawn["kendall_tau"].append(np.array([kendall_tau(*pair) for pair in zip(truth, guess, strict=True)]))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def _resampled(
    networks: int, resamples: int, rng: np.random.Generator, groups: NDArray[np.int64] | None
) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of some resamples at a time, (s, m); with groups one at a time, since their sizes may differ."""
    if groups is None or len(np.unique(groups)) == networks:
        block = max(1, BLOCK // networks)
        for start in range(0, resamples, block):
            yield rng.integers(0, networks, (min(block, resamples - start), networks))
        return
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for _ in range(resamples):
        drawn = rng.integers(0, len(members), len(members))
        yield np.concatenate([members[group] for group in drawn])[None]


def interval(values: Floats, confidence: float) -> tuple[float, float]:
    """Return the percentile interval (low, high) of a score's resamples; undefined ones are left out."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(defined, (tail, 100 - tail))
    return float(low), float(high)


def intervals(
    target: ArrayLike, predicted: ArrayLike, resamples: int, confidence: float, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return the percentile bootstrap interval (low, high) of each score. See `bootstrap`."""
    draws = bootstrap(target, predicted, resamples, rng)
    return {name: interval(values, confidence) for name, values in draws.items()}


def permutation_p_value(target: ArrayLike, predicted: ArrayLike, permutations: int, rng: np.random.Generator) -> float:
    """Return the probability that an R2 as high comes about if predictions and targets are unrelated.

    It is the share of random pairings of targets with predictions whose R2 is no lower than the one found, which
    counts as one of them, so p is never below 1 / (permutations + 1) (Phipson and Smyth 2010). R2 falls with
    the sum of squared errors, of which only the sum of products depends on the pairing. NaN for a constant target.
    """
    target, predicted = _pair(target, predicted)
    if np.ptp(target) == 0:
        return float("nan")
    truth, guess = target - target.mean(), predicted - predicted.mean()
    rounding = 1e-12 * float(np.linalg.norm(truth) * np.linalg.norm(guess))
    found = np.sum(truth * guess) - rounding
    reached = sum(bool(np.sum(rng.permutation(truth) * guess) >= found) for _ in range(permutations))
    return (1 + reached) / (1 + permutations)


def _r2_rows(target: Floats, predicted: Floats) -> Floats:
    """Return R2 of each row of two arrays (S, n); NaN where the target is constant."""
    residual = np.sum((target - predicted) ** 2, axis=1)
    total = np.sum((target - target.mean(axis=1, keepdims=True)) ** 2, axis=1)
    varies = np.ptp(target, axis=1) > 0
    return np.where(varies, 1 - residual / np.where(varies, total, 1), np.nan)


def _pair(target: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as float64 (n,)."""
    first, second = np.asarray(target, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"`target` and `predicted` must be two equally long lists, got {first.shape} and {second.shape}"
        )
    return first, second
