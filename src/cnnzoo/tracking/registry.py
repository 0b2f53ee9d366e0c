"""The model registry: a collection's best scorer as a model that `mlflow models serve` serves.

Light: importing this module does not import mlflow.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.scoring.networks import GivenNetwork
from cnnzoo.scoring.scorer import Scorer
from cnnzoo.tracking.location import prepare_environment, tracking_uri
from cnnzoo.tracking.notes import predictors_experiment
from cnnzoo.tracking.reach import unreachable
from cnnzoo.tracking.runs import FAILED, FINISHED
from cnnzoo.tracking.served_networks import ACTIVATION, WEIGHTS

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.tracking import MlflowClient

LOADER = "cnnzoo.tracking.served_networks"
ALIAS = "champion"


def model_name(collection: str) -> str:
    """Return the name under which a collection's scorer is registered."""
    return f"cnnzoo-{collection}"


def register_scorer(
    artifacts: Artifacts, collection: str, scorer: Scorer, example: GivenNetwork, tags: Mapping[str, object]
) -> str:
    """Register a scorer as the next version of the collection's model, give it the alias `champion`; returns the URI.

    `example` becomes the model's input example; its activation must be known if the scorer needs it. Raises
    `CnnzooError` if the store cannot be reached.
    """
    try:
        return _register(artifacts, collection, scorer, example, tags)
    except CnnzooError:
        raise
    except Exception as error:  # whatever MLflow, a driver or the network raise
        raise unreachable(tracking_uri(artifacts), error) from error


def _register(
    artifacts: Artifacts, collection: str, scorer: Scorer, example: GivenNetwork, tags: Mapping[str, object]
) -> str:
    prepare_environment()
    from cnnzoo.tracking.client import connect, ensure_experiment

    client = connect(artifacts)
    experiment = ensure_experiment(client, artifacts, predictors_experiment(collection))
    words = {key: f"{value:.4f}" if isinstance(value, float) else str(value) for key, value in tags.items()}
    # A version without a run would be looked for in MLflow's global store.
    run = client.create_run(experiment.experiment_id, tags={"kind": "registration", **words}, run_name="registration")
    try:
        model = _log(client, run, scorer, example)
        version = _publish(client, run, model, collection, words)
    except BaseException:
        client.set_terminated(run.info.run_id, FAILED)
        raise
    client.set_terminated(run.info.run_id, FINISHED)
    client.set_registered_model_alias(model_name(collection), ALIAS, version)
    return f"models:/{model_name(collection)}@{ALIAS}"


def _log(client: "MlflowClient", run: "Run", scorer: Scorer, example: GivenNetwork) -> "LoggedModel":
    """Keep the model with the run."""
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(run.info.experiment_id, "scorer", run.info.run_id)
    with TemporaryDirectory() as temporary:
        _save(scorer, example, model, Path(temporary))
        client.log_model_artifacts(model.model_id, str(Path(temporary) / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _publish(client: "MlflowClient", run: "Run", model: "LoggedModel", collection: str, tags: Mapping[str, str]) -> str:
    """Make it the next version of the registered model; returns its number."""
    name = model_name(collection)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=_NOTE.format(collection=collection))
    version = client.create_model_version(
        name, model.artifact_location, run.info.run_id, tags=dict(tags), model_id=model.model_id
    )
    return str(version.version)


def _save(scorer: Scorer, example: GivenNetwork, model: "LoggedModel", folder: Path) -> None:
    """Write the model to `folder/model`, as MLflow keeps it, without pickle."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    given: list[ColSpec | TensorSpec] = [ColSpec(Array(DataType.double), WEIGHTS)]
    shown: dict[str, object] = {WEIGHTS: [example.row.astype(np.float64).tolist()]}
    if scorer.needs_activation:
        given.append(ColSpec(DataType.string, ACTIVATION))
        shown[ACTIVATION] = [example.activation]
    answered: list[ColSpec | TensorSpec] = [ColSpec(DataType.double, name) for name in ("predicted", "low", "high")]
    scorer.save(folder / "scorer")
    pyfunc.save_model(
        folder / "model",
        loader_module=LOADER,
        data_path=str(folder / "scorer"),
        mlflow_model=Model(run_id=model.source_run_id, model_id=model.model_id, model_uuid=model.model_id),
        signature=ModelSignature(Schema(given), Schema(answered)),
        input_example=pd.DataFrame(shown),
        pip_requirements=["cnnzoo"],  # inferring them takes seconds and finds the same
    )


_NOTE = """Predicts the test accuracy of a small CNN from its weights, as learned from the collection {collection}.

Input: `weights`, the parameters in the published order (bias before kernel, kernels HWIO). Output: `predicted`, and the
interval from `low` to `high`."""
