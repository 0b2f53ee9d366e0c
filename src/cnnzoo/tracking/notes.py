"""The experiments as a person finds them in the MLflow UI: name, note, and a saved view of the runs table.

Light: does not import mlflow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnzoo.zoo.shards import METRICS

ZOO = "zoo/"
PREDICTORS = "predictors/"
VIEW = "cnnzoo"
"""Key of the saved view; it stands in the link to the table."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
FIXED_WIDTHS = {"attributes.`Run Name`": 130, "runDateAndNestInfo": 120}
"""Pixels of the columns that the table of MLflow 3 always shows first, by its name for them."""
NETWORK_WIDTHS = {
    "test_accuracy": 105,
    "learning_rate": 100,
    "init_std": 85,
    "optimizer": 85,
    "activation": 85,
    "w_init": 105,
    "dropout": 85,
    "l2reg": 85,
    "train_fraction": 110,
}
"""Pixels of an accuracy and of the hyperparameters beside it, in the order of their columns.

Accuracy and five of them fit a window of 1,200 pixels with the menu open, all of them one of 1,440.
"""


@dataclass(frozen=True)
class ExperimentCard:
    """An experiment's name and its tags, by MLflow's key."""

    name: str
    tags: dict[str, str]


def zoo_experiment(collection: str) -> ExperimentCard:
    """Return the experiment that holds one run per network of a collection."""
    widths = {
        _column("metrics" if name in METRICS else "params", name): NETWORK_WIDTHS[name] for name in NETWORK_WIDTHS
    }
    others = [_column("metrics", name) for name in METRICS if name not in NETWORK_WIDTHS]
    columns = [*widths, *others, _column("tags", "rows")]
    view = _view("Networks", columns, "test_accuracy", "", FIXED_WIDTHS | widths)
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
        VIEW_TAG: view,
    }


def _view(name: str, columns: Sequence[str], order: str, search: str, widths: Mapping[str, int] | None = None) -> str:
    """Return a saved view as the UI of MLflow 3 keeps it: sorted by a metric, best first.

    Without one the table shows empty standard columns, and no metric without scrolling. Without `widths`, in pixels,
    all metrics come before all parameters, each column 100 pixels wide.
    """
    order_by = {"orderByKey": _column("metrics", order), "orderByAsc": False}
    layout = {"columnOrder": [*dict.fromkeys([*widths, *columns])], "columnWidths": widths} if widths else {}
    state = json.dumps({"selectedColumns": list(columns), "searchFilter": search} | order_by | layout)
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
