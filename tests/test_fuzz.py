"""Every reader withstands damaged and hostile files: a seeded sample of the campaign in benchmarks/fuzz.py."""

import sys
from pathlib import Path

import pytest

from cnnzoo.core.errors import CnnzooError
from fuzzing import Target, run, targets

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded through /proc")]
INPUTS, SEED = 2_000, 20_261_127


def test_no_reader_has_a_finding(tmp_path: Path) -> None:
    found = targets(tmp_path / "valid")
    jobs = [(found[number % len(found)], number) for number in range(INPUTS)]
    assert run(jobs, SEED, tmp_path / "inputs") == []


def raise_a_fault(_: Path) -> None:
    raise KeyError("no message for a user")


def crash(_: Path) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def take_memory(_: Path) -> None:
    bytearray(8 << 30)


def refuse(_: Path) -> None:
    raise CnnzooError("x.bin: damaged")


@pytest.mark.parametrize(
    ("read", "sealed", "what"),
    [
        (raise_a_fault, False, "KeyError: 'no message for a user'"),
        (crash, False, "the process died or hung (exit code -11)"),
        (take_memory, False, "MemoryError: "),
        (refuse, True, None),
        (Path.exists, False, None),
        (Path.exists, True, "altered, and accepted"),
    ],
)
def test_what_counts_as_a_finding(tmp_path: Path, read, sealed, what) -> None:
    folder = tmp_path / "valid"
    folder.mkdir()
    (folder / "x.bin").write_bytes(bytes(range(256)))
    jobs = [(Target("x", folder, "x.bin", read, sealed), number) for number in range(3)]
    found = run(jobs, 1, tmp_path / "inputs")
    assert [(finding.number, finding.what) for finding in found] == (
        [] if what is None else [(n, what) for n in range(3)]
    )
