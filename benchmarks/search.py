"""How long does a search take? CatBoost on 56 statistics of 15,000 training networks, tuned as the project tunes.

    python benchmarks/search.py [trials] [networks] [max_trees] [folds]

The table is synthetic and of a zoo's shape: 56 numbers with many scales, correlated as the statistics of layers are,
from weights in the published layout; accuracies are a smooth function of ten of them, skewed towards high values, plus
noise. So early stopping and pruning happen as they do on a zoo. Trials are timed one by one; if there are fewer than
the default, the missing ones are taken to cost the mean of all, whole and pruned.

Measured on a virtual machine with 2 cores of an AMD EPYC (Zen 3), Python 3.11, CatBoost 1.2.10, at most 1,000 trees, 3
folds, while other work ran at times (load average 1.4 to 2.9), one run of 50 trials: 6.8 min; the 29 whole trials 6.2
to 25 s.
"""

import argparse
import statistics
import time

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from scipy.special import expit
from threadpoolctl import threadpool_limits

from _machine import describe, spread
from cnnzoo.config import Search
from cnnzoo.core.cores import usable_cores
from cnnzoo.features.names import columns_of, parse
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.predictors import scores
from cnnzoo.search import Outcome, Sample, Task, tune

SET = "wstats-layers:0,1,2,3-qts:0,25,50,75,100"
TRIALS, NETWORKS, TEST_NETWORKS = 50, 15_000, 3_000
TARGET_MIN = 20
FACTORS, NOISE = 10, 0.15


def make_samples(networks: int) -> tuple[Sample, Sample]:
    """Return networks to train and to test."""
    rng = np.random.default_rng(0)
    names = columns_of(parse(SET)[0], layout_of(Architecture()))
    count = networks + TEST_NETWORKS
    factors = rng.standard_normal((count, FACTORS))
    mixed = factors @ rng.standard_normal((FACTORS, len(names))) + 0.5 * rng.standard_normal((count, len(names)))
    table = pd.DataFrame(np.exp(0.4 * mixed).astype(np.float32), columns=names)
    smooth = np.tanh(factors[:, 0]) + np.sin(2 * factors[:, 1]) * factors[:, 2] + factors[:, 3:].sum(1) / 4
    accuracy = 0.1 + 0.85 * expit(1.5 + 1.5 * smooth + NOISE * rng.standard_normal(count))
    halves = np.split(np.arange(count), [networks])
    train, test = (Sample(rows, [f"bench/{row}" for row in rows], table.iloc[rows], accuracy[rows]) for rows in halves)
    return train, test


def main(trials: int, networks: int, max_trees: int, folds: int) -> None:
    budget = Search(predictors=["catboost"], only={}, trials=trials, folds=folds, max_trees=max_trees, max_epochs=100)
    task = Task("bench", "catboost", SET, 1, budget, jobs=usable_cores())
    train, test = make_samples(networks)
    finished: list[FrozenTrial] = []

    def report(trial: FrozenTrial) -> None:
        finished.append(trial)
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        error = "nothing" if trial.value is None else f"{trial.value:.5f}"
        print(f"trial {trial.number:3}: {seconds:6.1f} s, {trial.state.name}, error {error}", flush=True)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = time.perf_counter()
    with threadpool_limits(1):
        study = tune(task, train, report)
        outcome = Outcome.of(task, study, train, test)
    minutes = (time.perf_counter() - start) / 60
    whole = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    times = [trial.duration.total_seconds() for trial in whole if trial.duration]
    print(describe(["catboost", "optuna", "numpy"]))
    print(
        f"- {networks:,} training networks, {trials} trials ({len(whole)} whole), {folds} folds, <= {max_trees} trees"
    )
    print(f"- whole trials: {spread(times, '.1f')} s; held-out R2 {scores.r2(test.target, outcome.predicted):.4f}")
    print(f"- the search and the last fit took {minutes:.1f} min")
    if trials < TRIALS:
        mean = statistics.fmean(trial.duration.total_seconds() for trial in finished if trial.duration)
        expected = minutes + (TRIALS - trials) * mean / 60
        print(f"- {TRIALS} trials would take about {expected:.0f} min; wanted are {TARGET_MIN}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="?", type=int, default=TRIALS)
    parser.add_argument("networks", nargs="?", type=int, default=NETWORKS)
    parser.add_argument("max_trees", nargs="?", type=int, default=1000)
    parser.add_argument("folds", nargs="?", type=int, default=3)
    main(**vars(parser.parse_args()))
