"""Reaching the MLflow store, or saying why it cannot be reached and what to do: for the commands that need it.

Light: mlflow is imported when the store is opened.
"""

import shlex
import textwrap
from typing import TYPE_CHECKING

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.tracking.location import OVERRIDE, is_server, prepare_environment, tracking_uri, without_password
from cnnzoo.tracking.store import reason

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def reach(artifacts: Artifacts) -> "MlflowClient":
    """Return a client of a store that answers; raises `CnnzooError` that says what is wrong and what to do."""
    prepare_environment()
    try:
        from cnnzoo.tracking.client import connect

        client = connect(artifacts)
        client.search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow, a driver or the network raise
        raise unreachable(tracking_uri(artifacts), error) from error
    return client


def unreachable(uri: str, error: Exception) -> CnnzooError:
    """Return the error for a store that cannot be used."""
    shown = without_password(uri)
    return CnnzooError(f"MLflow at {shown}: {_short(reason(error))}. {_remedy(shown, error)}")


def _short(text: str) -> str:
    """Return an error's first sentence, without the full stop."""
    return textwrap.shorten(text.split(". ", maxsplit=1)[0], 200, placeholder=" …").rstrip(".")


def _remedy(uri: str, error: Exception) -> str:
    if uri.startswith("file:") or ":" not in uri:
        return f"MLflow no longer keeps runs in plain files: unset {OVERRIDE}, or set it to sqlite:///<file>."
    if isinstance(error, ImportError) or type(error).__name__ == "NoSuchModuleError":
        return f"The driver of this database is not installed: install it with pip, or unset {OVERRIDE}."
    if "schema" in str(error) or "revision" in str(error):
        return f"Another MLflow made this database: keep a copy, then run `mlflow db upgrade {shlex.quote(uri)}`."
    if "not a database" in str(error):
        return "Move this file away: the runs of all networks are rebuilt from the shards by `cnnzoo track`."
    if is_server(uri):
        return "Start the server, then run the same command again."
    return f"Correct {OVERRIDE} or what it names, then run the same command again."
