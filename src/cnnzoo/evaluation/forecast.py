"""Forecasting: a network's final accuracy, predicted from its early checkpoints; and how early bad runs can be stopped.

At each checkpoint epoch a predictor is fitted to the training half's checkpoints of that epoch, with the final test
accuracy as target, and forecasts the test half. What it sees (`INPUTS`): the weights' statistics, the hyperparameters,
the accuracy so far, and these together; the accuracy so far, taken as it is, is the forecast to beat. The settings are
the predictor's usual ones: nothing is tuned, so the test half is as unseen as in a search.

`forecast.csv`: scores of each input at each epoch, with bootstrap intervals (the same resamples for all rows), and how
much is gained over the accuracy so far, fitted (`*_gain`, with the interval of a paired bootstrap).
`stopping.csv`: what happens if, at that epoch, a share `stopped` of the test half is stopped, those with the lowest
forecasts (among equal ones, which is decided by lot):
- kept_best: the share of the truly best tenth that goes on; kept_best_5: that of the best 5%. Networks that are as good
  as the last of these count as well;
- regret: the best final accuracy of all, minus the best of those that go on;
- saved: the share of all image passes that is not spent. A network that trains for E epochs on a fraction f of the
  images would spend f * E, and f * (E - epoch) is left of it when it is stopped.

Networks count at an epoch if they have a checkpoint there and a final one. An epoch that too few networks have is left
out, with a message.

Shape letters: K networks of one half.
"""

import math
import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FixedTrial
from threadpoolctl import threadpool_limits

from cnnzoo import config
from cnnzoo.core import seeds
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.cores import divide_cores
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import FORECAST, STOPPING, TARGET
from cnnzoo.core.workers import run_jobs
from cnnzoo.features import Hyper, hyperparameters, parse, read_features
from cnnzoo.predictors import scores
from cnnzoo.search import Task
from cnnzoo.zoo import Collection, Half

WEIGHTS, HYPER, ACCURACY = "weights", "hyper", "accuracy"
AS_IS, UNFITTED = "accuracy as it is", "none"
INPUTS = (WEIGHTS, HYPER, ACCURACY, f"{HYPER}+{ACCURACY}", f"{WEIGHTS}+{ACCURACY}", f"{WEIGHTS}+{HYPER}+{ACCURACY}")
SHOWN = ("r2", "kendall_tau", "mae")
GAINS = ("r2", "kendall_tau")
STOPPED = (0.25, 0.5, 0.75, 0.9)
"""Shares of the networks that are stopped."""
BEST = {"kept_best": 0.1, "kept_best_5": 0.05}
"""Shares of the networks that count as the best, by the columns with the share of them that go on."""
FEWEST: Mapping[Half, int] = {"train": 12, "test": 2}
"""Networks of each half without which nothing is fitted or scored at an epoch."""

Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """One half of a collection at one epoch: what is known then, and what comes of it."""

    rows: NDArray[np.int64]
    """Rows of the collection (K,)."""
    tables: Mapping[str, pd.DataFrame]
    """WEIGHTS, HYPER and ACCURACY as tables of K rows."""
    final: Floats
    """Final test accuracy (K,), a fraction."""

    def input(self, name: str) -> pd.DataFrame:
        """Return the table of an input, its parts side by side."""
        return pd.concat([self.tables[part] for part in name.split("+")], axis=1)

    @property
    def accuracy(self) -> Floats:
        """Test accuracy so far (K,)."""
        return self.tables[ACCURACY][TARGET].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class Forecast:
    """The forecasts of the test half from one input at one epoch."""

    input: str
    predictor: str
    """What was fitted; UNFITTED for the accuracy as it is."""
    values: Floats
    """(K,), fractions."""


def forecast(artifacts: Artifacts, params: config.Params, collection: str) -> None:
    """Write `forecast.csv` and `stopping.csv` to `artifacts.forecast(collection)`, whole or not at all.

    Raises `CnnzooError` if there are too few networks at every epoch, if the features are not there, or if a number
    among the inputs or accuracies is not finite.
    """
    zoo = Collection.open(artifacts.zoo(collection))
    epochs = [epoch for epoch in zoo.epochs if _are_enough(collection, epoch, rows_of_halves(zoo, epoch))]
    if not epochs:
        raise CnnzooError(
            f"{zoo.path}: at no epoch enough networks have a checkpoint and a final one, {FEWEST['train']} to train "
            f"and {FEWEST['test']} to test. Raise `networks` in params.yaml."
        )
    workers, threads = divide_cores(params.runtime.threads, len(epochs))
    jobs = [_Epoch(artifacts, params, collection, epoch, threads) for epoch in epochs]
    found = {job.epoch: tables for job, tables in run_jobs(jobs, nullcontext, workers)}
    with atomic_folder(artifacts.forecast(collection)) as folder:
        for index, name in enumerate((FORECAST, STOPPING)):
            table = pd.DataFrame([row for epoch in epochs for row in found[epoch][index]])
            table.to_csv(folder / name, index=False, lineterminator="\n")


@dataclass(frozen=True)
class _Epoch:
    """All forecasts from the checkpoints of one epoch, as a job for `run_jobs`."""

    artifacts: Artifacts
    params: config.Params
    collection: str
    epoch: int
    threads: int

    def __call__(self, _: object) -> tuple[list[Row], list[Row]]:
        """Return the epoch's rows of both tables, and print a line."""
        params, collection, epoch = self.params, self.collection, self.epoch
        zoo = Collection.open(self.artifacts.zoo(collection))
        rows = rows_of_halves(zoo, epoch)
        with threadpool_limits(1):
            train, test = (
                read_checkpoints(self.artifacts, params, zoo, collection, rows[half]) for half in ("train", "test")
            )
            found = _forecasts(params, collection, train, test, self.threads)
            scored = _scores(params, collection, test.final, zoo.groups[test.rows], found)
        place: Row = {"collection": collection, "epoch": epoch}
        sizes = {"networks_train": len(train.final), "networks_test": len(test.final)}
        print(_summary(collection, epoch, scored, len(test.final)), flush=True)
        return (
            [place | {"input": one.input, "predictor": one.predictor} | sizes | scored[one.input] for one in found],
            [place | row for one in found for row in _stops(params, collection, zoo, epoch, test, one)],
        )


def rows_of_halves(zoo: Collection, epoch: int) -> dict[Half, NDArray[np.int64]]:
    """Return the rows of both halves at an epoch, as `rows_at` does."""
    return {half: rows_at(zoo, epoch, half) for half in FEWEST}


def rows_at(zoo: Collection, epoch: int, half: Half) -> NDArray[np.int64]:
    """Return the rows, ascending, of the networks of one half at an epoch that also have a final checkpoint."""
    rows = zoo.at(epoch, half)
    return rows[np.isin(zoo.networks[rows], zoo.networks[zoo.final(half)])]


def _are_enough(collection: str, epoch: int, rows: Mapping[Half, NDArray[np.int64]]) -> bool:
    """Return whether an epoch has at least FEWEST networks; print a line if not."""
    enough = all(len(rows[half]) >= FEWEST[half] for half in FEWEST)
    if not enough:
        counts = " and ".join(f"{len(rows[half])} to {half}" for half in FEWEST)
        print(f"{collection}: epoch {epoch} is left out, it has {counts} on ({FEWEST['train']} and {FEWEST['test']})")
    return enough


def read_checkpoints(
    artifacts: Artifacts, params: config.Params, zoo: Collection, collection: str, rows: NDArray[np.int64]
) -> Checkpoints:
    """Return checkpoints, one a network, with the final accuracies of the same networks, in the order of `rows`.

    Raises `CnnzooError` if the features were not written, or if a number is not finite.
    """
    final_row = np.full(len(zoo.metrics), -1)
    final_row[zoo.networks[zoo.final()]] = zoo.final()  # by network
    metrics = zoo.metrics.iloc[rows].set_axis(pd.Index(rows))
    (hyper,) = (part for part in parse(HYPER) if isinstance(part, Hyper))
    tables = {
        WEIGHTS: read_features(zoo, artifacts.features(collection), params.forecast.features, rows),
        HYPER: hyperparameters(metrics, hyper).set_axis(pd.Index(rows)),
        ACCURACY: metrics[[TARGET]],
    }
    final = zoo.metrics[[TARGET]].iloc[final_row[zoo.networks[rows]]]
    for table in (*tables.values(), final):
        _check_finite(zoo, rows, table)
    return Checkpoints(rows, tables, final[TARGET].to_numpy(dtype=np.float64))


def _check_finite(zoo: Collection, rows: NDArray[np.int64], table: pd.DataFrame) -> None:
    numbers = table.select_dtypes("number")
    wrong = np.argwhere(~np.isfinite(numbers.to_numpy(dtype=np.float64)))
    if len(wrong):
        row, column = wrong[0]
        network, value = zoo.metrics["modeldir"].iloc[rows[row]], numbers.to_numpy()[row, column]
        raise CnnzooError(
            f"{zoo.path}: `{numbers.columns[column]}` of network {network} is {value}, forecasts need finite numbers. "
            f"`cnnzoo check {shlex.quote(str(zoo.path))}` lists all problems."
        )


def _forecasts(
    params: config.Params, collection: str, train: Checkpoints, test: Checkpoints, threads: int
) -> list[Forecast]:
    """Return the forecasts of the test half from the accuracy as it is, and from each of INPUTS by a fit."""
    found = [Forecast(AS_IS, UNFITTED, test.accuracy)]
    for name in INPUTS:
        task = Task(collection, params.forecast.predictor, f"forecast {name}", params.seed, params.search, threads)
        predictor = task.build(task.kind.suggest(FixedTrial(task.kind.start)))
        predictor.fit(train.input(name), train.final)
        found.append(Forecast(name, task.predictor, predictor.predict(test.input(name))))
    return found


def _scores(
    params: config.Params, collection: str, final: Floats, groups: NDArray[np.int64], forecasts: list[Forecast]
) -> dict[str, Row]:
    """Return the scores of each input with their intervals, and its gains over the fitted accuracy so far."""
    confidence = params.evaluate.confidence
    draws: dict[str, scores.Draws] = {}
    rows: dict[str, Row] = {}
    for one in forecasts:
        rng = seeds.generator(params.seed, "forecast.bootstrap", collection)
        draws[one.input] = scores.bootstrap(final, one.values, params.evaluate.bootstrap, rng, groups)
        values = scores.score(final, one.values)
        row = rows[one.input] = {"kendall_tau_ceiling": values["kendall_tau_ceiling"]}
        for name in SHOWN:
            low, high = scores.interval(draws[one.input][name], confidence)
            row |= {name: values[name], f"{name}_low": low, f"{name}_high": high}
    for key, row in rows.items():
        for name in GAINS:
            low, high = scores.interval(draws[key][name] - draws[ACCURACY][name], confidence)
            row |= {f"{name}_gain": row[name] - rows[ACCURACY][name]}
            row |= {f"{name}_gain_low": low, f"{name}_gain_high": high}
    return rows


def _stops(
    params: config.Params, collection: str, zoo: Collection, epoch: int, test: Checkpoints, found: Forecast
) -> list[Row]:
    """Return what each share of STOPPED leads to."""
    metrics = zoo.metrics.iloc[test.rows]
    fraction, epochs = (metrics[f"config.{name}"].to_numpy(dtype=np.float64) for name in ("train_fraction", "epochs"))
    lots = seeds.generator(params.seed, "forecast.lots", collection).permutation(len(test.final))
    order = lots[np.argsort(found.values[lots], kind="stable")]
    passes, left = fraction * epochs, fraction * (epochs - epoch)
    return [
        {"input": found.input, "stopped": share} | stop(test.final, order, share, passes, left) for share in STOPPED
    ]


def stop(final: Floats, order: NDArray[np.int64], share: float, passes: Floats, left: Floats) -> dict[str, float]:
    """Return `kept_best`, `kept_best_5`, `regret` and `saved` if a share of the networks is stopped.

    `order` (K,) holds the networks from the lowest to the highest forecast: the first floor(share * K) are stopped. All
    others are (K,) too: `final` accuracies, image passes of a whole run, and those `left` of it.
    """
    count = int(share * len(final) + 1e-9)  # 0.9 * 30 is below 27 in floating point
    ended, going = order[:count], order[count:]
    row = {}
    for name, best in BEST.items():
        least = np.sort(final)[-math.ceil(best * len(final) - 1e-9)]
        row[name] = float(np.isin(np.flatnonzero(final >= least), going).mean())
    return row | {"regret": float(final.max() - final[going].max()), "saved": float(left[ended].sum() / passes.sum())}


def _summary(collection: str, epoch: int, rows: Mapping[str, Row], networks: int) -> str:
    scores = {name: rows[name]["r2"] for name in (WEIGHTS, ACCURACY, HYPER)}
    shown = ", ".join(f"{name} {'undefined' if math.isnan(r2) else f'{r2:.3f}'}" for name, r2 in scores.items())
    return f"{collection}: epoch {epoch}: R2 of the final accuracy from {shown}, on {networks} held-out networks"
