"""How every stage starts: one argument, parameters checked as a whole, faults reported without a traceback."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.config import Params, load
from cnnzoo.core import signals
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError


def read_params(artifacts: Artifacts) -> Params:
    """Read params.yaml and check all of it; raises `CnnzooError` that names what is wrong and what is allowed."""
    from cnnzoo.features.names import check_feature_sets

    params = load(artifacts.params)
    check_feature_sets(params, str(artifacts.params))
    return params


@dataclass(frozen=True)
class StageContext:
    """What a stage gets: where the files lie, the parameters, and what it works on."""

    artifacts: Artifacts
    params: Params
    target: str
    """A data set (`images`), a collection, or nothing (stages over all collections)."""


def run_stage(stage: Callable[[StageContext], None], target: str | None = None) -> None:
    """Run a stage in the current folder. `target` names its argument, None if it works on everything at once."""
    main = sys.modules["__main__"]
    name = main.__spec__.name if main.__spec__ else stage.__module__
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=main.__doc__)
    if target:
        parser.add_argument("target", metavar=target)
    arguments = parser.parse_args()

    def work() -> None:
        from cnnzoo.stages.feasible import check_feasible
        from cnnzoo.stages.orphans import check_shared_folders

        artifacts = Artifacts(Path())
        params = read_params(artifacts)
        check_feasible(params, str(artifacts.params))
        if target == "collection":
            params.definition(arguments.target)  # raises for an unknown one
        if not target:
            check_shared_folders(artifacts, params)
        stage(StageContext(artifacts, params, arguments.target if target else ""))

    sys.exit(explain_faults(work))


def explain_faults(work: Callable[[], None]) -> int:
    """Run `work`; returns the exit code, after one clear message if it failed for a reason a user can correct.

    Only a return of `work` itself is success: signals, and a library that ends the program, are failures.
    """
    try:
        with signals.raising():
            work()
    except BaseException as error:
        interruption = signals.interruption_behind(error)
        if interruption is not None:
            _fail(f"interrupted ({interruption}). {GO_ON}")
            return interruption.exit_code
        if isinstance(error, KeyboardInterrupt | SystemExit):
            _fail(f"interrupted. {GO_ON}")
            return INTERRUPTED
        message = _explanation(error)
        if message is None:
            raise
        return _fail(message)
    return 0


def _explanation(error: BaseException) -> str | None:
    """Return the message for an error that a user can correct, None for any other."""
    if isinstance(error, CnnzooError):
        return str(error)
    said = (str(error).strip() or type(error).__name__).splitlines()[-1]  # of a worker's traceback the last line
    if isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY):
        return f"not enough memory ({said}). {MEMORY_REMEDY}"
    if isinstance(error, RuntimeError) and "can't start new thread" in said:
        return f"no more threads can be started here. {THREADS_REMEDY}"
    if isinstance(error, BrokenPipeError):
        return "the output was closed, so the command was stopped"
    if isinstance(error, OSError) and (error.errno in REMEDIES or error.filename):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}. {REMEDIES.get(error.errno or 0, OTHER_REMEDY)}"
    return None


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
GO_ON = "Run the same command again: it goes on from what is finished."
OUT_OF_MEMORY = (
    *("MemoryError", "out of memory", "can't allocate memory", "Unable to allocate", "Cannot allocate memory"),
    "failed to map segment from shared object",  # a library that is imported
)
MEMORY_REMEDY = "Lower `runtime.threads` or `train.cohort_size` in params.yaml, or free memory, and run again."
THREADS_REMEDY = "Lower `runtime.threads` in params.yaml, or raise the limit (`ulimit -u`), and run again."
OTHER_REMEDY = "Look at what lies there: the project's layout stands in README.md. What is finished is kept."
REMEDIES = {
    errno.ENOSPC: "Free some space and run the same command again: what is finished is kept.",
    errno.EDQUOT: "Your disk quota is used up: free some space and run again; what is finished is kept.",
    errno.EROFS: "The project's folder must be writable: run in a writable copy.",
    errno.EACCES: "Give yourself the right to write there, or run in a folder of your own.",
    errno.EPERM: "Give yourself the right to write there, or run in a folder of your own.",
}
"""Faults of the machine, and what to do about them."""


def _fail(message: str) -> int:
    with suppress(OSError):  # a terminal that is gone
        print(f"error: {message}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python flushes again at its end, and would print a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 1
