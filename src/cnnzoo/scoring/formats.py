"""Tensors from files, recognised by their content: NumPy's, safetensors, torch's and Keras's, under any ending.

No reader runs code from a file or opens another file: NumPy without pickle, torch with `weights_only=True`, HDF5 data
sets that lie in the file itself. What an archive unpacks to is looked at before it is unpacked.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError

MOST_BYTES = 1 << 30
"""What is unpacked into memory of one file at most."""
KERAS_WEIGHTS, KERAS_CONFIG = "model.weights.h5", "config.json"
NUMBERS = "fiub"
"""Kinds of NumPy types that are numbers or truth values: their size in a file is their size in memory."""
STATE_DICTS = ("state_dict", "model_state_dict")
"""Where checkpoints keep the tensors of the network, beside those of its training."""
DEEPEST = 4
"""How far down the mappings of a checkpoint networks are looked for."""
WHOLE_MODEL, LAYER_NAMES = "model_weights", "layer_names"
"""The group of the weights in a whole model of Keras 2, and the attribute that names its layers in order."""
TORCH_ONLY = ("BF16", "F8_E4M3", "F8_E5M2")
"""Types of safetensors that NumPy lacks."""
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
    """None if the file does not say."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Layers' own names by the place of their tensors, where a file has both."""


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a file.

    Raises `CnnzooError` that names the file if it is missing, damaged, of another kind, or holds more than tensors.
    """
    try:
        return _reader(path)(path)
    except CnnzooError:
        raise
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there") from error
    except IsADirectoryError as error:
        raise CnnzooError(f"{path}: a folder; give the files in it") from error
    except Exception as error:  # whatever a library raises for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CnnzooError(f"{path}: cannot be read, damaged or of another kind ({reason})") from error


def _reader(path: Path) -> Callable[[Path], Tensors]:
    """Return the reader for a file's content; raises `CnnzooError` if it is of no known kind."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second: an empty archive
        return _archive_reader(path)
    if start[8:9] == b"{":  # after the length of the header
        return _read_safetensors
    for magic, reader in MAGIC.items():
        if start.startswith(magic):
            return reader
    state = "empty" if not start else "cut off or of another kind"
    raise CnnzooError(f"{path}: {state}. Known are files of NumPy, safetensors, torch and Keras.")


def _archive_reader(path: Path) -> Callable[[Path], Tensors]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise CnnzooError(
            f"{path}: TorchScript, which holds code; save `module.state_dict()` with `torch.save` instead"
        )
    if any(name.endswith("data.pkl") for name in names):
        return _read_torch
    if any(name.endswith(".npy") for name in names):
        return _read_npz
    if KERAS_CONFIG in names or KERAS_WEIGHTS in names:
        return _read_keras
    raise CnnzooError(f"{path}: an archive without arrays of NumPy, a torch file or a model that Keras saved")


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
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a mapping
        if not any(kind in TORCH_ONLY for kind in kinds.values()):
            return Tensors({name: file.get_tensor(name) for name in kinds}, ordered=False)
    with safe_open(path, framework="pt") as file:  # NumPy lacks these types
        return Tensors({name: _as_numpy(file.get_tensor(name)) for name in kinds}, ordered=False)


def _read_torch(path: Path) -> Tensors:
    import torch

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
    network = _find_network(path, content)
    _check_sizes(path, {name: value.numel() * value.element_size() for name, value in network.items()})
    return Tensors({name: _as_numpy(value) for name, value in network.items()}, ordered=True)


def _find_network(path: Path, content: Any) -> dict[str, Any]:
    """Return the one mapping from names to tensors that is a network, of the mappings in a checkpoint."""
    found = _networks_in(content, ())
    for wanted in STATE_DICTS:
        found = {(wanted,): found[wanted,]} if (wanted,) in found else found
    if len(found) == 1:
        return next(iter(found.values()))
    listed = ", ".join("`" + ".".join(map(str, keys)) + "`" for keys in found)
    if found:
        raise CnnzooError(f"{path}: holds several networks ({listed}); save the one that is meant")
    plain = _tensors(content)
    if plain and len(plain) == len(content):
        return plain
    shown = f"one with {', '.join(map(repr, list(content)[:8]))}" if isinstance(content, Mapping) else "none"
    raise CnnzooError(f"{path}: expected a state_dict (names to tensors), got {type(content).__name__}, {shown}")


def _networks_in(content: Any, keys: tuple[Any, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the mappings with a convolution's kernel and a dense one, by the keys that lead to them."""
    tensors = _tensors(content)
    if {2, 4} <= {value.ndim for value in tensors.values()}:
        return {keys: tensors}
    if not isinstance(content, Mapping) or len(keys) == DEEPEST:
        return {}
    return {place: found for key in content for place, found in _networks_in(content[key], (*keys, key)).items()}


def _tensors(content: Any) -> dict[str, Any]:
    """Return what in a mapping is a tensor with a name."""
    import torch

    named = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in named if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _as_numpy(value: Any) -> NDArray[Any]:
    """Return a tensor as an array; bfloat16 and float8, which NumPy lacks, as float32."""
    wide = value.detach()
    return np.asarray((wide.float() if wide.is_floating_point() and wide.element_size() < 4 else wide).numpy())


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
    import h5py

    found: dict[str, NDArray[Any]] = {}
    sizes: dict[str, int] = {}
    titles: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        if NOT_WEIGHTS.search(name):
            return
        if not isinstance(item, h5py.Dataset):
            if isinstance(title := item.attrs.get("name"), str):
                titles[name] = title
            return
        if item.external or item.is_virtual:
            raise CnnzooError(f"{path}: `{name}` lies in another file; only what the file itself holds is read")
        if item.dtype.kind not in NUMBERS:
            raise CnnzooError(f"{path}: `{name}` holds no numbers but {item.dtype}")
        sizes[name] = item.nbytes
        _check_sizes(path, sizes)
        found[name] = item[()]

    with h5py.File(source, "r") as file:
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise CnnzooError(f"{path}: `{name}` is a link; only what the file itself holds is read")
        root = file.get(WHOLE_MODEL, file)
        root.visititems(visit)
        known = json.loads(file.attrs.get("model_config", "{}")) if config is None else config
        order = [name.decode() if isinstance(name, bytes) else str(name) for name in root.attrs.get(LAYER_NAMES, ())]
    activation = _find_activation(path, known)
    if not order:
        return Tensors(found, ordered=False, activation=activation, titles=titles)
    in_order = sorted(found, key=lambda name: order.index(top) if (top := name.split("/")[0]) in order else len(order))
    return Tensors({name: found[name] for name in in_order}, ordered=True, activation=activation)


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


MAGIC: dict[bytes, Callable[[Path], Tensors]] = {
    b"\x93NUMPY": _read_npy,
    b"\x89HDF\r\n\x1a\n": _read_h5,
    b"\x80": _read_torch,  # a pickle: torch's format before 1.6
}
"""Readers by the first bytes of a file."""
