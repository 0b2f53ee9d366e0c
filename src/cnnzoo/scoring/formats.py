"""Tensors from files: .npy, .npz, .safetensors, torch's .pt and .pth, Keras's .h5, .weights.h5 and .keras.

No reader runs code from a file or opens another file: NumPy without pickle, torch with `weights_only=True`, HDF5 data
sets that lie in the file itself. What an archive unpacks to is looked at before it is unpacked.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.errors import CnnzooError

MOST_BYTES = 1 << 30
"""What is unpacked into memory of one file at most."""
KERAS_WEIGHTS, KERAS_CONFIG = "model.weights.h5", "config.json"
NUMBERS = "fiub"
"""Kinds of NumPy types that are numbers or truth values: their size in a file is their size in memory."""
STATE_DICTS = ("state_dict", "model_state_dict")
"""Where checkpoints keep the tensors of the network, beside those of its training."""
ROOTS = ("layers", "model_weights")
"""Groups of a Keras file that hold the layers' weights (Keras 3, Keras 2 whole models), beside the optimizer's."""
NOT_WEIGHTS = re.compile(r"(^|/)(seed_generator|optimizer|optimizer_weights)(/|$)")
"""What lies between them: Keras 3 keeps the random state of dropout layers."""


@dataclass(frozen=True)
class Tensors:
    """What a file holds."""

    values: Mapping[str, NDArray[Any]]
    """By name, in the file's order; a .npy file has one, without a name."""
    ordered: bool
    """Whether the file's order is that of the layers; formats that sort by name have none."""
    activation: str | None = None
    """If the file tells it."""


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a file.

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
        raise CnnzooError(f"{path}: cannot be read, damaged or of another kind ({reason})") from error


def _reader(path: Path) -> Callable[[Path], Tensors]:
    for ending, reader in READERS.items():
        if path.name.endswith(ending):
            return reader
    raise CnnzooError(f"{path}: unknown kind of file. Known: {', '.join(READERS)}")


def _read_npy(path: Path) -> Tensors:
    return Tensors({"": np.lib.format.open_memmap(path, mode="r")}, ordered=True)


def _read_npz(path: Path) -> Tensors:
    _check_members(path)
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            raise CnnzooError(f"{path}: `{name}` is no array")
    return Tensors(values, ordered=True)


def _read_safetensors(path: Path) -> Tensors:
    from safetensors.numpy import load_file  # noqa: PLC0415 - each reader imports what it needs

    return Tensors(load_file(path), ordered=False)


def _read_torch(path: Path) -> Tensors:
    import torch  # noqa: PLC0415

    if zipfile.is_zipfile(path):
        _check_members(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise CnnzooError(
            f"{path}: holds more than tensors (a pickle that could run code), so it is not opened; save "
            "`network.state_dict()` instead of the network"
        ) from error
    for key in STATE_DICTS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise CnnzooError(f"{path}: expected a state_dict (names to tensors), got {type(content).__name__}")
    _check_sizes(path, {name: value.numel() * value.element_size() for name, value in content.items()})
    floats = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in content.items()}
    return Tensors({name: value.detach().numpy() for name, value in floats.items()}, ordered=True)


def _read_keras(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if KERAS_WEIGHTS not in names:
            raise CnnzooError(f"{path}: no `{KERAS_WEIGHTS}` inside; expected a model that Keras saved")
        wanted = {KERAS_WEIGHTS, KERAS_CONFIG} & set(names)
        _check_sizes(path, {name: archive.getinfo(name).file_size for name in wanted})
        weights = io.BytesIO(archive.read(KERAS_WEIGHTS))
        config = json.loads(archive.read(KERAS_CONFIG)) if KERAS_CONFIG in names else {}
    return _read_hdf5(path, weights, config)


def _read_h5(path: Path) -> Tensors:
    return _read_hdf5(path, path, None)


def _read_hdf5(path: Path, source: Path | io.BytesIO, config: Any) -> Tensors:
    """Read a Keras file; without `config`, its own attribute is taken, which whole models have."""
    import h5py  # noqa: PLC0415

    found: dict[str, NDArray[Any]] = {}
    sizes: dict[str, int] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or NOT_WEIGHTS.search(name):
            return
        if item.external or item.is_virtual:
            raise CnnzooError(f"{path}: `{name}` lies in another file; only what the file itself holds is read")
        if item.dtype.kind not in NUMBERS:
            raise CnnzooError(f"{path}: `{name}` holds no numbers but {item.dtype}")
        sizes[name] = item.nbytes
        _check_sizes(path, sizes)
        found[name] = item[()]

    with h5py.File(source, "r") as file:
        for name in ROOTS:
            if name in file and not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise CnnzooError(f"{path}: `{name}` is a link; only what the file itself holds is read")
        root = next((file[name] for name in ROOTS if name in file), file)
        root.visititems(visit)
        known = json.loads(file.attrs.get("model_config", "{}")) if config is None else config
    return Tensors(found, ordered=False, activation=_find_activation(path, known))


def _check_members(path: Path) -> None:
    """Raise `CnnzooError` if the members of a zip archive unpack to too much."""
    with zipfile.ZipFile(path) as archive:
        _check_sizes(path, {member.filename: member.file_size for member in archive.infolist()})


def _check_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    """Raise `CnnzooError` if parts of a file, bytes by name, are too large together: small files may claim much."""
    if (total := sum(sizes.values())) > MOST_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise CnnzooError(
            f"{path}: unpacks to {total >> 20} MiB, most of it in `{largest}`; no network of this family has more than "
            f"{MOST_BYTES >> 20} MiB"
        )


def _find_activation(path: Path, config: Any) -> str | None:
    """Return the activation of the convolutions in a Keras model's configuration, None without one.

    Raises `CnnzooError` for convolutions that are not those of the family.
    """
    layers = list(_layers(config))
    named = set()
    for kind, settings in layers:
        if kind == "Conv2D":
            _check_convolution(path, settings)
            named.add(settings.get("activation"))
    if named == {"linear"}:
        named = {s.get("activation") for kind, s in layers if kind == "Activation"} - {"softmax"}
        named |= {"relu" for kind, _ in layers if kind == "ReLU"}
    if len(named) > 1:
        raise CnnzooError(f"{path}: its convolutions have several activations: {', '.join(sorted(map(str, named)))}")
    (activation,) = named or {None}
    return None if activation is None else str(activation)


def _layers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and settings of each layer."""
    inner = config.get("config") if isinstance(config, dict) else None
    for layer in inner.get("layers", []) if isinstance(inner, dict) else []:
        if isinstance(layer, dict) and isinstance(layer.get("config"), dict):
            yield str(layer.get("class_name")), layer["config"]


def _check_convolution(path: Path, settings: Mapping[str, Any]) -> None:
    for name, wanted in (("strides", [2, 2]), ("padding", "valid"), ("dilation_rate", [1, 1]), ("groups", 1)):
        got = settings.get(name, wanted)
        if got != wanted:
            raise CnnzooError(
                f"{path}: convolution `{settings.get('name')}` has {name} {got}; those of the family have {wanted}"
            )


READERS: dict[str, Callable[[Path], Tensors]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".keras": _read_keras,
    ".h5": _read_h5,
}
"""Readers by the end of a file's name."""
