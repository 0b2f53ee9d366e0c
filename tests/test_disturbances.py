"""Faults of the machine, put into the real stages: a fixed part of the campaign in benchmarks/faults.py."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

from builders import make_images
from disturbances.campaign import Result, Undisturbed, draw_plan, run_pass, table
from disturbances.kinds import KINDS
from disturbances.processes import Ended, Server, temporary_folder
from disturbances.project import STAGES, State, faults_of, make_project

PASS = {"recipes": "two at once", "train": "full disk", "assemble": "clock that jumps", "features": "read-only folder"}
"""Kinds that no other test puts into real stages."""
SEED = 20_261_130


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux (/proc, LD_PRELOAD) and a C compiler"
)
def test_disturbed_stages_end_as_undisturbed_ones(tmp_path: Path) -> None:
    with Server(tmp_path, "--to-features") as server:
        undisturbed = Undisturbed.make(server, tmp_path / "undisturbed", make_images(train=1000), last="features")
        results = list(run_pass(server, undisturbed, tmp_path / "disturbed", PASS, [SEED]))
    assert [result for result in results if result.wrong] == []
    assert [result.kind for result in results] == list(PASS.values())
    assert "refused" in {result.how for result in results}  # the faults were there


TRACEBACK = "Traceback (most recent call last):\n  File ...\nOSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("code", "said", "how"),
    [
        (0, "train alpha: 26 networks", "went on"),
        (0, TRACEBACK, "exit status 0, a traceback"),
        (1, "error: No space left on device. Free some space", "refused"),
        (1, TRACEBACK, "exit status 1, a traceback"),
        (1, "", "exit status 1 without an error message"),
        (128 + signal.SIGTERM, "error: interrupted (SIGTERM). Run", "stopped"),
        (0, "error: interrupted (SIGTERM). Run", "went on"),
        (1, "error: interrupted (SIGTERM). Run", "interrupted, but exit status 1"),
        (-signal.SIGKILL, "", "stopped"),
        (-signal.SIGABRT, "terminate called after throwing an instance of 'std::system_error'", "aborted"),
        (-signal.SIGSEGV, "", f"exit status {-signal.SIGSEGV}"),
    ],
)
def test_how_a_stage_ended(code: int, said: str, how: str) -> None:
    assert Ended(code, said).how == how


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("data/recipes/alpha.csv", "data/recipes/alpha.csv: another"),
        ("data/zoo/alpha/split.csv", "data/zoo/alpha/split.csv: too much"),
        ("core.17", "core.17: too much"),
        ("data/zoo/.writing-17-alpha/weights.npy", "data/zoo/.writing-17-alpha: left behind"),
        ("data/unfinished/alpha/0a.safetensors", "data/unfinished/alpha/0a.safetensors: left behind"),
        ("mlruns/spool/alpha/00000000000000000001.json", "00000000000000000001.json: left behind"),
    ],
)
def test_what_is_wrong_with_a_project(tmp_path: Path, path: str, line: str) -> None:
    root = make_project(tmp_path / "project").root
    recipes = root / "data/recipes/alpha.csv"
    recipes.parent.mkdir(parents=True)
    recipes.write_text("the recipes")
    for folder in ("data/unfinished", "mlruns"):
        (root / folder).mkdir()
    expected = State.of(root)
    assert faults_of(root, expected) == []
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("x")
    assert any(wrong.endswith(line) for wrong in faults_of(root, expected))


def test_a_temporary_file_is_left_behind(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project").root
    expected = State.of(root)
    temporary_folder(root).mkdir()
    (temporary_folder(root) / "tmp1").touch()
    assert len(faults_of(root, expected)) == 1


def test_a_plan_has_all_kinds_by_their_weights_and_is_that_of_its_seed() -> None:
    plan = draw_plan(200, 0, list(KINDS))
    counts = {name: sum(list(kinds.values()).count(name) for kinds in plan) for name in KINDS}
    assert sum(counts.values()) == 200
    least = min(counts.values())
    assert least >= 5
    assert all(counts[name] <= 3 * kind.weight * least for name, kind in KINDS.items())
    assert all(stage in KINDS[kind].stages for kinds in plan for stage, kind in kinds.items())
    assert set().union(*plan) == set(STAGES)
    assert plan == draw_plan(200, 0, list(KINDS)) != draw_plan(200, 1, list(KINDS))


def test_the_table_counts_what_became_of_each_kind() -> None:
    results = [
        Result("pass-0, train", "SIGKILL", "stopped"),
        Result("pass-1, train", "SIGKILL", "went on", ("weights.npy: another",)),
        Result("pass-1, search", "full disk", "refused"),
    ]
    assert table(results).splitlines()[2:] == [
        "| SIGKILL | 2 | 1 | 1 | 0 | 0 | 1 | 1 |",
        "| full disk | 1 | 0 | 0 | 1 | 0 | 1 | 0 |",
        "| all | 3 | 1 | 1 | 1 | 0 | 2 | 1 |",
    ]
