import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from cnnzoo.core import atomic
from cnnzoo.core.atomic import TEMPORARY, atomic_file, atomic_folder, remove_leftovers, write_text

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half_a_file(path, fault):
    with atomic_file(path) as file:
        file.write(b"half of the n")
        raise fault


def write_half_a_folder(path, fault):
    with atomic_folder(path) as folder:
        (folder / "new").touch()
        raise fault


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_whole_and_in_a_folder_that_was_not_there(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert names(path.parent) == ["file.txt"]


def test_reader_sees_the_old_file_until_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("fault", [ValueError("a bug"), KeyboardInterrupt(), NO_SPACE])
def test_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path, fault):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(fault)):
        write_half_a_file(path, fault)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_disk_that_fills_at_the_last_flush_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_descriptor):
        raise NO_SPACE

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="space"), atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


KILLED_WRITER = """
import pathlib, sys, time
from cnnzoo.core.atomic import atomic_file, atomic_folder
target = pathlib.Path(sys.argv[2])
if sys.argv[1] == "file":
    with atomic_file(target) as file:
        file.write(b"half"); file.flush(); print("writing", flush=True); time.sleep(60)
else:
    with atomic_folder(target) as folder:
        (folder / "half").write_bytes(b"half"); print("writing", flush=True); time.sleep(60)
"""


def kill_while_writing(kind, target):
    """Start a writer, wait until it has written something, end it as `kill -9` does."""
    command = [sys.executable, "-c", KILLED_WRITER, kind, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}) as writer:
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)


def test_killed_writer_leaves_the_old_file_and_a_leftover_that_can_be_removed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    kill_while_writing("file", path)
    assert path.read_bytes() == b"old"
    leftovers = [name for name in names(tmp_path) if name.startswith(TEMPORARY)]
    assert len(leftovers) == 1
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["file"]


def test_killed_writer_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_bytes(b"old")
    kill_while_writing("folder", path)
    assert names(path) == ["old"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["folder"]


def test_folder_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "folder"
    for content in ("first", "second"):
        with atomic_folder(path) as folder:
            (folder / content).write_text(content)
            assert content not in (names(path) if path.exists() else [])
        assert names(path) == [content]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("fault", [ValueError("a bug"), KeyboardInterrupt(), NO_SPACE])
def test_failed_folder_leaves_the_old_one(tmp_path, fault):
    path = tmp_path / "folder"
    with atomic_folder(path) as folder:
        (folder / "old").touch()
    with pytest.raises(type(fault)):
        write_half_a_folder(path, fault)
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_folder_that_cannot_take_its_name_puts_the_old_one_back(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    with atomic_folder(path) as folder:
        (folder / "old").touch()
    rename = type(path).replace

    def fail_into_place(source, target):
        if "-old-" not in source.name and target == path:
            raise NO_SPACE
        return rename(source, target)

    monkeypatch.setattr(type(path), "replace", fail_into_place)
    with pytest.raises(OSError, match="space"), atomic_folder(path) as folder:
        (folder / "new").touch()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_leftovers_of_a_folder_that_is_not_there_are_nothing(tmp_path):
    remove_leftovers(tmp_path / "absent")


def test_two_processes_write_one_file_without_mixing(tmp_path):
    """Each has a temporary file of its own; the last to finish wins, whole."""
    path = tmp_path / "file"
    program = "import sys, pathlib; from cnnzoo.core.atomic import write_text\n"
    program += "for _ in range(50): write_text(pathlib.Path(sys.argv[1]), sys.argv[2] * 10000)"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), letter], env=environment) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert path.read_text() in ("a" * 10000, "b" * 10000)
        time.sleep(0.001)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["file"]


def test_what_a_killed_writer_left_of_a_folder_goes_with_the_next_one(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left = {process: tmp_path / f"{TEMPORARY}{process.pid}-zoo" for process in (dead, living)}
    for folder in left.values():
        folder.mkdir()
    with atomic_folder(tmp_path / "zoo"):
        pass
    assert not left[dead].exists()
    assert left[living].exists()
    living.communicate(b"\n")


def test_the_folder_of_another_users_writer_stays(tmp_path, monkeypatch):
    """A process of another user cannot be signalled, so it is alive."""

    def refuse(_process, _signal):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "kill", refuse)
    foreign = tmp_path / f"{TEMPORARY}{os.getpid() + 1}-zoo"
    foreign.mkdir()
    with atomic_folder(tmp_path / "zoo"):
        pass
    assert foreign.exists()
