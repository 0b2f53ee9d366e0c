"""The experiments as a person finds them in the MLflow UI: name, note, and a saved view of the runs table.

Light: does not import mlflow.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cnnzoo.network.hyperparameters import SAMPLED
from cnnzoo.zoo.shards import METRICS

ZOO = "zoo/"
PREDICTORS = "predictors/"
VIEW = "cnnzoo"
"""Key of the saved view; it stands in the link to the table."""


@dataclass(frozen=True)
class ExperimentCard:
    """An experiment's name and its tags, by MLflow's key."""

    name: str
    tags: dict[str, str]


def zoo_experiment(collection: str) -> ExperimentCard:
    """Return the experiment that holds one run per network of a collection."""
    columns = [_column("metrics", name) for name in METRICS] + [_column("params", name) for name in SAMPLED]
    view = _view("Networks", [*columns, _column("tags", "rows")], "test_accuracy", "")
    return ExperimentCard(f"{ZOO}{collection}", _tags(_ZOO_NOTE.format(collection=collection), view))


def predictors_experiment(collection: str) -> ExperimentCard:
    """Return the experiment that holds the predictor searches on a collection."""
    scores = [_column("metrics", name) for name in ("r2", "kendall_tau", "mae", "mse")]
    identity = [_column("params", name) for name in ("predictor", "features")]
    view = _view("Searches", [*scores, *identity], "r2", "tags.kind = 'search'")
    return ExperimentCard(f"{PREDICTORS}{collection}", _tags(_PREDICTORS_NOTE.format(collection=collection), view))


def _tags(note: str, view: str) -> dict[str, str]:
    return {
        "mlflow.note.content": note,
        "mlflow.experimentKind": "custom_model_development",  # not one about language models
        f"mlflow.sharedViewState.{VIEW}": view,
    }


def _view(name: str, columns: Sequence[str], order: str, search: str) -> str:
    """Return a saved view as the UI of MLflow 3 keeps it: sorted by a metric, best first.

    Without one the table shows empty standard columns, and no metric without scrolling.
    """
    order_by = {"orderByKey": _column("metrics", order), "orderByAsc": False}
    state = json.dumps({"selectedColumns": list(columns), "searchFilter": search} | order_by)
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": state})


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


_ZOO_NOTE = """\
**Every run is one small CNN of the collection `{collection}`.** Params: its hyperparameters, `minibatch` included.
Metrics: accuracy and loss on the test images and on its training images; the step is the checkpoint's epoch. Tags say
what else shaped its training: `images` (a digest of the data set), `engine` and the engine's `numerics` version,
`git_commit`. Networks that diverged are *Failed* and have the tag `diverged_epoch`. The view *Networks* (top right)
shows it all in one table.

| to see | type into the search box |
|---|---|
| the good ones | `metrics.test_accuracy > 0.95` |
| one kind | `params.optimizer = "adam" and params.activation = "relu"` |
| one network | `tags.network = "{collection}/000017"` |
| the diverged | `attributes.status = "FAILED"` |

Sort by clicking a metric's column (params are text and sort as text). The tag `rows` says where the network lies:
`a-b` is `weights[a:b]` of `data/zoo/{collection}/weights.npy`. For analysis read `metrics.csv.gz` beside it: the same
numbers, much faster. This record is rebuilt from the shards whenever it is lost.
"""

_PREDICTORS_NOTE = """\
**Every run is one search for a predictor of accuracy from weights, on the collection `{collection}`;** its Optuna
trials are nested below it. Metrics: scores on the held-out half of the networks (R2, MSE, MAE, Kendall's tau-b).
Artifacts: plots and the tuned model. The view *Searches* (top right) shows the scores without the trials.

| to see | type into the search box |
|---|---|
| searches without their trials | `tags.kind = "search"` |
| one predictor | `params.predictor = "catboost"` |
| one input | `params.features = "hyper"` |

A search that is run again with the same parameters replaces the former run; with other parameters both stay, to be
compared.
"""
