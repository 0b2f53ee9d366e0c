"""A data set of the registry made small: its published files hold a few random images, and no address has them."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import make_images
from cnnzoo.images import registry
from cnnzoo.images.content import PublishedFile

DATASET = "fashion_mnist"
IMAGES = make_images(train=12, test=7, seed=3)


def idx(array: np.ndarray) -> bytes:
    """Return an array in the format of the MNIST files."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


CONTENTS = [
    idx(a) for a in (IMAGES.train_images[..., 0], IMAGES.train_labels, IMAGES.test_images[..., 0], IMAGES.test_labels)
]


def publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry have the small files."""
    record = registry.DATASETS[DATASET]
    files = tuple(
        PublishedFile(file.name, len(content), hashlib.sha256(content).hexdigest(), gzipped=True)
        for file, content in zip(record.files, CONTENTS, strict=True)
    )
    monkeypatch.setitem(registry.DATASETS, DATASET, replace(record, files=files, addresses=()))


def put_files(folder: Path) -> None:
    """Write the four published files below a mirror."""
    (folder / DATASET).mkdir(parents=True)
    for file, content in zip(registry.DATASETS[DATASET].files, CONTENTS, strict=True):
        (folder / DATASET / file.name).write_bytes(gzip.compress(content))
