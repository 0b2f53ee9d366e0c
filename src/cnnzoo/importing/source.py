"""What is to be imported: a tar or zip archive or a folder, read one wanted file after the other, never trusted.

An archive is read as a stream, once, in bounded memory. Nothing is ever extracted under a path that it names: of its
members only the base name counts, and only the names of the published format. The decompressors of the standard library
are used in place of those of `tarfile`, which do not look at the checksum of a gzip file.
"""

import bz2
import errno
import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.progress import Advance
from cnnzoo.zoo import format as published
from cnnzoo.zoo import manifest

CHUNK_BYTES = 1 << 20
LONGEST_NAME = 1 << 16
READ_AT_ONCE = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
"""Members that tarfile reads whole into memory, names and other facts of the next one; so many bytes are plenty."""
REQUIRED = (published.WEIGHTS, published.METRICS, published.LAYOUT)
MOST_BYTES = {
    published.WEIGHTS: 64 * 10**9,
    published.METRICS: 10**9,
    published.LAYOUT: 10**6,
    published.SPLIT: 10**8,
    published.DIVERGED: 10**8,
    published.MANIFEST: manifest.MOST_BYTES,
}
"""The wanted files and the largest size of each; the published matrices have 5.4 GB, their metrics some 10 MB."""


def _open_gzip(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file))


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    """Open a stream compressed with zstd; pyarrow has the decompressor that the standard library lacks."""
    import pyarrow

    return cast("IO[bytes]", pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd"))


SPLITS = re.compile(r".*split.*\.csv")
"""Names of split files: the literature's are named after their data set."""
DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": _open_gzip,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
"""By the first bytes of a file; what begins otherwise is read as a plain tar."""
ENDINGS = re.compile(r"\.(tar|tar\.(xz|gz|bz2|zst)|txz|tgz|tbz2|zip)$")


@dataclass(frozen=True)
class Member:
    """One wanted file: its name in the published format, its size in bytes, its content, to be read at once."""

    name: str
    size: int
    chunks: Iterator[bytes]


def stem(source: Path) -> str:
    """Return the name of an archive without its endings, or that of a folder."""
    return ENDINGS.sub("", source.resolve().name)


def total_bytes(source: Path) -> int:
    """Return how many bytes reading the source takes."""
    return sum(file.stat().st_size for file in _files(source))


def fingerprint(source: Path) -> str:
    """Return what changes when the source does: names, sizes and times of its files."""
    facts = ((file.name, file.stat()) for file in _files(source))
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in facts)


def members(source: Path, advance: Advance) -> Iterator[Member]:
    """Yield the wanted files of an archive or a folder; `advance` is called with the number of bytes read.

    Raises `CnnzooError` if the archive is damaged, or holds what no collection needs and an attack would: absolute
    paths, `..`, links, devices, a wanted file twice, or one of absurd size.
    """
    if source.is_dir():
        found = _folder_members(source, advance)
    else:
        found = (_zip_members if zipfile.is_zipfile(source) else _archive_members)(source, advance)
    for member in found:
        if member.size > MOST_BYTES[member.name]:
            raise CnnzooError(
                f"{source}: `{member.name}` has {member.size / 1e6:,.0f} MB, at most "
                f"{MOST_BYTES[member.name] / 1e6:,.0f} MB are accepted: not a collection of small networks"
            )
        yield member


def _files(source: Path) -> list[Path]:
    """Return the archive itself, or the wanted files of a folder."""
    if not source.is_dir():
        return [source]
    files = [source / name for name in MOST_BYTES if (source / name).is_file()]
    if source / published.SPLIT not in files:
        files += [path for path in source.iterdir() if SPLITS.fullmatch(path.name) and path.is_file()]
    return files


def _published_name(name: str) -> str:
    """Return the name under which a file is wanted."""
    return published.SPLIT if SPLITS.fullmatch(name) else name


def _refuse_twice(path: Path, name: str, seen: set[str]) -> None:
    if name in seen:
        raise CnnzooError(f"{path}: holds `{name}` twice; unpack the wanted folder and import that")
    seen.add(name)


def _folder_members(folder: Path, advance: Advance) -> Iterator[Member]:
    seen: set[str] = set()
    for path in _files(folder):
        name = _published_name(path.name)
        _refuse_twice(folder, name, seen)
        with path.open("rb") as file:
            size = path.stat().st_size
            yield Member(name, size, _chunks(folder, path.name, cast("IO[bytes]", _Counted(file, advance)), size))


def _zip_members(path: Path, advance: Advance) -> Iterator[Member]:
    seen: set[str] = set()
    with _damage_told(path), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith("/") or ".." in PurePosixPath(entry.filename).parts:
                raise CnnzooError(
                    f"{path}: `{entry.filename}` leads out of the archive's folder: nothing was taken from it"
                )
            name = _published_name(PurePosixPath(entry.filename).name)
            if entry.is_dir() or name not in MOST_BYTES:
                continue
            _refuse_twice(path, name, seen)
            with archive.open(entry) as content:
                yield Member(name, entry.file_size, _chunks(path, name, content, entry.file_size))
            advance(entry.compress_size)


def _archive_members(path: Path, advance: Advance) -> Iterator[Member]:
    seen: set[str] = set()
    with path.open("rb") as file, _damage_told(path):
        stream = _decompressed(file, advance)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as archive:
            while (entry := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # it grows, and archives may have millions
                _refuse_unsafe(path, entry)
                name = _published_name(PurePosixPath(entry.name).name)
                if not entry.isreg() or name not in MOST_BYTES:
                    continue
                _refuse_twice(path, name, seen)
                content = cast("IO[bytes]", archive.extractfile(entry))
                yield Member(name, entry.size, _chunks(path, name, content, entry.size))
        while stream.read(CHUNK_BYTES):  # what follows the last member, up to the checksum
            pass


class _Entry(tarfile.TarInfo):
    """A member of an archive whose header may not make tarfile read gigabytes into memory: long names, sparse maps."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in READ_AT_ONCE and self.size > LONGEST_NAME:
            raise tarfile.ReadError(f"a header claims a name of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]

    def _refuse_sparse(self, *_: object) -> None:
        raise tarfile.ReadError(f"`{self.name}` is a sparse file")

    # Formats 0.0, 0.1 and 1.0 of sparse files, which tarfile finds in a member's further facts.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _refuse_unsafe(path: Path, entry: tarfile.TarInfo) -> None:
    fault = None
    if entry.name.startswith("/") or ".." in PurePosixPath(entry.name).parts:
        fault = "leads out of the archive's folder"
    elif entry.issym() or entry.islnk():
        fault = f"is a link to `{entry.linkname}`"
    elif entry.issparse() or not (entry.isreg() or entry.isdir()):
        fault = "is neither a plain file nor a folder"
    if fault:
        raise CnnzooError(
            f"{path}: `{entry.name}` {fault}: no published collection holds such a thing, so nothing was taken from "
            "it. Download it again from where you trust it, or unpack it yourself and import the folder."
        )


def _decompressed(file: IO[bytes], advance: Advance) -> IO[bytes]:
    start = file.read(max(map(len, DECOMPRESSORS)))
    file.seek(0)
    counted = cast("IO[bytes]", _Counted(file, advance))
    for magic, opener in DECOMPRESSORS.items():
        if start.startswith(magic):
            return cast("IO[bytes]", opener(counted))
    return counted


class _Counted:
    """A file that reports how many bytes were read."""

    closed = False
    """What pyarrow asks before it reads."""

    def __init__(self, file: IO[bytes], advance: Advance) -> None:
        self._file, self._advance = file, advance

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        data = self._file.read(size)
        self._advance(len(data))
        return data


def _chunks(source: Path, name: str, file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the content of one file; raises `CnnzooError` if it has not exactly `size` bytes."""
    count = 0
    while True:
        with _damage_told(source):
            chunk = file.read(CHUNK_BYTES)
        if not chunk:
            break
        count += len(chunk)
        yield chunk
    if count != size:
        raise CnnzooError(f"{source}: `{name}` ends after {count} of {size} bytes. {_REMEDY}")


_REMEDY = "Download it again, and compare its size with the server's."


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what decompressors and tarfile raise on damaged data into a `CnnzooError`; faults of the machine pass."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        EOFError,
        zlib.error,
        ValueError,
        RecursionError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:  # a zip that points before its begin
            raise
        raise CnnzooError(
            f"{path}: not a whole tar archive (plain, or compressed with xz, gzip, bzip2 or zstd) or zip archive "
            f"({error}). {_REMEDY}"
        ) from error
