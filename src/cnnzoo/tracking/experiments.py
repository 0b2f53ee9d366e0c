"""The experiments of a project in MLflow, by name.

Light: importing this module does not import mlflow.
"""

from collections.abc import Collection

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import database, tracking_uri
from cnnzoo.tracking.reach import reach


def experiment_names(artifacts: Artifacts) -> list[str]:
    """Return the names of all experiments that are not deleted; none if there is no store yet.

    Raises `CnnzooError` if the store cannot be reached.
    """
    file = database(tracking_uri(artifacts))
    if file is not None and not file.exists():
        return []
    return [experiment.name for experiment in reach(artifacts).search_experiments()]


def delete_experiments(artifacts: Artifacts, names: Collection[str]) -> None:
    """Mark experiments as deleted; MLflow keeps them, hidden, until `mlflow gc`."""
    if names:
        client = reach(artifacts)
        for experiment in client.search_experiments():
            if experiment.name in names:
                client.delete_experiment(experiment.experiment_id)
