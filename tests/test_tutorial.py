"""The notebook runs, cell by cell, on a smaller zoo; what it shows in git are the outputs of a whole run."""

import contextlib
import io
import json
import logging
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
SMALL = {
    '["networks"] = 120': '["networks"] = 26',
    "epochs=10, epochs_between_checkpoints=5": "epochs=4, epochs_between_checkpoints=2",
    'predictors=["linear", "catboost"], trials=3, max_trees=100': 'predictors=["linear"], trials=1, max_trees=5',
    "max_epochs=80": "max_epochs=3",
}


def cells(kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what the notebook sets for its process: the seed in the environment, the level of a logger."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def _commands_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `python -m module ...` here: eight starts of Python would take most of the test."""

    start = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[:2] != [sys.executable, "-m"]:
            return start(command, **options)
        cwd, printed, code = options["cwd"], io.StringIO(), 0
        with contextlib.chdir(cwd), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            monkeypatch.setattr(sys, "argv", command[2:])
            try:
                runpy.run_module(command[2], run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = int(end.code or 0)
        assert code == 0, printed.getvalue()
        return subprocess.CompletedProcess(command, code, printed.getvalue(), "")

    monkeypatch.setattr("subprocess.run", run)


@pytest.mark.slow
@pytest.mark.usefixtures("_as_before", "_commands_in_this_process")
def test_the_cells_run_in_order_and_score_a_network(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(plt, "show", plt.close)
    code = "\n\n".join("".join(cell["source"]) for cell in cells("code"))
    for whole, small in SMALL.items():
        assert code.count(whole) == 1, whole
        code = code.replace(whole, small)
    names: dict[str, Any] = {"__name__": "tutorial"}
    exec(compile(code, str(NOTEBOOK), "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^\(\d+, 4970\) float32 checkpoints at epochs \(0, 1, 2, 3, 4\)$", printed, re.MULTILINE)
    assert re.search(r"^R2 -?[\d.]+, Kendall's tau -?[\d.]+ on \d+ held-out checkpoints$", printed, re.MULTILINE)
    assert "network.pt" in printed
    assert len(names["data"].test) == len(names["predicted"]) > 20
    shutil.rmtree(tmp_path / "data")


def test_the_outputs_in_git_are_those_of_a_whole_run():
    shown = [output for cell in cells("code") for output in cell["outputs"]]
    assert all(cell["execution_count"] == number for number, cell in enumerate(cells("code"), start=1))
    assert not any(output["output_type"] == "error" for output in shown)
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
    assert not re.search(r"/(tmp|home|root|work)/", NOTEBOOK.read_text(encoding="utf-8"))


def test_its_pages_exist():
    text = "".join(line for cell in cells("markdown") for line in cell["source"])
    links = re.findall(r"\]\(([\w.]+)\)", text)
    assert links
    assert all((NOTEBOOK.parent / link).exists() for link in links)
