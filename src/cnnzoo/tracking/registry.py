"""The model registry: a collection's best scorer as a model that `mlflow models serve` serves.

Light: importing this module does not import mlflow.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from cnnzoo.artifacts import Artifacts
from cnnzoo.errors import CnnzooError
from cnnzoo.scoring.networks import GivenNetwork
from cnnzoo.scoring.scorer import Scorer
from cnnzoo.tracking.location import prepare_environment, tracking_uri
from cnnzoo.tracking.notes import predictors_experiment
from cnnzoo.tracking.runs import FINISHED
from cnnzoo.tracking.served_networks import ACTIVATION, WEIGHTS
from cnnzoo.tracking.store import reason

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
        raise CnnzooError(
            f"MLflow at {tracking_uri(artifacts)}: the model could not be registered ({reason(error)})"
        ) from error


def _register(
    artifacts: Artifacts, collection: str, scorer: Scorer, example: GivenNetwork, tags: Mapping[str, object]
) -> str:
    prepare_environment()
    from mlflow import pyfunc  # noqa: PLC0415 - mlflow takes seconds to import
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415
    from mlflow.models import Model, ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, DataType, Schema  # noqa: PLC0415
    from mlflow.types.schema import Array  # noqa: PLC0415

    from cnnzoo.tracking.client import connect, ensure_experiment  # noqa: PLC0415

    given: list[tuple[str, Array | DataType]] = [(WEIGHTS, Array(DataType.double))]
    shown: dict[str, object] = {WEIGHTS: [example.row.astype(np.float64).tolist()]}
    if scorer.needs_activation:
        given.append((ACTIVATION, DataType.string))
        shown[ACTIVATION] = [example.activation]
    told = Schema([ColSpec(DataType.double, name) for name in ("predicted", "low", "high")])
    client = connect(artifacts)
    experiment = ensure_experiment(client, artifacts, predictors_experiment(collection))
    words = {key: f"{value:.4f}" if isinstance(value, float) else str(value) for key, value in tags.items()}
    run = client.create_run(experiment.experiment_id, tags={"kind": "registration", **words}, run_name="registration")
    model = client.create_logged_model(experiment.experiment_id, "scorer", run.info.run_id)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scorer.save(folder / "scorer")
        pyfunc.save_model(
            folder / "model",
            loader_module=LOADER,
            data_path=str(folder / "scorer"),
            mlflow_model=Model(run_id=run.info.run_id, model_id=model.model_id, model_uuid=model.model_id),
            signature=ModelSignature(Schema([ColSpec(kind, name) for name, kind in given]), told),
            input_example=pd.DataFrame(shown),
            pip_requirements=["cnnzoo"],
        )
        client.log_model_artifacts(model.model_id, str(folder / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.set_terminated(run.info.run_id, FINISHED)
    name = model_name(collection)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=_NOTE.format(collection=collection))
    version = client.create_model_version(
        name, f"models:/{model.model_id}", run.info.run_id, tags=words, model_id=model.model_id
    )
    client.set_registered_model_alias(name, ALIAS, version.version)
    return f"models:/{name}@{ALIAS}"


_NOTE = """Predicts the test accuracy of a small CNN from its weights, as learned from the collection {collection}.

Input: `weights`, the parameters in the published order (bias before kernel, kernels HWIO). Output: `predicted`, and the
interval from `low` to `high`."""
