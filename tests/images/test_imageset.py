import hashlib
import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import ImageSet, imageset, network_input

RNG = np.random.default_rng(3)


def image_set(channels: int = 3, **changes: np.ndarray) -> ImageSet:
    arrays = {
        "train_images": RNG.integers(0, 256, (6, 8, 8, channels), dtype=np.uint8),
        "train_labels": np.arange(6, dtype=np.uint8),
        "test_images": RNG.integers(0, 256, (4, 8, 8, channels), dtype=np.uint8),
        "test_labels": np.arange(4, dtype=np.uint8),
    }
    return ImageSet(**(arrays | changes))


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def test_a_saved_set_comes_back_whole(tmp_path: Path) -> None:
    images = image_set()
    images.save(tmp_path / "a.npz")
    loaded = ImageSet.load(tmp_path / "a.npz")
    assert loaded.digest == images.digest
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file.files) == set(ARRAYS)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(images, name))
            np.testing.assert_array_equal(file[name], getattr(images, name))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_set()
    images.save(tmp_path / "a.npz")
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    images.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("name", ARRAYS)
def test_any_changed_value_changes_the_digest(name: str) -> None:
    images = image_set()
    before = images.digest
    arrays = {key: getattr(images, key).copy() for key in vars(images) if key != "digest"}
    arrays[name].flat[-1] ^= 1
    assert ImageSet(**arrays).digest != before


def test_the_digest_is_that_of_names_shapes_and_all_bytes() -> None:
    """Written out: another formula would make all shards stale that are named after the digest."""
    count = 3000
    images = image_set(
        train_images=RNG.integers(0, 256, (count, 2, 2, 1), dtype=np.uint8),
        train_labels=RNG.integers(0, 10, count, dtype=np.uint8),
        test_images=RNG.integers(0, 256, (count + 1, 2, 2, 1), dtype=np.uint8)[::-1],
        test_labels=RNG.integers(0, 10, count + 1, dtype=np.uint8),
    )
    content = b"train_images(3000, 2, 2, 1)" + images.train_images.tobytes()
    content += b"train_labels(3000,)" + images.train_labels.tobytes()
    content += b"test_images(3001, 2, 2, 1)" + images.test_images.tobytes()
    content += b"test_labels(3001,)" + images.test_labels.tobytes()
    assert images.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((6, 8, 8, 3), np.float32)}, "train images must be uint8"),
        ({"test_images": np.zeros((4, 8, 9, 3), np.uint8)}, "test images must be uint8"),
        ({"test_images": np.zeros((4, 8, 8, 2), np.uint8)}, "test images must be uint8"),
        ({"test_images": np.zeros((4, 8, 8, 1), np.uint8)}, "must have one shape"),
        ({"train_labels": np.zeros(5, np.uint8)}, "train labels must be uint8"),
        ({"train_labels": np.zeros(6, np.int64)}, "train labels must be uint8"),
        ({"test_labels": np.full(4, 10, np.uint8)}, "test labels must be below 10, got 10"),
        ({"test_images": np.zeros((0, 8, 8, 3), np.uint8), "test_labels": np.zeros(0, np.uint8)}, "not empty"),
    ],
)
def test_what_is_not_an_image_set_is_refused(changes, message: str) -> None:
    with pytest.raises(CnnzooError, match=message):
        image_set(**changes)


def test_a_missing_or_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    with pytest.raises(CnnzooError, match=r"toy.npz: not there; make it with `dvc repro images`"):
        ImageSet.load(path)
    image_set().save(path)
    whole = path.read_bytes()
    malformed = io.BytesIO()
    with zipfile.ZipFile(malformed, "w") as archive:  # a header that Python's tokenizer gives up on
        archive.writestr("train_images.npy", b"\x93NUMPY\x01\x00\x06\x00(((((\n")
    for damaged in (
        malformed.getvalue(),
        whole[:-200],
        whole[:600] + b"x" * 50 + whole[650:],
        b"",
        b"text",
        b"\x80\x04N.",
    ):
        path.write_bytes(damaged)
        with pytest.raises(CnnzooError, match=r"toy.npz: damaged .*; delete it and run `dvc repro images` again"):
            ImageSet.load(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_network_input_is_the_mean_over_colours_in_minus_one_to_one(channels: int) -> None:
    images = image_set(channels).train_images
    seen = network_input(images)
    assert seen.dtype == np.float32
    assert seen.shape == (6, 8, 8)
    np.testing.assert_allclose(seen, (images.astype(np.float64) / 255 * 2 - 1).mean(axis=-1), rtol=0, atol=2e-7)


def test_every_block_of_images_is_converted() -> None:
    images = RNG.integers(0, 256, (2 * imageset.BLOCK + 1, 3, 3, 1), dtype=np.uint8)
    np.testing.assert_allclose(network_input(images), images[..., 0] / 255 * 2 - 1, rtol=0, atol=2e-7)


def test_black_and_white_are_the_ends_of_the_range() -> None:
    ends = np.stack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])
    np.testing.assert_array_equal(network_input(ends)[:, 0, 0], [-1.0, 1.0])
