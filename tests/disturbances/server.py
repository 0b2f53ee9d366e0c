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

TO_FEATURES = (
    *("alembic.command", "filelock", "h5py", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlxtend.data"),
    *("numpy", "pandas", "pooch", "pyarrow.pandas_compat", "pyarrow.parquet", "pydantic", "pytorch_lightning"),
    *("rich.progress", "ruamel.yaml", "safetensors.torch", "scipy.io", "scipy.stats", "torch", "torch.func"),
    *("cnnzoo.features", "cnnzoo.images.registry", "cnnzoo.stages.entry", "cnnzoo.stages.feasible"),
    *("cnnzoo.stages.orphans", "cnnzoo.tracking.bulk", "cnnzoo.training.train", "cnnzoo.zoo"),
)
"""What the stages up to `features` import, but not the stages themselves: they run as `__main__`."""
FROM_SEARCH = (
    *("catboost", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow.pyfunc", "optuna"),
    *("pyarrow.dataset", "sklearn.decomposition", "sklearn.linear_model", "cnnzoo.cli", "cnnzoo.evaluation.compare"),
    *("cnnzoo.evaluation.forecast", "cnnzoo.report", "cnnzoo.search.runs", "cnnzoo.tracking.rebuild"),
)
"""What the others import beside."""


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


def wait(pid: int, limit_s: float, number: int) -> int | None:
    """Return the exit status of a fork; None if it still runs after `limit_s` seconds: then it gets the signal."""
    watched = os.pidfd_open(pid)
    ended, _, _ = select.select([watched], [], [], limit_s)
    os.close(watched)
    if not ended and number:
        os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else None


def main() -> None:
    """Answer requests until there are no more."""
    for number in STOPPING:  # a job in the background starts with some of them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in (*TO_FEATURES, *(() if "--to-features" in sys.argv else FROM_SEARCH)):
        importlib.import_module(name)
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) <= 2, "a fork would have the locks of other threads than CatBoost's, which idles"
    gc.freeze()  # a collection in a fork would copy all of it
    print("ready", flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "wait" in request:
            print(json.dumps(wait(**request["wait"])), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            begin(**request["start"])
        print(pid, flush=True)


if __name__ == "__main__":
    main()
