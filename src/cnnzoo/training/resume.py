"""Resume points: the state of a cohort between two steps, so that a kill costs minutes, not hours.

Shape letters: N networks, P parameters.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cnnzoo.core.atomic import atomic_file
from cnnzoo.zoo.shards import SUFFIX, digest_of

ENGINE = "engine."


@dataclass(frozen=True)
class Saved:
    """What training goes on from."""

    epoch: int
    """Epochs that are done."""
    step: int
    """Steps of the next epoch that are done."""
    state: dict[str, NDArray[np.float32]]
    """The engine's, (N, P) each."""
    history: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ResumePoint:
    """The file of one cohort's resume point, named like its shard: it fits that shard's training and no other."""

    folder: Path
    shard: str

    @property
    def path(self) -> Path:
        """Where the point lies while the cohort trains."""
        return self.folder / f"{self.shard}{SUFFIX}"

    def save(
        self, epoch: int, step: int, state: Mapping[str, NDArray[np.float32]], history: Mapping[str, NDArray[Any]]
    ) -> None:
        """Write the state after `epoch` epochs and `step` steps: the engine's (N, P) each, and the history's arrays."""
        arrays = {f"{ENGINE}{name}": array for name, array in state.items()} | dict(history)
        self.keep(save(arrays, {"epoch": str(epoch), "step": str(step), "sha256": digest_of(arrays)}))

    def keep(self, content: bytes) -> None:
        """Write the file of a point, whole or not at all."""
        with atomic_file(self.path) as file:
            file.write(content)

    def load(self) -> Saved | None:
        """Return what was saved, or None if there is no point to resume from.

        A damaged point is left unused with a warning: training from the start gives the same bits.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
                metadata = file.metadata() or {}
            epoch, step = int(metadata["epoch"]), int(metadata.get("step", "0"))
            if digest_of(arrays) != metadata["sha256"]:
                raise ValueError("its digest does not match")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            logging.getLogger(__name__).warning("%s: damaged (%s); its cohort starts again", self.path, error)
            return None
        state = {name.removeprefix(ENGINE): array for name, array in arrays.items() if name.startswith(ENGINE)}
        history = {name: array for name, array in arrays.items() if not name.startswith(ENGINE)}
        return Saved(epoch, step, state, history)

    def delete(self) -> None:
        """Forget the point: its shard is written."""
        self.path.unlink(missing_ok=True)
