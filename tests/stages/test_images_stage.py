"""Stage `images`: one data set, from the mirrors of params.yaml, checked, to its own file."""

import numpy as np
import pytest
from small_data_set import DATASET, IMAGES, publish, put_files

from cnnzoo.core.errors import CnnzooError
from small_project import SmallProject


@pytest.fixture(autouse=True)
def _small_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch)


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
