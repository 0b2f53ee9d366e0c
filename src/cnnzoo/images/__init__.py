"""Data sets of small images: where they come from, how they are read, what the networks see."""

from collections.abc import Sequence
from pathlib import Path

from cnnzoo.images.imageset import NUM_CLASSES, ImageSet, network_input

__all__ = ["NUM_CLASSES", "ImageSet", "network_input", "prepare"]


def prepare(dataset: str, mirrors: Sequence[str], downloads: Path) -> ImageSet:
    """Return a data set of the registry, downloaded if needed, and checked.

    Files are looked for in `downloads`/<dataset>, then in `mirrors` (local folders or URLs that hold
    <dataset>/<file>), then at the public addresses; what comes over the network is kept in `downloads`. Nothing is
    fetched that is already there. Raises `CnnzooError` that lists what happened at each place, and the remedy.
    """
    # Imported here: training needs image sets, but neither scipy nor the network (0.4 s of imports).
    from cnnzoo.images import registry

    return registry.prepare(dataset, mirrors, downloads)
