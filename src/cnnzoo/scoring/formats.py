"""Tensors from files: .npy, .npz, .safetensors, torch's .pt and .pth, Keras's .h5, .weights.h5 and .keras.

No reader runs code from a file: NumPy without pickle, torch with `weights_only=True`, HDF5 data sets alone.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.errors import CnnzooError

MOST_BYTES = 1 << 30
"""Largest member of an archive that is unpacked into memory."""
KERAS_WEIGHTS, KERAS_CONFIG = "model.weights.h5", "config.json"
NO_PARAMETERS = ("optimizer", "optimizer_weights")
"""Groups of a Keras file that hold no weights of the network."""


@dataclass(frozen=True)
class Tensors:
    """What a file holds: tensors by name, in the file's order, and the activation if the file tells it."""

    values: Mapping[str, NDArray[Any]]
    activation: str | None = None


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a file; a .npy file has one, without a name.

    Raises `CnnzooError` that names the file for an unknown kind, a missing or damaged file, or one that holds pickles.
    """
    reader = _reader(path)
    try:
        return reader(path)
    except CnnzooError:
        raise
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there") from error
    except Exception as error:  # whatever a library raises for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CnnzooError(f"{path}: cannot be read as {''.join(path.suffixes[-2:])} ({reason})") from error


def _reader(path: Path) -> Callable[[Path], Tensors]:
    for ending, reader in READERS.items():
        if path.name.endswith(ending):
            return reader
    raise CnnzooError(f"{path}: unknown kind of file. Known: {', '.join(READERS)}")


def _read_npy(path: Path) -> Tensors:
    return Tensors({"": np.load(path, allow_pickle=False)})


def _read_npz(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as archive:
        return Tensors({name: archive[name] for name in archive.files})


def _read_safetensors(path: Path) -> Tensors:
    from safetensors.numpy import load_file  # noqa: PLC0415 - each reader imports what it needs

    return Tensors(load_file(path))


def _read_torch(path: Path) -> Tensors:
    import torch  # noqa: PLC0415

    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]  # a Lightning checkpoint
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CnnzooError(f"{path}: expected a state_dict (names to tensors), got {type(content).__name__}")
    floats = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in content.items()}
    return Tensors({name: value.detach().numpy() for name, value in floats.items()})


def _read_keras(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(_member(path, archive, KERAS_WEIGHTS))
        text = _member(path, archive, KERAS_CONFIG) if KERAS_CONFIG in archive.namelist() else b"{}"
    return Tensors(_read_data_sets(weights), _find_activation(json.loads(text)))


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise CnnzooError(f"{path}: no `{name}` inside; expected a model that Keras saved")
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise CnnzooError(f"{path}: `{name}` is larger than {MOST_BYTES >> 20} MiB: no network of this family")
    return archive.read(name)


def _read_hdf5(path: Path) -> Tensors:
    import h5py  # noqa: PLC0415

    with h5py.File(path, "r") as file:
        config = json.loads(file.attrs.get("model_config", "{}"))
    return Tensors(_read_data_sets(path), _find_activation(config))


def _read_data_sets(source: Path | io.BytesIO) -> dict[str, NDArray[Any]]:
    import h5py  # noqa: PLC0415

    found: dict[str, NDArray[Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.split("/", maxsplit=1)[0] not in NO_PARAMETERS:
            found[name] = item[()]

    with h5py.File(source, "r") as file:
        file.visititems(visit)
    return found


def _find_activation(config: Any) -> str | None:
    """Return the activation of the convolutions of a Keras model's configuration, if it is one and the same."""
    layers = config.get("config", {}).get("layers", []) if isinstance(config, dict) else []
    named = {layer.get("config", {}).get("activation") for layer in layers if layer.get("class_name") == "Conv2D"}
    (activation,) = named if len(named) == 1 else (None,)
    return activation if isinstance(activation, str) else None


READERS: dict[str, Callable[[Path], Tensors]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".keras": _read_keras,
    ".h5": _read_hdf5,
}
"""Readers by the end of a file's name."""
