"""Runs stages in forks of a process that has the heavy libraries imported: `python -m disturbances.server`.

Importing them takes longer than the stages of a small project, and it is their work that is to be disturbed. Reads a
request a line and answers it on a line: `{"start": Command}` with the process id, `{"wait": id, "limit_s": seconds}`
with the exit status (negative: the signal that ended it), null if the process still runs after that time.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnzoo.core.signals import STOPPING

HEAVY = (
    *("catboost", "filelock", "h5py", "jinja2", "matplotlib.figure", "mlflow", "mlflow.pyfunc", "mlxtend.data"),
    *("matplotlib.backends.backend_agg", "mlflow.store.tracking.sqlalchemy_store", "numpy", "optuna", "pandas"),
    *("pooch", "pyarrow.parquet", "pydantic", "pytorch_lightning", "rich.progress", "ruamel.yaml", "scipy.stats"),
    *("safetensors.torch", "sklearn.decomposition", "sklearn.linear_model", "torch", "torch.func", "typer"),
    *("cnnzoo.cli", "cnnzoo.evaluation.compare", "cnnzoo.evaluation.forecast", "cnnzoo.features", "cnnzoo.report"),
    *("pyarrow.dataset", "pyarrow.pandas_compat", "scipy.io", "alembic.command", "cnnzoo.images.registry"),
    *("cnnzoo.stages.feasible", "cnnzoo.stages.orphans", "cnnzoo.images", "cnnzoo.search.runs"),
    *("cnnzoo.stages.entry", "cnnzoo.tracking.bulk", "cnnzoo.tracking.client", "cnnzoo.tracking.rebuild"),
    *("cnnzoo.training.train", "cnnzoo.zoo"),
)
"""Everything but the stages themselves, which run as `__main__`."""


def begin(module: str, arguments: Sequence[str], folder: str, log: str, **limits: object) -> None:
    """Turn this fork into `python -m module arguments`, in a session of its own; it prints to the file `log`."""
    os.setsid()
    os.chdir(folder)
    silent = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for source, target in ((silent, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    sys.argv = [module, *arguments]
    _disturb(**limits)  # type: ignore[arg-type]
    code: object = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:  # before the stage's own handler
        traceback.print_exc()
        code = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    # As Python ends, but for freeing one by one all objects of the server.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _disturb(environment: Mapping[str, str], what: str, memory_bytes: int | None) -> None:
    os.environ.update(environment)
    if what:
        ctypes.CDLL(None).disturb(what.encode())
    if memory_bytes is not None:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, resource.RLIM_INFINITY))


def wait(pid: int, limit_s: float) -> int | None:
    """Return the exit status of a fork, None if it still runs after `limit_s` seconds."""
    watched = os.pidfd_open(pid)
    ended, _, _ = select.select([watched], [], [], limit_s)
    os.close(watched)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else None


def main() -> None:
    """Answer requests until there are no more."""
    for number in STOPPING:  # a job in the background starts with some of them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in HEAVY:
        importlib.import_module(name)
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) <= 2, "a fork would have the locks of other threads than CatBoost's, which idles"
    gc.freeze()  # a collection in a fork would copy all of it
    print("ready", flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "wait" in request:
            print(json.dumps(wait(request["wait"], request["limit_s"])), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            begin(**request["start"])
        print(pid, flush=True)


if __name__ == "__main__":
    main()
