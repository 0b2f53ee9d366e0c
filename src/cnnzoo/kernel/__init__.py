"""The native kernel: C++ for a CPU's vector units (csrc), built when cnnzoo is installed, if there is a compiler.

It trains networks (`training.engines.native`) and runs them (`network.forward`), with the same bits on every processor.
The GPU's kernel, csrc/block.cu, is compiled where it runs, from the same headers.
"""

import importlib
from pathlib import Path
from types import ModuleType

from cnnzoo.core.errors import CnnzooError

EXTENSION = "cnnzoo.kernel._native"
SOURCES = Path(__file__).parent / "csrc"


def unavailable_reason() -> str | None:
    """Return why the kernel cannot be used on this machine, or None if it can."""
    try:
        importlib.import_module(EXTENSION)
    except ModuleNotFoundError:
        return (
            "the native kernel was not built (no working C++ compiler when cnnzoo was installed?). "
            "Install g++ or clang++, then run `pip install .` again"
        )
    except ImportError as error:
        return f"the native kernel cannot be loaded: {error}"
    return None


def extension() -> ModuleType:
    """Return the compiled module; raises `CnnzooError` if the kernel is not available."""
    reason = unavailable_reason()
    if reason is not None:
        raise CnnzooError(f"`engine: native` is not available: {reason}, or use `engine: batched`.")
    return importlib.import_module(EXTENSION)
