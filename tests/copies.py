"""Copies of the project that run their own code, whatever the environment has installed.

An editable installation puts a finder in front of `sys.path` that answers every `import cnnzoo` from the checkout it
was made in, so PYTHONPATH alone does not make a copy run itself. The environment of a copy therefore has a
`sitecustomize` that removes the finder; it acts in every Python process that inherits the environment.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from imports import ROOT

STARTUP = ".startup"
SITECUSTOMIZE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"]
"""
KERNEL = "cnnzoo.kernel._native"


def copy_project(target: Path, names: Iterable[str]) -> None:
    """Copy files and folders of the project, and the native kernel if there is one, to the folder `target`."""
    for name in names:
        source, copied = ROOT / name, target / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.so"))
        else:
            shutil.copy(source, copied)
    (target / STARTUP).mkdir()
    (target / STARTUP / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    put_kernel(target)


def put_kernel(target: Path) -> None:
    """Give a copy the kernel of this process: a copy does not build its own."""
    kernel = importlib.util.find_spec(KERNEL)
    if kernel is not None and kernel.origin is not None:
        shutil.copy(kernel.origin, target.joinpath("src", *KERNEL.split(".")[:-1]))


def copy_environment(target: Path) -> dict[str, str]:
    """Return the environment variables under which `import cnnzoo` and all commands are those of a copy."""
    search = os.pathsep.join(str(target / folder) for folder in (STARTUP, "src"))
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | {"PYTHONPATH": search, "PATH": commands, "PYTHONDONTWRITEBYTECODE": "1"}
