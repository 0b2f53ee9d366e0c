"""The MLflow UI on the project's record, for this machine only.

Light: importing this module does not import mlflow.
"""

import os
import socket
import subprocess
import sys
from urllib.parse import quote

from cnnzoo.artifacts import Artifacts
from cnnzoo.errors import CnnzooError
from cnnzoo.tracking.location import ENVIRONMENT, database, prepare_environment, tracking_uri
from cnnzoo.tracking.notes import PREDICTORS, ZOO

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
SORTED_BY = {ZOO: "test_accuracy", PREDICTORS: "r2"}


def serve_ui(artifacts: Artifacts, port: int = DEFAULT_PORT) -> None:
    """Serve the UI until interrupted, and print where each experiment's runs are.

    Raises `CnnzooError` if there is nothing to show, the port is taken, or the server fails.
    """
    links = experiment_links(artifacts, port)
    if not links:
        raise CnnzooError(f"{tracking_uri(artifacts)}: no experiments yet; run `dvc repro` first")
    print(*(f"{name}: {link}" for name, link in links.items()), sep="\n", flush=True)
    if database(tracking_uri(artifacts)) is None:
        return  # a server elsewhere shows it
    _check_port(port)
    try:
        code = subprocess.run(_command(artifacts, port), env=_environment(), check=False).returncode
    except KeyboardInterrupt:
        return
    if code != 0:
        raise CnnzooError(f"the MLflow server ended with code {code}; its messages stand above")


def experiment_links(artifacts: Artifacts, port: int = DEFAULT_PORT) -> dict[str, str]:
    """Return the address of each experiment's table of runs, by the experiment's name."""
    file = database(tracking_uri(artifacts))
    if file is not None and not file.exists():
        return {}
    prepare_environment()
    from cnnzoo.tracking.client import connect  # noqa: PLC0415 - mlflow takes seconds to import

    base = f"http://{HOST}:{port}" if file is not None else tracking_uri(artifacts).rstrip("/")
    experiments = connect(artifacts).search_experiments(order_by=["name ASC"])
    return {
        experiment.name: f"{base}/#/experiments/{experiment.experiment_id}/runs?{_view(experiment.name)}"
        for experiment in experiments
        if experiment.name.startswith((ZOO, PREDICTORS))
    }


def _view(name: str) -> str:
    metric = next(metric for prefix, metric in SORTED_BY.items() if name.startswith(prefix))
    return f"orderByKey={quote(f'metrics.`{metric}`')}&orderByAsc=false"


def _command(artifacts: Artifacts, port: int) -> list[str]:
    location = (artifacts.mlruns / "artifacts").absolute().as_uri()
    store = ["--backend-store-uri", tracking_uri(artifacts), "--default-artifact-root", location]
    # One worker serves one person; four of them take twice the memory.
    return [sys.executable, "-m", "mlflow", "server", *store, "--host", HOST, "--port", str(port), "--workers", "1"]


def _environment() -> dict[str, str]:
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | ENVIRONMENT | os.environ


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CnnzooError(
                f"port {port} on {HOST} cannot be used ({error.strerror}); is a UI open already? "
                f"Choose another one: `cnnzoo ui --port {port + 1}`."
            ) from error
