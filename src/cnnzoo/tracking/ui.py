"""The MLflow UI on the project's record, for this machine only.

Light: importing this module does not import mlflow.
"""

import os
import socket
import sys

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.tracking.location import ENVIRONMENT, artifact_folder, database, is_server, tracking_uri, without_password
from cnnzoo.tracking.notes import PREDICTORS, VIEW, ZOO
from cnnzoo.tracking.reach import reach
from cnnzoo.tracking.search_sync import end_killed_searches

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
VIEW_QUERY = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
"""Opens the runs table, not the page about language models, with the columns of the experiment's saved view."""


def serve_ui(artifacts: Artifacts, port: int = DEFAULT_PORT) -> None:
    """Print where each experiment's runs are and become the server that shows them; does not return.

    Before, searches that were killed are marked so. Returns if MLFLOW_TRACKING_URI names a server that runs elsewhere.
    Raises `CnnzooError` if the store cannot be reached, there is nothing to show, or the port is taken.
    """
    links = experiment_links(artifacts, port)
    if not links:
        raise CnnzooError(f"{without_password(tracking_uri(artifacts))}: no experiments yet; run `dvc repro` first")
    end_killed_searches(artifacts)
    print(*(f"{name}: {link}" for name, link in links.items()), sep="\n", flush=True)
    if is_server(tracking_uri(artifacts)):
        return  # a server elsewhere shows it
    _check_port(port)
    command = _command(artifacts, port)
    os.execve(command[0], command, _environment(artifacts))  # the server itself gets Ctrl-C and kill


def experiment_links(artifacts: Artifacts, port: int = DEFAULT_PORT) -> dict[str, str]:
    """Return the address of each experiment's table of runs, by the experiment's name."""
    uri = tracking_uri(artifacts)
    file = database(uri)
    if file is not None and not file.exists():
        return {}
    base = without_password(uri).rstrip("/") if is_server(uri) else f"http://{HOST}:{port}"
    experiments = reach(artifacts).search_experiments(order_by=["name ASC"])
    return {
        experiment.name: f"{base}/#/experiments/{experiment.experiment_id}/runs?{VIEW_QUERY}"
        for experiment in experiments
        if experiment.name.startswith((ZOO, PREDICTORS))
    }


def _command(artifacts: Artifacts, port: int) -> list[str]:
    location = artifact_folder(artifacts).as_uri()
    # One worker serves one person; four of them take twice the memory.
    place = ["--host", HOST, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", "--default-artifact-root", location, *place]


def _environment(artifacts: Artifacts) -> dict[str, str]:
    """Return the server's environment: it names the store, as a command line with its password is seen by others."""
    store = {"MLFLOW_BACKEND_STORE_URI": tracking_uri(artifacts)}
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | ENVIRONMENT | os.environ | store


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
