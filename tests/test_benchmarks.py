"""Benchmarks are run by hand; the tests see at least that what they import of the package is there."""

import ast
from importlib import import_module
from importlib.util import find_spec

import pytest

from imports import ROOT

BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_the_package_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("cnnzoo"):
            continue
        if node.module == "cnnzoo.cluster.ray_backend" and find_spec("ray") is None:
            continue
        module = import_module(str(node.module))
        for name in node.names:
            if name.name == "_native":  # missing without a compiler
                continue
            is_package = hasattr(module, "__path__")
            missing = not hasattr(module, name.name) and not (is_package and find_spec(f"{node.module}.{name.name}"))
            assert not missing, f"line {node.lineno}: {node.module} has no {name.name}"
