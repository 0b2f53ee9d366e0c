"""What driver and workers must have in common, so that a shard is the same wherever it is trained."""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from cnnzoo.cluster.events import Refused
from cnnzoo.core.errors import CnnzooError

PACKAGE = Path(__file__).parents[1]
TRAINING = ("numpy", "pytorch-lightning", "safetensors", "torch")
"""Libraries that take part in training."""

Identity = Mapping[str, str]


def identity(libraries: Iterable[str], engine: str = "", numerics: str = "") -> Identity:
    """Return what this process is: its code, the versions it runs on, and the arithmetic of its engine, by name."""
    arithmetic = {"engine": engine, "version of the engine's arithmetic": numerics}
    return {
        "code of cnnzoo": code_digest(),
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **{library: version(library) for library in libraries},
        **(arithmetic if engine else {}),
    }


def differences(driver: Identity, worker: Identity) -> tuple[str, ...]:
    """Return what differs, as text for a person: `torch is 2.12.0, the driver has 2.13.0`."""
    return tuple(
        f"{name} is {worker.get(name, 'missing')}, the driver has {driver.get(name, 'none')}"
        for name in {**driver, **worker}
        if worker.get(name) != driver.get(name)
    )


def refusal(refused: Refused) -> CnnzooError:
    """Return the error that says which worker is not the driver's equal, and why."""
    return CnnzooError(
        f"the worker on {refused.node} is not the driver's equal, so its results might not be the same: "
        f"{'; '.join(refused.differences)}. Install the same versions on all machines of the cluster."
    )


@cache
def code_digest() -> str:
    """Return a hash of this package's Python source, 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
