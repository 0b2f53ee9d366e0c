"""How every stage starts: one argument, parameters checked as a whole, faults told without a traceback."""

import argparse
import errno
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.artifacts import Artifacts
from cnnzoo.config import Params, load
from cnnzoo.errors import CnnzooError


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
        artifacts = Artifacts(Path())
        params = load(artifacts.params)
        if target == "collection":
            params.definition(arguments.target)  # raises for an unknown one
        stage(StageContext(artifacts, params, arguments.target if target else ""))

    sys.exit(explain_faults(work))


def explain_faults(work: Callable[[], None]) -> int:
    """Run `work`; returns the exit code, after one clear message if it failed for a reason a person can mend."""
    try:
        work()
    except CnnzooError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno not in REMEDIES and not error.filename:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror}{where}. {REMEDIES.get(error.errno or 0, OTHER_REMEDY)}")
    except (KeyboardInterrupt, SystemExit) as interruption:
        if isinstance(interruption, SystemExit) and not interruption.code:
            return 0
        _fail("interrupted. Run the same command again: it goes on from what is finished.")
        return INTERRUPTED
    return 0


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
OTHER_REMEDY = "Look at what lies there: the project's layout stands in README.md. What is finished is kept."
REMEDIES = {
    errno.ENOSPC: "Free some space and run the same command again: what is finished is kept.",
    errno.EDQUOT: "Your disk quota is used up: free some space and run again; what is finished is kept.",
    errno.EROFS: "The project's folder must be writable: run in a writable copy.",
    errno.EACCES: "Give yourself the right to write there, or run in a folder of your own.",
    errno.EPERM: "Give yourself the right to write there, or run in a folder of your own.",
}
"""Faults of the machine that a person can mend."""


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
