"""The files of a collection on their way into the project, in a folder beside its place, taken up again after a kill.

What is finished stands in a small record beside the folder: the source's fingerprint, size and sha256 of each file. An
archive is decompressed from its beginning again, but finished files are neither written nor read twice, and once all
are there the archive is not opened any more.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import tokenize
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnzoo.core.atomic import write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.progress import transfer_progress
from cnnzoo.importing.source import CHUNK_BYTES, REQUIRED, Member, fingerprint, members, total_bytes
from cnnzoo.zoo import format as published


@dataclass
class _Record:
    """How far an import is."""

    source: str
    complete: bool = False
    finished: dict[str, list[Any]] = field(default_factory=dict)
    """Name -> [bytes, sha256]."""


@dataclass(frozen=True)
class Staging:
    """The folder `.importing-<name>` beside the collection's place `target`."""

    target: Path

    @property
    def folder(self) -> Path:
        """Where the files lie until they are complete and checked."""
        return self.target.parent / f".importing-{self.target.name}"

    @property
    def _record_path(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.json")

    def fill(self, source: Path) -> frozenset[str]:
        """Copy the wanted files of an archive or folder, as far as they are missing; return the names of those it has.

        Raises `CnnzooError` if the source is damaged, unsafe or incomplete, or its weights are no float32 matrix;
        `OSError` if the disk is full.
        """
        record = self._resume(fingerprint(source))
        if not record.complete:
            self.folder.mkdir(parents=True, exist_ok=True)
            with transfer_progress(f"importing {source.name}", 0, total_bytes(source)) as advance:
                for member in members(source, advance):
                    if member.name not in record.finished:
                        record.finished[member.name] = _copy(member, self.folder / member.name, source)
                        self._write(record)
            if missing := [name for name in REQUIRED if name not in record.finished]:
                raise CnnzooError(
                    f"{source}: holds no {', '.join(missing)}; a published collection is one folder (or a tar of it) "
                    f"with {', '.join(REQUIRED)}"
                )
            record.complete = True
            self._write(record)
        return frozenset(record.finished)

    def publish(self) -> None:
        """Give the folder its final name."""
        self.folder.rename(self.target)
        self._record_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the folder and its record."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._record_path.unlink(missing_ok=True)

    def _write(self, record: _Record) -> None:
        write_text(self._record_path, json.dumps(asdict(record), indent=1) + "\n")

    def _resume(self, source: str) -> _Record:
        """Return the record of an import of the same source that was cut off, or a fresh one over an empty folder."""
        try:
            record = _Record(**json.loads(self._record_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            record = _Record("")
        if record.source != source:
            self.discard()
            return _Record(source)
        for name, facts in list(record.finished.items()):
            if not _is_intact(self.folder / name, *facts):
                del record.finished[name]
                record.complete = False
        return record


def _is_intact(path: Path, size: int, sha256: str) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _copy(member: Member, path: Path, source: Path) -> list[Any]:
    """Write one file and flush it to the disk; return [bytes, sha256]. A matrix is looked at before it is written."""
    if member.size > (free := shutil.disk_usage(path.parent).free):
        needed = f"{member.name} needs {member.size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed}", str(path.parent))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in _looked_at(member, source):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return [member.size, digest.hexdigest()]


def _looked_at(member: Member, source: Path) -> Iterator[bytes]:
    first = next(member.chunks, b"")
    if member.name == published.WEIGHTS:
        _check_header(first, member.size, source)
    yield first
    yield from member.chunks


def _check_header(start: bytes, size: int, source: Path) -> None:
    """Check the header of weights.npy, of which `start` are the first bytes: float32 (rows, parameters) in C order."""
    file = io.BytesIO(start[:CHUNK_BYTES])
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, SyntaxError, tokenize.TokenError) as error:  # of a malformed header
        raise CnnzooError(f"{source}: `{published.WEIGHTS}` is not a .npy file of plain numbers ({error})") from error
    expected = f"{source}: `{published.WEIGHTS}` must be floating point (rows, parameters)"
    if dtype.hasobject:
        raise CnnzooError(f"{expected}; it holds pickled Python objects, which are never loaded: they can run any code")
    if dtype.kind != "f" or len(shape) != 2 or min(shape) < 1:
        raise CnnzooError(f"{expected}, got {dtype.str} {shape}")
    if size != (announced := file.tell() + dtype.itemsize * shape[0] * shape[1]):
        raise CnnzooError(f"{source}: `{published.WEIGHTS}` has {size} bytes, its header announces {announced}")
