"""Wrong labels: symmetric label noise, fixed before training (Zhang et al. 2017, arXiv 1611.03530).

Shape letters: M images of a training subset.
"""

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core import seeds
from cnnzoo.zoo.recipes import Recipe

CLASSES = 10


def noisy_labels(labels: NDArray[np.uint8], recipe: Recipe, collection: str) -> NDArray[np.uint8]:
    """Return the labels (M,) that a network trains on: of its share `label_noise`, each is one of the nine others.

    The images and their wrong labels are drawn once for the root seed, the collection and the training fraction; a
    larger share keeps the wrong labels of a smaller one and adds others.
    """
    if not recipe.label_noise:
        return labels
    random = seeds.generator(recipe.random_seed, "label_noise", collection, repr(recipe.train_fraction))
    order = random.permutation(len(labels))
    shifts = random.integers(1, CLASSES, len(labels))  # never 0: the label is always a wrong one
    wrong = order[: round(recipe.label_noise * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + shifts[wrong]) % CLASSES
    return noisy
