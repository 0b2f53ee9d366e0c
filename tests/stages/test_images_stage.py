"""Stage `images`: one data set, from the mirrors of params.yaml, checked, to its own file."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import make_images
from cnnzoo.errors import CnnzooError
from cnnzoo.images import registry
from cnnzoo.images.content import PublishedFile
from small_project import SmallProject

DATASET = "fashion_mnist"
IMAGES = make_images(train=12, test=7, seed=3)


def idx(array: np.ndarray) -> bytes:
    """Return an array in the format of the MNIST files."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


CONTENTS = [
    idx(a) for a in (IMAGES.train_images[..., 0], IMAGES.train_labels, IMAGES.test_images[..., 0], IMAGES.test_labels)
]


@pytest.fixture(autouse=True)
def _small_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the published files small, and publish them nowhere."""
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


def holds_the_images(project: SmallProject) -> bool:
    with np.load(project.root / f"data/images/{DATASET}.npz") as arrays:
        return all(np.array_equal(arrays[name], getattr(IMAGES, name)) for name in arrays) and len(arrays) == 4


def test_a_mirror_of_params_yaml_is_read(tmp_path):
    put_files(tmp_path / "mirror")
    project = SmallProject(tmp_path)
    project.configure({"images.mirrors": [str(tmp_path / "empty"), str(tmp_path / "mirror")]})
    project.run("images", DATASET)
    assert set(project.files("data")) == {f"images/{DATASET}.npz"}
    assert holds_the_images(project)


def test_files_that_were_fetched_before_are_taken_from_the_downloads(tmp_path):
    put_files(tmp_path / "data" / "downloads")
    project = SmallProject(tmp_path)
    project.configure()
    project.run("images", DATASET)
    assert holds_the_images(project)


def test_without_a_mirror_every_place_that_was_searched_is_named(tmp_path):
    project = SmallProject(tmp_path)
    project.configure({"images.mirrors": [str(tmp_path / "mirror")]})
    with pytest.raises(CnnzooError) as caught:
        project.run("images", DATASET)
    for place in ("data/downloads/fashion_mnist", str(tmp_path / "mirror")):
        assert place in str(caught.value)
    assert not (tmp_path / "data" / "images").exists()
