"""The experiments as a person finds them in the MLflow UI: name, note, and the columns of the runs table.

Light: does not import mlflow.
"""

from dataclasses import dataclass

ZOO = "zoo/"
PREDICTORS = "predictors/"


@dataclass(frozen=True)
class ExperimentCard:
    """An experiment's name and its tags, by MLflow's key."""

    name: str
    tags: dict[str, str]


def zoo_experiment(collection: str) -> ExperimentCard:
    """Return the experiment that holds one run per network of a collection."""
    return ExperimentCard(f"{ZOO}{collection}", _tags(_ZOO_NOTE.format(collection=collection)))


def predictors_experiment(collection: str) -> ExperimentCard:
    """Return the experiment that holds the predictor searches on a collection."""
    return ExperimentCard(f"{PREDICTORS}{collection}", _tags(_PREDICTORS_NOTE.format(collection=collection)))


def _tags(note: str) -> dict[str, str]:
    # The kind makes the UI open the runs table and not its page for language models.
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"}


_ZOO_NOTE = """\
**Every run is one small CNN of the collection `{collection}`.** Params: its hyperparameters. Metrics: accuracy and loss on the test
images and on its training images; the step is the checkpoint's epoch. Networks that diverged are *Failed* and have the tag
`diverged_epoch`.

| to see | type into the search box |
|---|---|
| the good ones | `metrics.test_accuracy > 0.95` |
| one kind | `params.optimizer = "adam" and params.activation = "relu"` |
| one network | `tags.network = "{collection}/000017"` |
| the diverged | `attributes.status = "FAILED"` |

Sort by clicking a metric's column (params are text and sort as text). The tag `rows` says where the network lies:
`a-b` is `weights[a:b]` of `data/zoo/{collection}/weights.npy`. For analysis read `data/zoo/{collection}/metrics.csv.gz`: the same
numbers, much faster. This record is rebuilt from the shards whenever it is lost.
"""

_PREDICTORS_NOTE = """\
**Every run is one search for a predictor of accuracy from weights, on the collection `{collection}`;** its Optuna trials are nested
below it. Metrics: scores on the held-out half of the networks (R2, MSE, MAE, Kendall's tau-b). Artifacts: plots and the tuned model.

| to see | type into the search box |
|---|---|
| searches without their trials | `tags.kind = "search"` |
| one predictor | `params.predictor = "catboost"` |
| one input | `params.features = "hyper"` |

A search that is run again with the same parameters replaces the former run; with other parameters both stay, to be compared.
"""
