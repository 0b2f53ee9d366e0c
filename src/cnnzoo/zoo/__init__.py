"""Collections: the files of a zoo in the published format of the Small CNN Zoo. Write, check, open.

A collection is a folder:
- `weights.npy`      float32 (R, P): one row per checkpoint, the checkpoints of a network one after the other
- `layout.csv`       where each parameter tensor lies in a row
- `metrics.csv.gz`   row i describes row i of the weights: hyperparameters, step, accuracies, losses
- `split.csv`        a permutation of the rows, the training half first, by network
- `diverged.csv`     the networks that diverged and therefore have no rows
- `manifest.json`    numbers, how the networks were trained, and the SHA-256 of the files above
- `README.md`        the data card: the same for people, and how to load it
The published archives hold the first three.
"""

from cnnzoo.zoo.checker import check, check_readable, claims_our_form
from cnnzoo.zoo.format import Half, write_split
from cnnzoo.zoo.reader import Collection
from cnnzoo.zoo.writer import Assembled, assemble, first_rows

__all__ = [
    "Assembled",
    "Collection",
    "Half",
    "assemble",
    "check",
    "check_readable",
    "claims_our_form",
    "first_rows",
    "write_split",
]
