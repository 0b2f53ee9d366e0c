"""Data sets of small images: where they come from, how they are read, what the networks see."""

from cnnzoo.images.imageset import NUM_CLASSES, ImageSet, network_input

__all__ = ["NUM_CLASSES", "ImageSet", "network_input"]
