import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from image_server import Resource, Server, gz, published
from test_parsers import IMAGES, LABELS, TEST_IMAGES, TEST_LABELS, idx_contents

from cnnzoo import config
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import prepare, registry

MIRROR = Path(os.environ.get("CNNZOO_MIRROR", "no mirror"))
"""A folder with the published files as `<dataset>/<file>`, for who has them."""


def test_params_may_name_exactly_the_data_sets_of_the_registry() -> None:
    assert set(registry.DATASETS) == set(get_args(config.Dataset))


def test_every_record_is_complete() -> None:
    for name, record in registry.DATASETS.items():
        assert record.source, name
        assert record.licence, name
        assert bool(record.files) == bool(record.addresses), name
        assert all(address.startswith(("https://", "http://")) and address[-1] == "/" for address in record.addresses)
        for file in record.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
            assert file.gzipped == file.name.endswith("ubyte.gz")


PUBLISHED = {
    "mnist5k": (4_000, 1_000, 28, 1),
    "mnist5k_32": (4_000, 1_000, 32, 1),
    "mnist": (60_000, 10_000, 28, 1),
    "fashion_mnist": (60_000, 10_000, 28, 1),
    "cifar10": (50_000, 10_000, 32, 3),
    "svhn_cropped": (73_257, 26_032, 32, 3),
}
"""Training images, test images, pixels on a side, colours, as the authors of the data sets state them."""


def test_extents_are_the_published_ones() -> None:
    extents = {name: record.extent for name, record in registry.DATASETS.items()}
    assert {name: (e.train, e.test, e.side, e.colours) for name, e in extents.items()} == PUBLISHED


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_idx_files_have_the_sizes_of_their_contents(dataset: str) -> None:
    """Published uncompressed sizes: 47,040,016, 60,008, 7,840,016 and 10,008 bytes."""
    files = registry.DATASETS[dataset].files
    assert [file.size for file in files] == [47_040_016, 60_008, 7_840_016, 10_008]
    words = [("train", "images"), ("train", "labels"), ("t10k", "images"), ("t10k", "labels")]
    for file, (half, kind) in zip(files, words, strict=True):
        assert file.name.startswith(f"{half}-{kind}-idx")


def test_svhn_is_read_from_its_training_and_then_its_test_file() -> None:
    assert [file.name for file in registry.DATASETS["svhn_cropped"].files] == ["train_32x32.mat", "test_32x32.mat"]


def test_an_unknown_data_set_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CnnzooError, match="no data set `imagenet`; the registry has mnist5k, mnist5k_32, mnist"):
        prepare("imagenet", [], tmp_path)


def test_a_data_set_is_fetched_from_a_mirror_and_parsed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = registry.DATASETS["mnist"]
    contents = idx_contents()
    files = tuple(published(file.name, content) for file, content in zip(record.files, contents, strict=True))
    monkeypatch.setitem(registry.DATASETS, "mnist", replace(record, files=files, addresses=()))
    for file, content in zip(files, contents, strict=True):
        server.resources[f"/mnist/{file.name}"] = Resource(gz(content))
    images = prepare("mnist", [server.url], tmp_path)
    np.testing.assert_array_equal(images.train_images, IMAGES[..., None])
    np.testing.assert_array_equal(images.train_labels, LABELS)
    np.testing.assert_array_equal(images.test_images, TEST_IMAGES[..., None])
    np.testing.assert_array_equal(images.test_labels, TEST_LABELS)
    assert prepare("mnist", [], tmp_path).digest == images.digest
    assert len(server.requests) == 4


@pytest.mark.slow
@pytest.mark.skipif(not MIRROR.is_dir(), reason="CNNZOO_MIRROR names no folder with the published files")
@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_the_published_files_of_a_local_mirror_are_read_in_place(tmp_path: Path, dataset: str) -> None:
    images = prepare(dataset, [str(MIRROR)], tmp_path / "downloads")
    assert images.train_images.shape == (60_000, 28, 28, 1)
    assert images.test_images.shape == (10_000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(images.test_labels), [1000] * 10 if dataset != "mnist" else MNIST_TEST)
    assert not (tmp_path / "downloads").exists()


MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
"""Digits 0 to 9 among the 10,000 test images, as the literature counts them."""


def test_image_sets_come_without_the_network_and_scipy() -> None:
    code = "import sys, cnnzoo.images; print({'requests', 'pooch', 'scipy', 'mlxtend', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
