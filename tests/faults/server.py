"""Runs pytest in forks of a process that has the heavy libraries imported: `python -m faults.server`.

Importing them takes longer than most tests. Nothing of this project is imported before a fork, so each fork reads the
code as it is then. Reads one request a line, `{"arguments": [...], "output": path, "limit_s": seconds}`, and answers
each with pytest's exit status on a line, -1 if the limit was reached.
"""

import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

HEAVY = (
    *("catboost", "h5py", "jinja2", "matplotlib.figure", "mlflow", "mlflow.pyfunc", "mlxtend.data", "numpy", "optuna"),
    *("mlflow.store.tracking.sqlalchemy_store", "matplotlib.backends.backend_agg", "pandas", "pyarrow.parquet"),
    *("pooch", "pydantic", "pytest", "pytorch_lightning", "rich.table", "ruamel.yaml", "safetensors.torch"),
    *("scipy.stats", "sklearn.decomposition", "sklearn.linear_model", "torch", "torch.func", "typer.testing"),
)


def run_pytest(arguments: Sequence[str], output: str, limit_s: float) -> int:
    """Run pytest in a fork, which writes what it prints to the file `output`; nothing that it started survives."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        _run(arguments, output)
    watched = os.pidfd_open(pid)
    ended, _, _ = select.select([watched], [], [], limit_s)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.close(watched)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if ended else -1


def _run(arguments: Sequence[str], output: str) -> None:
    """Become a run of pytest, and end with its exit status."""
    code = 3  # pytest's status of an internal error
    try:
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        silent = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((silent, 0), (written, 1), (written, 2)):
            os.dup2(source, target)
        sys.argv = ["pytest"]
        code = int(importlib.import_module("pytest").main(list(arguments)))
        sys.stdout.flush()
    finally:
        os._exit(code)


def main() -> None:
    """Answer requests until there are no more."""
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        print(run_pytest(**json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
