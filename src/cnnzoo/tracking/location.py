"""Where the record lies: the address of the MLflow store, its artifacts, and whether they can be written.

Light: does not import mlflow.
"""

import os
import re
import shlex
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError

OVERRIDE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
SERVERS = ("http:", "https:", "databricks")
PRIMARY_CODE = 0xFF
"""The bits of an SQLite error code that say what happened; those above say where (busy while the log is recovered)."""
COPIES = (".dvc", "tmp", "exps")
"""Where DVC copies a project to, to run an experiment."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # What cannot be delivered is spooled, so that no one waits for the many retries that MLflow makes by default.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def prepare_environment() -> None:
    """Set what mlflow reads when it is imported; to be called before. What the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def keeper(artifacts: Artifacts) -> Artifacts:
    """Return the project that keeps the record: for the temporary copy of a DVC experiment, the one it was copied from.

    `dvc exp run --temp` and `dvc queue start` run in <project>/.dvc/tmp/exps/, which is deleted afterwards.
    """
    for folder in artifacts.root.absolute().parents:
        if folder.parts[-3:] == COPIES:
            return Artifacts(folder.parents[2])
    return artifacts


def dvc_experiment() -> str | None:
    """Return the name of the DVC experiment that this process is part of, None outside."""
    return os.environ.get("DVC_EXP_NAME") or None


def tracking_uri(artifacts: Artifacts) -> str:
    """Return the address of the MLflow store: the project's own database unless MLFLOW_TRACKING_URI names another."""
    project = keeper(artifacts)
    uri = os.environ.get(OVERRIDE) or f"{SQLITE}{project.mlruns / 'mlflow.db'}"
    file = database(uri)
    return uri if file is None else f"{SQLITE}{(project.root.absolute() / file).as_posix()}"


def database(uri: str) -> Path | None:
    """Return the file of an SQLite address, None for any other address."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def is_server(uri: str) -> bool:
    """Return whether an address is that of an MLflow server; else it is a database's."""
    return uri.startswith(SERVERS)


def without_password(uri: str) -> str:
    """Return an address as it may be shown: what stands between `user:` and `@` is hidden."""
    return re.sub(r"://([^:/@]*):[^@/]*@", r"://\1:***@", uri)


def own_database(artifacts: Artifacts) -> Path | None:
    """Return the project's own database if it is the store, None if the store is another."""
    file = database(tracking_uri(artifacts))
    return file if file == keeper(artifacts).mlruns.absolute() / "mlflow.db" else None


def artifact_folder(artifacts: Artifacts) -> Path:
    """Return the folder of the files that runs keep."""
    return keeper(artifacts).mlruns.absolute() / "artifacts"


def artifact_location(artifacts: Artifacts, experiment: str) -> str | None:
    """Return where an experiment keeps its files; None leaves it to the server."""
    if is_server(tracking_uri(artifacts)):
        return None
    return (artifact_folder(artifacts) / experiment).as_uri()


def spool_folder(artifacts: Artifacts, collection: str) -> Path:
    """Return the folder of what could not be delivered to the store yet; each experiment has its own."""
    return keeper(artifacts).mlruns / "spool" / (dvc_experiment() or "") / collection


def check_writable(artifacts: Artifacts) -> None:
    """Check, before hours of training, that the record can be kept; raises `CnnzooError` with the remedy."""
    folder = keeper(artifacts).mlruns
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CnnzooError(
            f"{folder}: cannot be written ({error.strerror}), so no run could be recorded. Make it a folder that you "
            f"may write, e.g. `chmod -R u+w {shlex.quote(str(folder))}`, or move it away: a new one is made."
        ) from error
    file = database(tracking_uri(artifacts))
    try:
        if file is not None:
            check_database(file)
    except sqlite3.Error as error:
        raise CnnzooError(
            f"{file}: cannot be used as MLflow's database ({error}). Make it writable, or move it away: the runs of "
            "all networks are rebuilt from the shards."
        ) from error


def check_database(file: Path) -> None:
    """Open a database for writing if it is there; raises `sqlite3.Error` at once (MLflow retries for 100 s)."""
    if not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")  # passes on a read-only file, the next line does not
            connection.execute("PRAGMA user_version = 0")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY:  # busy passes: another writer is at work
                raise
