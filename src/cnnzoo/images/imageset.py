"""One data set in memory: uint8 images and labels, training and test part, and the file that keeps it.

Shape letters: B images, H W pixels, C colour channels.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.atomic import atomic_file
from cnnzoo.core.errors import CnnzooError

NUM_CLASSES = 10
BLOCK = 2048
"""Images converted at a time."""
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 (B, H, W, C), labels uint8 (B,) below 10; checked when made, raises `CnnzooError`."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            _check_part(part, images, labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise CnnzooError(
                f"training and test images must have one shape, "
                f"got {self.train_images.shape[1:]} and {self.test_images.shape[1:]}"
            )

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.train_images.shape[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the content: names, shapes and bytes of all arrays."""
        digest = hashlib.sha256()
        for name in ARRAYS:
            array = getattr(self, name)
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz; the same content gives the same bytes.

        np.savez streams its members, and the headers of such depend on the version of Python's zipfile.
        """
        with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name in ARRAYS:
                member = io.BytesIO()
                np.lib.format.write_array(member, getattr(self, name), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getbuffer())

    @classmethod
    def load(cls, path: Path) -> "ImageSet":
        """Read what `save` wrote; raises `CnnzooError` if the file is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in ARRAYS})
        except FileNotFoundError as error:
            raise CnnzooError(f"{path}: not there; make it with `dvc repro images`") from error
        except (OSError, ValueError, KeyError, EOFError, SyntaxError, TokenError, zipfile.BadZipFile) as error:
            raise CnnzooError(f"{path}: damaged ({error}); delete it and run `dvc repro images` again") from error


def _check_part(part: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1] != images.shape[2]
        or images.shape[3] not in (1, 3)
    ):
        raise CnnzooError(f"{part} images must be uint8 (B, H, H, 1 or 3), got {images.dtype} {images.shape}")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or not len(labels):
        raise CnnzooError(
            f"{part} labels must be uint8 ({len(images)},) and not empty, got {labels.dtype} {labels.shape}"
        )
    if labels.max() >= NUM_CLASSES:
        raise CnnzooError(f"{part} labels must be below {NUM_CLASSES}, got {labels.max()}")


def network_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the networks see: (B, H, W, C) uint8 -> float32 (B, H, W), scaled to [-1, 1], mean over colours."""
    scale = (np.arange(256, dtype=np.float32) / np.float32(255)) * np.float32(2) - np.float32(1)
    seen = np.empty(images.shape[:3], dtype=np.float32)
    for start in range(0, len(images), BLOCK):  # numpy looks values up through 8-byte indices: bound their number
        block = slice(start, start + BLOCK)
        seen[block] = scale[images[block]].mean(axis=-1, dtype=np.float32)
    return seen
