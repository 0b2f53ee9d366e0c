"""Evaluation: the tables that compare all tuned predictors, on their own collection and on the others.

`scores.csv`: one row a predictor and feature set of a collection; each score on the held-out half with its bootstrap
interval (the same resamples for all rows of a collection; whole groups are drawn where networks come in groups), tau's
ceiling, the p-value of a permutation test (is R2 better than chance?), and beside it what the same predictor reaches
with the hyperparameters alone (`hyper_*`) and how much is gained over the published recipe RECIPE (`*_gain`). A gain's
interval is that of a paired bootstrap: both predictors on the same resampled networks, so it is much narrower than the
two scores' own intervals would suggest; one that excludes 0 distinguishes two predictors. Gains are empty where the
recipe is not among the searches.
`by_activation.csv`: the same columns and `activation`, over the held-out networks with that activation alone. The
models are the same: fitted to all networks of the training half.
`transfer.csv`: the same models on the held-out halves of all collections, as in figure 4 of the paper, networks of
another architecture included; where a collection lacks a model's features (other layers), there is no row.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cnnzoo import config, predictors
from cnnzoo.core import seeds
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import (
    BASELINE,
    BY_ACTIVATION,
    METRICS,
    MODEL,
    PREDICTIONS,
    RECIPE,
    SCORES,
    TARGET,
    TRANSFER,
    damaged,
    read_metrics,
    read_predictions,
)
from cnnzoo.features import feature_columns, parse
from cnnzoo.predictors import scores
from cnnzoo.search import read_sample
from cnnzoo.zoo import Collection

GAINS = ("r2", "kendall_tau")
ACTIVATION = "config.activation"
TRANSFERRED = ("r2", "kendall_tau", "kendall_tau_ceiling")

Floats = NDArray[np.float64]
Row = dict[str, Any]
Scored = tuple[Row, scores.Draws]
"""The scores of a search, and those of the resampled networks."""


def evaluate(artifacts: Artifacts, params: config.Params) -> None:
    """Write `scores.csv`, `by_activation.csv` and `transfer.csv`, whole or not at all.

    Raises `CnnzooError` that names what is missing if a search has not been run.
    """
    zoos = {collection: Collection.open(artifacts.zoo(collection)) for collection in params.collections}
    searches = list(_searches(artifacts, params, zoos))
    table = _score_table(params, searches)
    apart = _score_table(
        params, [part for search in searches for part in _by_activation(zoos[search.collection], search)]
    )
    transfer = pd.DataFrame(_transfer(artifacts, params, zoos, searches))
    with atomic_folder(artifacts.evaluation) as folder:
        for name, content in ((SCORES, table), (BY_ACTIVATION, apart), (TRANSFER, transfer)):
            content.to_csv(folder / name, index=False, lineterminator="\n")


@dataclass(frozen=True)
class _Search:
    """What a search found: the predictions of held-out networks."""

    collection: str
    predictor: str
    features: str
    networks_train: int
    predictions: pd.DataFrame
    """row, network, test_accuracy, predicted, group; of all held-out networks or of those with one activation."""
    activation: str | None = None

    @property
    def target(self) -> Floats:
        """True accuracies (n,)."""
        return self.predictions[TARGET].to_numpy(dtype=np.float64)

    @property
    def predicted(self) -> Floats:
        """Predicted accuracies (n,)."""
        return self.predictions["predicted"].to_numpy(dtype=np.float64)

    @property
    def sample(self) -> tuple[str, ...]:
        """Which networks these are: searches of the same sample are compared."""
        return (self.collection,) if self.activation is None else (self.collection, self.activation)


def _searches(artifacts: Artifacts, params: config.Params, zoos: Mapping[str, Collection]) -> Iterator[_Search]:
    """Yield every search of `params`; raises `CnnzooError` if two of a collection have other held-out networks."""
    for collection in params.collections:
        networks: list[str] | None = None
        for predictor, features in params.searches:
            folder = artifacts.predictor(collection, predictor, features)
            found = read_predictions(artifacts, collection, predictor, features)
            networks = networks or found["network"].tolist()
            if found["network"].tolist() != networks:
                raise damaged(folder / PREDICTIONS, "other networks than in the collection's other searches", "search")
            rows = _checked_rows(zoos[collection], found, f"{collection}: {predictor} on {features}")
            count = read_metrics(folder / METRICS, ["networks_train"])["networks_train"]
            yield _Search(
                collection, predictor, features, int(count or 0), found.assign(group=zoos[collection].groups[rows])
            )


def _checked_rows(zoo: Collection, predictions: pd.DataFrame, search: str) -> NDArray[np.int64]:
    """Return the rows (n,) of the predicted networks; raises `CnnzooError` if the collection has others there."""
    names, rows = zoo.metrics["modeldir"].to_numpy(), predictions["row"].to_numpy()
    if not ((rows >= 0) & (rows < len(names))).all() or (names[rows] != predictions["network"]).any():
        raise CnnzooError(
            f"{search} was searched on another state of the collection; make it again with `dvc repro -f search`"
        )
    return np.asarray(rows, dtype=np.int64)


def _by_activation(zoo: Collection, search: _Search) -> Iterator[_Search]:
    """Yield, for each activation that occurs, the search restricted to the held-out networks that have it."""
    activations = zoo.metrics[ACTIVATION].to_numpy()[search.predictions["row"].to_numpy()]
    for activation in sorted(set(activations)):
        yield replace(search, predictions=search.predictions[activations == activation], activation=activation)


def _score_table(params: config.Params, searches: list[_Search]) -> pd.DataFrame:
    """Return one row a search: its scores with intervals, the baseline's scores, gains on the recipe, its p-value."""
    rows: list[Row] = []
    for sample in dict.fromkeys(search.sample for search in searches):
        members = [search for search in searches if search.sample == sample]
        scored = {(search.predictor, search.features): _score(params, search) for search in members}
        for search in members:
            row, draws = scored[search.predictor, search.features]
            baseline, recipe = scored.get((search.predictor, BASELINE)), scored.get(RECIPE)
            row = row | _baseline(baseline) | _gains(params, (row, draws), recipe)
            rows.append(row | {"p_value": _p_value(params, search)})
    return pd.DataFrame(rows)


def _gains(params: config.Params, own: Scored, recipe: Scored | None) -> Row:
    """Return how much is gained over the recipe on the same networks, with the paired interval; NaN without it."""
    gains: Row = {}
    for name in GAINS:
        value, ends = np.nan, (np.nan, np.nan)
        if recipe is not None:
            value = own[0][name] - recipe[0][name]
            ends = scores.interval(own[1][name] - recipe[1][name], params.evaluate.confidence)
        gains |= {f"{name}_gain": value, f"{name}_gain_low": ends[0], f"{name}_gain_high": ends[1]}
    return gains


def _p_value(params: config.Params, search: _Search) -> float:
    rng = seeds.generator(params.seed, "evaluate.permutations", *search.sample)
    return scores.permutation_p_value(search.target, search.predicted, params.evaluate.bootstrap, rng)


def _score(params: config.Params, search: _Search) -> Scored:
    """Return the scores with their intervals, from the same resampled networks for every search of a sample."""
    rng = seeds.generator(params.seed, "evaluate.bootstrap", *search.sample)
    groups = search.predictions["group"].to_numpy()
    draws = scores.bootstrap(search.target, search.predicted, params.evaluate.bootstrap, rng, groups)
    values = scores.score(search.target, search.predicted)
    row: Row = {"collection": search.collection, "predictor": search.predictor, "features": search.features}
    if search.activation is not None:
        row["activation"] = search.activation
    row |= {"networks_train": search.networks_train, "networks_test": len(search.target)}
    for name in scores.SCORES:
        low, high = scores.interval(draws[name], params.evaluate.confidence)
        row |= {name: values[name], f"{name}_low": low, f"{name}_high": high}
    return row | {"kendall_tau_ceiling": values["kendall_tau_ceiling"]}, draws


def _baseline(baseline: Scored | None) -> Row:
    """Return what the same predictor reaches with the hyperparameters; NaN where that is not among the searches."""
    return {f"{BASELINE}_{name}": baseline[0][name] if baseline else np.nan for name in GAINS}


def _transfer(
    artifacts: Artifacts, params: config.Params, zoos: Mapping[str, Collection], searches: list[_Search]
) -> Iterator[Row]:
    """Score every model on the held-out half of every collection; its own from the stored predictions."""
    with threadpool_limits(1):
        for search in searches:
            home = search.collection
            model = predictors.load(artifacts.predictor(home, search.predictor, search.features) / MODEL)
            for other, zoo in zoos.items():
                if other == home:
                    target, predicted = search.target, search.predicted
                elif _has_features(zoo, search.features, model):
                    sample = read_sample(artifacts, zoo, other, search.features, "test")
                    target, predicted = sample.target, model.predict(sample.features)
                else:
                    continue
                values = scores.score(target, predicted)
                row: Row = {"trained_on": home, "predictor": search.predictor, "features": search.features}
                row |= {"tested_on": other, "same_architecture": zoo.layout == zoos[home].layout}
                yield row | {"networks_test": len(target)} | {name: values[name] for name in TRANSFERRED}


def _has_features(zoo: Collection, features: str, model: predictors.Predictor) -> bool:
    """Return whether a collection has the features that a model was fitted on."""
    try:
        columns = [column for part in parse(features) for column in feature_columns(part, zoo)]
    except CnnzooError:
        return False
    return columns == list(model.feature_names_in_)
