"""Forecasting: a network's final accuracy, predicted from its early checkpoints; and how early bad runs can be stopped.

At each checkpoint epoch a predictor is fitted to the training half's checkpoints of that epoch, with the final test
accuracy as target, and forecasts the test half. What it sees (`INPUTS`): the weights' statistics, the hyperparameters,
the accuracy so far, and these together; the accuracy so far, taken as it is, is the forecast to beat. The settings are
the predictor's usual ones: nothing is tuned, so the test half is as unseen as in a search.

`forecast.csv`: scores of each input at each epoch, with bootstrap intervals (the same resamples for all rows).
`stopping.csv`: what happens if, at that epoch, a share of the test half is stopped, those with the lowest forecasts:
- kept_best: the share of the truly best tenth that goes on;
- regret: the best final accuracy of all, minus that of those that go on;
- saved: the share of all image passes that is not spent, as a pass costs the same in every network.

Shape letters: K networks of one half.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FixedTrial
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cnnzoo import config, scores, seeds
from cnnzoo.artifacts import Artifacts
from cnnzoo.atomic import atomic_folder
from cnnzoo.collection import Collection, Half
from cnnzoo.cores import usable_cores
from cnnzoo.errors import CnnzooError
from cnnzoo.features import describe, read_features
from cnnzoo.tuning import TARGET, Task

FORECAST_TABLE, STOPPING_TABLE = "forecast.csv", "stopping.csv"
WEIGHTS, HYPER, ACCURACY = "weights", "hyper", "accuracy"
AS_IS = "accuracy as it is"
INPUTS = (WEIGHTS, HYPER, ACCURACY, f"{HYPER}+{ACCURACY}", f"{WEIGHTS}+{ACCURACY}", f"{WEIGHTS}+{HYPER}+{ACCURACY}")
SHOWN = ("r2", "kendall_tau", "mae")
STOPPED = (0.25, 0.5, 0.75, 0.9)
"""Shares of the networks that are stopped."""
BEST = 0.1
"""Share of the networks that counts as the best."""

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


def forecast(artifacts: Artifacts, params: config.Params, collection: str) -> None:
    """Write `forecast.csv` and `stopping.csv` to `artifacts.forecast(collection)`, whole or not at all.

    Raises `CnnzooError` if a half has fewer than two networks, or if the features are not there.
    """
    zoo = Collection.open(artifacts.zoo(collection))
    scored: list[Row] = []
    stopped: list[Row] = []
    with threadpool_limits(1):
        for epoch in zoo.epochs:
            halves = {half: read_checkpoints(artifacts, params, zoo, collection, epoch, half) for half in _HALVES}
            for name, predictor, forecasts in _forecasts(params, collection, halves["train"], halves["test"]):
                row: Row = {"collection": collection, "epoch": epoch, "input": name, "predictor": predictor}
                row |= {f"networks_{half}": len(halves[half].final) for half in _HALVES}
                scored.append(row | _scores(params, collection, halves["test"].final, forecasts))
                stopped += [
                    {"collection": collection, "epoch": epoch, "input": name, "stopped": share}
                    | stop(halves["test"].final, forecasts, share, _work(zoo, halves["test"].rows), epoch)
                    for share in STOPPED
                ]
    with atomic_folder(artifacts.forecast(collection)) as folder:
        pd.DataFrame(scored).to_csv(folder / FORECAST_TABLE, index=False, lineterminator="\n")
        pd.DataFrame(stopped).to_csv(folder / STOPPING_TABLE, index=False, lineterminator="\n")


_HALVES: tuple[Half, Half] = ("train", "test")


def read_checkpoints(
    artifacts: Artifacts, params: config.Params, zoo: Collection, collection: str, epoch: int, half: Half
) -> Checkpoints:
    """Return the networks of one half that have a checkpoint at an epoch, with their final accuracies."""
    rows = zoo.at(epoch, half)
    if len(rows) < 2:
        raise CnnzooError(
            f"{zoo.path}: {len(rows)} network(s) of the {half} half at epoch {epoch}, forecasts need at least 2. "
            "Raise `networks` in params.yaml."
        )
    final = zoo.final()
    final_of_network = np.full(zoo.networks.max() + 1, np.nan)
    final_of_network[zoo.networks[final]] = zoo.metrics[TARGET].to_numpy(dtype=np.float64)[final]
    metrics = zoo.metrics.iloc[rows].set_axis(pd.Index(rows))
    tables = {
        WEIGHTS: read_features(zoo, artifacts.features(collection), params.forecast.features, rows),
        HYPER: describe(HYPER, zoo.weights[rows], zoo.layout, metrics),
        ACCURACY: metrics[[TARGET]],
    }
    return Checkpoints(rows, tables, final_of_network[zoo.networks[rows]])


def _forecasts(
    params: config.Params, collection: str, train: Checkpoints, test: Checkpoints
) -> Iterator[tuple[str, str, Floats]]:
    """Yield input, predictor and forecasts (K,) of the test half."""
    yield AS_IS, "none", test.accuracy
    jobs = params.runtime.threads or usable_cores()
    for name in INPUTS:
        task = Task(collection, params.forecast.predictor, f"forecast {name}", params.seed, params.search, jobs)
        predictor = task.build(task.kind.suggest(FixedTrial(task.kind.start)))
        predictor.fit(train.input(name), train.final)
        yield name, task.predictor, predictor.predict(test.input(name))


def _scores(params: config.Params, collection: str, final: Floats, forecasts: Floats) -> Row:
    values = scores.score(final, forecasts)
    rng = seeds.generator(params.seed, "forecast.bootstrap", collection)
    ranges = scores.intervals(final, forecasts, params.evaluate.bootstrap, params.evaluate.confidence, rng)
    row: Row = {"kendall_tau_ceiling": values["kendall_tau_ceiling"]}
    for name in SHOWN:
        row |= {name: values[name], f"{name}_low": ranges[name][0], f"{name}_high": ranges[name][1]}
    return row


def _work(zoo: Collection, rows: NDArray[np.int64]) -> Floats:
    """Return image passes of an epoch (K,), up to a common factor, and in the last column the epochs: (K, 2)."""
    return zoo.metrics.iloc[rows][["config.train_fraction", "config.epochs"]].to_numpy(dtype=np.float64)


def stop(final: Floats, forecasts: Floats, share: float, work: Floats, epoch: int) -> dict[str, float]:
    """Return `kept_best`, `regret` and `saved` if a share of the networks is stopped at an epoch.

    floor(share * K) networks with the lowest forecasts are stopped, of equal ones those that come first. `final` and
    `forecasts` are (K,); `work` is (K, 2): passes an epoch, and epochs.
    """
    count = int(share * len(final) + 1e-9)
    order = np.argsort(forecasts, kind="stable")
    ended, going = order[:count], order[count:]
    best = np.argsort(-final, kind="stable")[: max(1, round(BEST * len(final)))]
    passes, epochs = work[:, 0], work[:, 1]
    spared = passes[ended] * np.maximum(epochs[ended] - epoch, 0)
    return {
        "kept_best": float(np.isin(best, going).mean()),
        "regret": float(final.max() - final[going].max()) if len(going) else float("nan"),
        "saved": float(spared.sum() / (passes * epochs).sum()),
    }
