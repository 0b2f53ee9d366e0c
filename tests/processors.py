"""The same program as if on other processors: NumPy's and OpenBLAS's code for the newer ones switched off."""

import json
import os
import subprocess
import sys
from pathlib import Path

from numpy._core import _multiarray_umath as core
from threadpoolctl import threadpool_info

ROOT = Path(__file__).parents[1]
DISPATCHED = [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]
"""The instruction sets of this processor that NumPy has code of its own for; the others may not be named."""
BLAS = [library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"]
"""The processors that NumPy's BLAS takes this one for, if it is OpenBLAS."""


def _without(names: list[str]) -> dict[str, str]:
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(names)} if names else {}


WIDE = [name for name in DISPATCHED if "512" in name or name == "X86_V4"]
OTHERS: dict[str, dict[str, str]] = {
    "the oldest": _without(DISPATCHED) | {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
    "another BLAS": {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "2"},
}
if WIDE:
    OTHERS["without AVX-512"] = _without(WIDE) | {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"}


def run_on(processor: dict[str, str], *arguments: str) -> str:
    """Return what Python prints for some arguments; asserts that NumPy and OpenBLAS have obeyed."""
    check = "from processors import DISPATCHED as on, BLAS as blas; import json; print(json.dumps([on, blas]))"
    off = processor.get("NPY_DISABLE_CPU_FEATURES", "").split()
    paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]  # kept: a copy of the project has it
    environment = os.environ | processor | {"PYTHONPATH": os.pathsep.join(paths)}
    on, blas = json.loads(_output([sys.executable, "-c", check], environment))
    assert not set(off) & set(on), f"{on} in spite of {off}"
    core_type = processor.get("OPENBLAS_CORETYPE")
    obeyed = core_type is None or core_type in BLAS or set(blas).isdisjoint(BLAS)  # Prescott is called Katmai
    assert obeyed, f"{blas} in spite of {core_type}"
    return _output([sys.executable, *arguments], environment)


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
