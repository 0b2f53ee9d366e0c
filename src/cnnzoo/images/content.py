"""The content of a published file: read through its gzip wrapper, never past its known size, checked by SHA-256.

The digest is that of the uncompressed content, so that a mirror which compressed the same bytes again is as good.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.core.errors import CnnzooError

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class PublishedFile:
    """One file of a data set: its name at the addresses, and the size in bytes and SHA-256 of its content."""

    name: str
    size: int
    sha256: str
    gzipped: bool = False
    """Whether the content is what the gzip wrapper holds; an archive is its own content."""

    @property
    def content_name(self) -> str:
        """The name of the content without its wrapper: the name under which a download is kept."""
        return self.name.removesuffix(".gz") if self.gzipped else self.name

    @property
    def most_bytes(self) -> int:
        """The largest possible download: deflate adds 5 bytes to a block of 64 KiB that it cannot shrink."""
        return self.size + self.size // 1000 + 1024 if self.gzipped else self.size


class ContentError(CnnzooError):
    """A file does not hold what it should; the message says why, the caller says which file."""


def chunks(path: Path, *, gunzip: bool, most_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file; with `gunzip`, those inside the gzip wrapper if it has one.

    Raises `ContentError` for a damaged wrapper and for content beyond `most_bytes` (a decompression bomb).
    """
    total = 0
    with path.open("rb") as raw:
        wrapped = gunzip and raw.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        stream = gzip.GzipFile(fileobj=raw) if wrapped else raw
        try:
            while chunk := stream.read(CHUNK_BYTES):
                total += len(chunk)
                if total > most_bytes:
                    raise ContentError(f"too long: its content must not exceed {most_bytes} bytes")
                yield chunk
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ContentError(f"truncated or damaged gzip file ({error})") from error


def check(path: Path, file: PublishedFile) -> None:
    """Raise `ContentError` unless the content of `path`, wrapped or not, is the published one."""
    size, digest = 0, hashlib.sha256()
    for chunk in chunks(path, gunzip=file.gzipped, most_bytes=file.size):
        size += len(chunk)
        digest.update(chunk)
    if size < file.size:
        raise ContentError(f"truncated: {size} of {file.size} bytes")
    if digest.hexdigest() != file.sha256:
        raise ContentError(f"altered: sha256 of its content is {digest.hexdigest()}, published is {file.sha256}")
