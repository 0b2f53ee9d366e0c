"""Readers of the formats in which the data sets are published. Nothing is unpickled, nothing is extracted to disk.

Sizes are known beforehand and bound what is read, so a small malicious file cannot fill the memory.
Each reader raises `CnnzooError` that names the file if it is not in the expected format.

Shape letters: B images, H W pixels, C colour channels.
"""

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.content import ContentError, chunks
from cnnzoo.images.imageset import ImageSet

IDX_MOST_BYTES = 100_000_000
IDX_UINT8 = 0x08

CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_TRAIN = tuple(f"{CIFAR_FOLDER}/data_batch_{i}.bin" for i in range(1, 6))
CIFAR_TEST = (f"{CIFAR_FOLDER}/test_batch.bin",)
CIFAR_SHAPE = (3, 32, 32)
CIFAR_RECORD_BYTES = 1 + prod(CIFAR_SHAPE)  # the label, then the red, green and blue plane
CIFAR_BATCH_MOST_BYTES = 10_000 * CIFAR_RECORD_BYTES
CIFAR_MOST_BYTES = 6 * CIFAR_BATCH_MOST_BYTES + 1_000_000  # all batches, and what a tar adds

SVHN_SHAPE = (32, 32, 3)
SVHN_MOST_IMAGES = 100_000


def idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of uint8, gzipped or not, with the given number of dimensions.

    Format: two zero bytes, the type, the number of dimensions, the dimensions as big-endian uint32, the values.
    """
    try:
        content = b"".join(chunks(path, gunzip=True, most_bytes=IDX_MOST_BYTES))
    except ContentError as error:
        raise CnnzooError(f"{path}: {error}") from error
    magic = bytes([0, 0, IDX_UINT8, dimensions])
    header_bytes = 4 + 4 * dimensions
    if content[:4] != magic:
        raise CnnzooError(
            f"{path}: an IDX file of uint8 in {dimensions} dimensions starts with {magic.hex()}, "
            f"this one with {content[:4].hex()}"
        )
    if len(content) < header_bytes:
        raise CnnzooError(f"{path}: truncated in its header")
    shape = struct.unpack(f">{dimensions}I", content[4:header_bytes])
    if len(content) - header_bytes != prod(shape):
        raise CnnzooError(
            f"{path}: its header promises {shape}, {prod(shape)} values, got {len(content) - header_bytes}"
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def idx_set(paths: Sequence[Path]) -> ImageSet:
    """Read the four IDX files of a set like MNIST: training images, training labels, test images, test labels."""
    train_images, train_labels, test_images, test_labels = paths
    return ImageSet(
        idx(train_images, 3)[..., np.newaxis],  # (B, H, W, 1)
        idx(train_labels, 1),
        idx(test_images, 3)[..., np.newaxis],
        idx(test_labels, 1),
    )


class _Bounded(io.RawIOBase):
    """A stream that raises an error after `most_bytes`."""

    def __init__(self, stream: gzip.GzipFile, most_bytes: int) -> None:
        self._stream = stream
        self._left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise ContentError("its content is too long for a CIFAR-10 archive")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def cifar10_archive(paths: Sequence[Path]) -> ImageSet:
    """Read the CIFAR-10 binary archive (tar.gz); members are known by their exact names, all others are ignored."""
    (path,) = paths
    try:
        batches = _tar_members(path, CIFAR_TRAIN + CIFAR_TEST)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ContentError) as error:
        raise CnnzooError(f"{path}: not a sound tar.gz archive of CIFAR-10 ({error})") from error
    missing = [name for name in CIFAR_TRAIN + CIFAR_TEST if name not in batches]
    if missing:
        raise CnnzooError(f"{path}: has no file {', '.join(missing)}")
    for name, batch in batches.items():
        if not batch or len(batch) % CIFAR_RECORD_BYTES:
            raise CnnzooError(f"{path}: {name} has {len(batch)} bytes, not a multiple of {CIFAR_RECORD_BYTES}")
    train_images, train_labels = _cifar10_records(b"".join(batches[name] for name in CIFAR_TRAIN))
    return ImageSet(train_images, train_labels, *_cifar10_records(b"".join(batches[name] for name in CIFAR_TEST)))


def _tar_members(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Return the content of the named regular files of a tar.gz, read front to back in memory."""
    members = {}
    with gzip.open(path) as unzipped:
        bounded = io.BufferedReader(_Bounded(unzipped, CIFAR_MOST_BYTES))
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for member in tar:
                if member.name not in names or not member.isreg():
                    continue
                if member.name in members or member.size > CIFAR_BATCH_MOST_BYTES:
                    raise ContentError(f"{member.name} occurs twice or is too long")
                content = tar.extractfile(member)
                members[member.name] = content.read() if content else b""
    return members


def _cifar10_records(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD_BYTES)
    planes = records[:, 1:].reshape(-1, *CIFAR_SHAPE)  # (B, C, H, W)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].copy()


def svhn_set(paths: Sequence[Path]) -> ImageSet:
    """Read the two .mat files of the cropped Street View House Numbers: training, test."""
    train, test = paths
    return ImageSet(*svhn_mat(train), *svhn_mat(test))


def svhn_mat(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read images (B, H, W, C) and labels (B,) of a MATLAB file with `X` (H, W, C, B) and `y` (B, 1).

    The digit 0 has the label 10 in the file and 0 here.
    """
    try:
        found = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        count = found.get("X", ((0,), ""))[0][-1]
        wanted = {"X": ((*SVHN_SHAPE, count), "uint8"), "y": ((count, 1), "uint8")}
        if any(found.get(name) != declared for name, declared in wanted.items()) or count > SVHN_MOST_IMAGES:
            raise ContentError(f"expected {wanted}, found {found}")
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"], arrays["y"].ravel()
    except Exception as error:  # on damaged input scipy raises whatever its reader stumbles over
        raise CnnzooError(f"{path}: not a MATLAB file of cropped SVHN digits ({error})") from error
    if not ((labels >= 1) & (labels <= 10)).all():
        raise CnnzooError(f"{path}: SVHN labels are 1 to 10 (10 is the digit 0), got {np.unique(labels).tolist()}")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.uint8)
