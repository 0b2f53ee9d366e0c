import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import parsers

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 0], dtype=np.uint8)
TEST_IMAGES = np.random.default_rng(10).integers(0, 256, (4, 28, 28), dtype=np.uint8)
TEST_LABELS = np.array([2, 6, 5, 8], dtype=np.uint8)
IDX_ARRAYS = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)
"""What the four files hold, in the published order; the halves differ in number and content."""


def idx_bytes(array: NDArray[np.uint8], magic: int) -> bytes:
    return struct.pack(f">I{array.ndim}I", magic, *array.shape) + array.tobytes()


def idx_contents() -> list[bytes]:
    return [idx_bytes(array, 0x800 + array.ndim) for array in IDX_ARRAYS]


def write_idx_set(folder: Path, suffix: str = "") -> list[Path]:
    paths = [folder / f"{name}{suffix}" for name in ("train-images", "train-labels", "test-images", "test-labels")]
    for path, content in zip(paths, idx_contents(), strict=True):
        path.write_bytes(gzip.compress(content) if suffix else content)
    return paths


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_and_gzipped(tmp_path: Path, suffix: str) -> None:
    images = parsers.idx_set(write_idx_set(tmp_path, suffix))
    np.testing.assert_array_equal(images.train_images, IMAGES[..., None])
    np.testing.assert_array_equal(images.train_labels, LABELS)
    np.testing.assert_array_equal(images.test_images, TEST_IMAGES[..., None])
    np.testing.assert_array_equal(images.test_labels, TEST_LABELS)


def test_idx_pixels_are_read_row_by_row(tmp_path: Path) -> None:
    """A file written by hand: the header is big-endian, the first 28 values are the top row of the first image."""
    values = bytes(range(256)) * 4
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28]) + values[:784])
    (image,) = parsers.idx(path, 3)
    assert image[0].tolist() == list(range(28))
    assert (image[1, 0], image[27, 27]) == (28, 783 % 256)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(IMAGES, 0x801), "starts with 00000803, this one with 00000801"),
        (idx_bytes(IMAGES, 0xD03), "starts with 00000803, this one with 00000d03"),  # float32
        (b"<html>", "this one with 3c68746d"),
        (b"", "starts with 00000803"),
        (idx_bytes(IMAGES, 0x803)[:10], "truncated in its header"),
        (idx_bytes(IMAGES, 0x803)[:-1], r"promises \(7, 28, 28\), 5488 values, got 5487"),
        (idx_bytes(IMAGES, 0x803) + b"x", "5488 values, got 5489"),
        (struct.pack(">4I", 0x803, 2**31, 2**31, 2**31), "promises"),
        (gzip.compress(idx_bytes(IMAGES, 0x803), mtime=0)[:-9], "truncated or damaged gzip"),
        (gzip.compress(idx_bytes(IMAGES, 0x803), mtime=0)[:200] + b"garbage" * 900, "truncated or damaged gzip"),
        (gzip.compress(b"\0" * (parsers.IDX_MOST_BYTES + 1), 1, mtime=0), "too long"),
    ],
    ids=["magic of labels", "float", "html", "empty", "header", "short", "long", "vast", "cut", "damaged", "bomb"],
)
def test_a_file_that_is_not_idx_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images"
    path.write_bytes(content)
    with pytest.raises(CnnzooError, match=rf"train-images: .*{message}"):
        parsers.idx(path, 3)


def cifar_batch(labels: list[int], images: NDArray[np.uint8]) -> bytes:
    """The published record: the label, then the 1,024 red, the green, the blue values, each row by row."""
    records = b""
    for label, image in zip(labels, images, strict=True):
        records += bytes([label]) + image[:, :, 0].tobytes() + image[:, :, 1].tobytes() + image[:, :, 2].tobytes()
    return records


CIFAR_IMAGES = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
CIFAR_LABELS = [*range(10), 0, 9]
BATCH_NAMES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
CIFAR_MEMBERS = {
    f"cifar-10-batches-bin/{name}": cifar_batch(CIFAR_LABELS[2 * i : 2 * i + 2], CIFAR_IMAGES[2 * i : 2 * i + 2])
    for i, name in enumerate(BATCH_NAMES)
}


def write_tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_cifar_batches_are_read_in_order_whatever_their_order_in_the_archive(tmp_path: Path) -> None:
    members = [*reversed(CIFAR_MEMBERS.items()), ("cifar-10-batches-bin/readme.html", b"<html>")]
    images = parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", members)])
    np.testing.assert_array_equal(images.train_images, CIFAR_IMAGES[:10])
    np.testing.assert_array_equal(images.train_labels, CIFAR_LABELS[:10])
    np.testing.assert_array_equal(images.test_images, CIFAR_IMAGES[10:])
    np.testing.assert_array_equal(images.test_labels, CIFAR_LABELS[10:])


def test_names_that_leave_the_folder_write_nothing_and_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "a" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    first, *others = CIFAR_MEMBERS.items()
    link = tarfile.TarInfo("cifar-10-batches-bin/link")
    link.type, link.linkname = tarfile.SYMTYPE, "../../secret"
    hostile = [("../evil.bin", b"x"), (str(tmp_path / "absolute.bin"), b"x"), (link, b"")]
    parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", [*hostile, first, *others])])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == ["c.tar.gz"]
    (work / "cifar-10-batches-bin").mkdir()
    (work / first[0]).write_bytes(first[1])
    with pytest.raises(CnnzooError, match=r"has no file cifar-10-batches-bin/data_batch_1.bin$"):
        parsers.cifar10_archive([write_tar(tmp_path / "d.tar.gz", [(f"../up/{first[0]}", first[1]), *others])])


def test_a_link_in_place_of_a_batch_is_not_followed(tmp_path: Path) -> None:
    (name, _), *others = CIFAR_MEMBERS.items()
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.LNKTYPE, "cifar-10-batches-bin/data_batch_2.bin"
    with pytest.raises(CnnzooError, match="has no file"):
        parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", [*others, (link, b"")])])


def test_a_batch_of_a_broken_size_is_refused(tmp_path: Path) -> None:
    members = CIFAR_MEMBERS | {"cifar-10-batches-bin/data_batch_3.bin": b"\0" * 3074}
    with pytest.raises(CnnzooError, match=r"data_batch_3.bin has 3074 bytes, not a multiple of 3073"):
        parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", [*members.items()])])


def test_a_batch_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    members = [*CIFAR_MEMBERS.items()]
    with pytest.raises(CnnzooError, match="occurs twice"):
        parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", [*members, members[0]])])


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    batch = cifar_batch([0, 10], CIFAR_IMAGES[:2])
    members = CIFAR_MEMBERS | {"cifar-10-batches-bin/test_batch.bin": batch}
    with pytest.raises(CnnzooError, match="test labels must be below 10, got 10"):
        parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", [*members.items()])])


@pytest.mark.parametrize("damage", [lambda b: b[:-300], lambda b: b[:300] + b"x" * 100 + b[400:], lambda _: b"<html>"])
def test_a_damaged_archive_is_refused_by_name(tmp_path: Path, damage) -> None:
    path = write_tar(tmp_path / "c.tar.gz", [*CIFAR_MEMBERS.items()])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CnnzooError, match=r"c.tar.gz: not a sound tar.gz archive"):
        parsers.cifar10_archive([path])


def test_an_archive_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "CIFAR_MOST_BYTES", 100_000)
    members = [("other.bin", b"\0" * 200_000), *CIFAR_MEMBERS.items()]
    with pytest.raises(CnnzooError, match="too long for a CIFAR-10 archive"):
        parsers.cifar10_archive([write_tar(tmp_path / "c.tar.gz", members)])


SVHN_IMAGES = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
SVHN_LABELS = np.array([10, 1, 9, 10, 5], dtype=np.uint8)
SVHN_TEST_IMAGES = np.random.default_rng(12).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
SVHN_TEST_LABELS = np.array([7, 10, 2], dtype=np.uint8)


def write_mat(path: Path, **changes: NDArray[np.generic]) -> Path:
    content = {"X": np.moveaxis(SVHN_IMAGES, 0, -1), "y": SVHN_LABELS[:, None]} | changes
    savemat(path, content, do_compression=True)
    return path


def test_svhn_images_come_first_axis_first_and_label_ten_is_the_digit_zero(tmp_path: Path) -> None:
    other = {"X": np.moveaxis(SVHN_TEST_IMAGES, 0, -1), "y": SVHN_TEST_LABELS[:, None]}
    images = parsers.svhn_set([write_mat(tmp_path / "train.mat"), write_mat(tmp_path / "test.mat", **other)])
    np.testing.assert_array_equal(images.train_images, SVHN_IMAGES)
    np.testing.assert_array_equal(images.train_labels, [0, 1, 9, 0, 5])
    np.testing.assert_array_equal(images.test_images, SVHN_TEST_IMAGES)
    np.testing.assert_array_equal(images.test_labels, [7, 0, 2])
    assert images.train_images.flags.c_contiguous
    assert images.test_images.flags.c_contiguous


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.zeros((32, 32, 5), np.uint8)}, "expected"),
        ({"X": np.zeros((28, 28, 3, 5), np.uint8)}, "expected"),
        ({"X": np.zeros((32, 32, 3, 5), np.float64)}, "expected"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8)}, "expected"),
        ({"y": np.zeros((5, 1), np.uint8)}, r"labels are 1 to 10 .* got \[0\]"),
        ({"y": np.full((5, 1), 11, np.uint8)}, r"labels are 1 to 10 .* got \[11\]"),
    ],
)
def test_a_mat_file_of_another_make_is_refused_by_name(tmp_path: Path, changes, message: str) -> None:
    path = write_mat(tmp_path / "train_32x32.mat", **changes)
    with pytest.raises(CnnzooError, match=rf"train_32x32.mat: .*{message}"):
        parsers.svhn_mat(path)


@pytest.mark.parametrize("damage", [lambda b: b[:-500], lambda b: b[:200] + b"x" * 100 + b[300:], lambda _: b"<html>"])
def test_a_damaged_mat_file_is_refused_by_name(tmp_path: Path, damage) -> None:
    path = write_mat(tmp_path / "train_32x32.mat")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CnnzooError, match=r"train_32x32.mat: not a MATLAB file"):
        parsers.svhn_mat(path)
