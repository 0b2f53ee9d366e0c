"""One network in every kind of file is read back bit for bit; files that are no such network are told apart.

The files are written with the libraries themselves; Keras's by hand with h5py, in the layouts that Keras 2 and 3 write
(keras/src/saving/saving_lib.py, keras/src/legacy/saving/legacy_h5_format.py).
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.network.module import SmallCNN
from cnnzoo.scoring import read_networks

LAYOUT = layout_of(Architecture())
ROW = np.random.default_rng(0).standard_normal(LAYOUT.size, dtype=np.float32)
NETWORK = SmallCNN.from_row(ROW, LAYOUT, "tanh")
KERAS_LAYERS = ("conv2d", "conv2d_1", "conv2d_2", "dense")


def published() -> dict[str, np.ndarray]:
    return {name: value.copy() for name, value in LAYOUT.split(ROW).items()}


def generic(*names: str) -> dict[str, torch.Tensor]:
    """The network's state_dict with other names of its layers."""
    values = list(NETWORK.state_dict().values())
    kinds = ("weight", "bias")
    return {f"{name}.{kind}": values[2 * i + k].clone() for i, name in enumerate(names) for k, kind in enumerate(kinds)}


def keras3(file: h5py.File, names: tuple[str, ...] = KERAS_LAYERS) -> None:
    for name, (bias, kernel) in zip(names, LAYOUT.layers, strict=True):
        file[f"layers/{name}/vars/0"] = published()[kernel.name]
        file[f"layers/{name}/vars/1"] = published()[bias.name]
    file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, dtype=np.uint32)
    file["optimizer/vars/0"] = np.int64(7)


def keras2(file: h5py.File, prefix: str) -> None:
    for name, (bias, kernel) in zip(KERAS_LAYERS, LAYOUT.layers, strict=True):
        file[f"{prefix}{name}/{name}/kernel:0"] = published()[kernel.name]
        file[f"{prefix}{name}/{name}/bias:0"] = published()[bias.name]
    file.create_group(f"{prefix}dropout")


def config(activation: str = "tanh", **changes: object) -> dict:
    convolution = {"activation": activation, "strides": [2, 2], "padding": "valid", "name": "conv2d", **changes}
    dense = {"class_name": "Dense", "config": {"activation": "linear"}}
    return {"class_name": "Sequential", "config": {"layers": [{"class_name": "Conv2D", "config": convolution}, dense]}}


def write_keras(path: Path, settings: dict) -> None:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        keras3(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".h5"), "model.weights.h5")
        archive.writestr("config.json", json.dumps(settings))


def write_h5(path: Path, write: Callable[[h5py.File], None], settings: dict | None = None) -> None:
    with h5py.File(path, "w") as file:
        write(file)
        if settings is not None:
            file.attrs["model_config"] = json.dumps(settings)


def sequential() -> dict[str, torch.Tensor]:
    """As torch.nn.Sequential would name it, with ten and more positions."""
    return generic("net.0", "net.3", "net.10", "net.13")


WRITERS: dict[str, Callable[[Path], object]] = {
    "row.npy": lambda path: np.save(path, ROW),
    "matrix.npy": lambda path: np.save(path, ROW[None].astype(np.float64)),
    "one.npz": lambda path: np.savez(path, weights=ROW),
    "published.npz": lambda path: np.savez(path, **published()),
    "published.safetensors": lambda path: safetensors.numpy.save_file(published(), path),
    "ours.safetensors": lambda path: safetensors.torch.save_file(NETWORK.state_dict(), path),
    "ours.pt": lambda path: torch.save(NETWORK.state_dict(), path),
    "sequential.pth": lambda path: torch.save(sequential(), path),
    "reversed.pt": lambda path: torch.save(dict(reversed(sequential().items())), path),
    "sequential.safetensors": lambda path: safetensors.torch.save_file(sequential(), path),
    "words.pt": lambda path: torch.save(generic("stem", "body", "attic", "head"), path),
    "lightning.pt": lambda path: torch.save({"epoch": 3, "state_dict": generic("c1", "c2", "c3", "fc")}, path),
    "keras3.weights.h5": lambda path: write_h5(path, keras3),
    "keras3_later.weights.h5": lambda path: write_h5(
        path, lambda file: keras3(file, ("conv2d_9", "conv2d_10", "conv2d_11", "dense_3"))
    ),
    "keras3_endless.weights.h5": lambda path: write_h5(
        path, lambda file: keras3(file, ("conv2d_9", "conv2d_10", f"conv2d_{5000 * '1'}", "dense_3"))
    ),
    "keras2.weights.h5": lambda path: write_h5(path, lambda file: keras2(file, "")),
    "keras2.h5": lambda path: write_h5(path, lambda file: keras2(file, "model_weights/"), config()),
    "keras3.keras": lambda path: write_keras(path, config()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_network_is_read_bit_for_bit_from_every_kind_of_file(name, tmp_path):
    WRITERS[name](tmp_path / name)
    (network,) = read_networks(tmp_path / name, LAYOUT)
    assert network.row.dtype == np.float32
    assert np.array_equal(network.row, ROW)
    assert network.activation == ("tanh" if name in {"keras2.h5", "keras3.keras"} else None)


def test_half_precision_and_bfloat16_are_read(tmp_path):
    for dtype in (torch.float16, torch.bfloat16):
        torch.save({name: value.to(dtype) for name, value in generic("a1", "a2", "a3", "d").items()}, tmp_path / "n.pt")
        (network,) = read_networks(tmp_path / "n.pt", LAYOUT)
        assert np.array_equal(network.row, torch.from_numpy(ROW).to(dtype).float().numpy())


def test_each_row_of_a_matrix_is_a_network(tmp_path):
    np.save(tmp_path / "m.npy", np.stack([ROW, 2 * ROW]))
    networks = read_networks(tmp_path / "m.npy", LAYOUT)
    assert [network.name.rpartition("/")[2] for network in networks] == ["m.npy[0]", "m.npy[1]"]
    assert np.array_equal(networks[1].row, 2 * ROW)


def test_another_architecture_of_the_collection_is_read(tmp_path):
    layout = layout_of(Architecture(num_units=4, num_layers=2))
    row = np.arange(layout.size, dtype=np.float32)
    torch.save(SmallCNN.from_row(row, layout, "relu").state_dict(), tmp_path / "n.pt")
    (network,) = read_networks(tmp_path / "n.pt", layout)
    assert np.array_equal(network.row, row)


def _save_npz(**changes: np.ndarray | None) -> Callable[[Path], object]:
    """Write the published tensors; `conv2d_bias=None` leaves one out."""
    tensors = published()
    for key, value in changes.items():
        name = f"sequential/{'/'.join(key.rsplit('_', 1))}:0"
        del tensors[name]
        if value is not None:
            tensors[name] = value
    return lambda path: np.savez(path, **tensors)


def _truncated(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:-600])

    return damage


def _pickled(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def _external(path: Path) -> None:
    path.with_name("secret").write_bytes(bytes(40))
    with h5py.File(path, "w") as file:
        keras3(file)
        del file["layers/dense/vars/1"]
        file.create_dataset("layers/dense/vars/1", (10,), "f4", external=[("secret", 0, 40)])


def _with_nan() -> np.ndarray:
    values = published()["sequential/dense/bias:0"]
    values[3] = np.nan
    return values


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "other length": ("n.npy", lambda path: np.save(path, ROW[:-1]), r"shape \(4969,\); wanted \(4970,\), or \(n, 4970"),
    "no rows": ("n.npy", lambda path: np.save(path, np.empty((0, 4970), np.float32)), r"shape \(0, 4970\)"),
    "whole numbers": ("n.npy", lambda path: np.save(path, np.zeros(4970, int)), "holds int64, wanted floating point"),
    "infinity": ("n.npy", lambda path: np.save(path, np.full(4970, np.inf)), "NaN or infinity"),
    "beyond float32": ("n.npy", lambda path: np.save(path, np.full(4970, 1e200)), "beyond float32"),
    "objects": ("n.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "n.npy: cannot be read"),
    "nan": ("n.npz", _save_npz(dense_bias=_with_nan()), "`sequential/dense/bias:0` holds NaN"),
    "no bias": ("n.npz", _save_npz(conv2d_1_bias=None), r"`sequential/conv2d_1` has .*\(3, 3, 16, 16\); wanted a bias"),
    "no layer": (
        "n.npz",
        _save_npz(conv2d_2_bias=None, conv2d_2_kernel=None),
        "2 convolutions and 1 dense layers .*conv2d_1/kernel.*; wanted 3 convolutions of 16 channels",
    ),
    "other channels": (
        "n.npz",
        _save_npz(conv2d_kernel=np.zeros((3, 3, 3, 16), np.float32)),
        r"`sequential/conv2d/kernel:0` has shape \(3, 3, 3, 16\), wanted \(3, 3, 1, 16\)",
    ),
    "other size in torch's order": (
        "n.pt",
        lambda path: torch.save(generic("a1", "a2", "a3", "d") | {"a2.weight": torch.zeros(8, 16, 3, 3)}, path),
        r"`a2.weight` has shape \(8, 16, 3, 3\), wanted \(16, 16, 3, 3\)",
    ),
    "no state_dict": ("n.pt", lambda path: torch.save([torch.zeros(2)], path), "expected a state_dict .* got list"),
    "a pickled module": ("n.pt", _pickled, "could run code.*, so it is not opened; save `network.state_dict"),
    "order unknown": (
        "n.safetensors",
        lambda path: safetensors.torch.save_file(generic("stem", "body", "attic", "head"), path),
        "which of .*`stem`.* comes first",
    ),
    "no layers at all": ("n.npz", lambda path: np.savez(path, a=ROW, b=ROW), r"layer `` has `a` \(4970,\) and `b`"),
    "truncated npy": ("n.npy", _truncated(WRITERS["row.npy"]), "n.npy: cannot be read"),
    "truncated npz": ("n.npz", _truncated(WRITERS["published.npz"]), "n.npz: cannot be read"),
    "truncated safetensors": (
        "n.safetensors",
        _truncated(WRITERS["ours.safetensors"]),
        "n.safetensors: cannot be read",
    ),
    "truncated pt": ("n.pt", _truncated(WRITERS["ours.pt"]), "n.pt: cannot be read"),
    "truncated h5": ("n.h5", _truncated(WRITERS["keras2.h5"]), "n.h5: cannot be read"),
    "truncated keras": ("n.keras", _truncated(WRITERS["keras3.keras"]), "n.keras: cannot be read"),
    "external data": ("n.h5", _external, "`layers/dense/vars/1` lies in another file"),
    "other activation": ("n.keras", lambda path: write_keras(path, config("elu")), "activation `elu`; the zoo has"),
    "other strides": (
        "n.keras",
        lambda path: write_keras(path, config(strides=[1, 1])),
        r"`conv2d` has strides \[1, 1\]; those of the family have \[2, 2\]",
    ),
    "unknown kind": (
        "n.onnx",
        lambda path: path.write_bytes(b"x"),
        "n.onnx: cut off or of another kind. Known are files of NumPy, safetensors",
    ),
    "nothing": ("n.npy", lambda path: None, "n.npy: not there"),
    "empty": ("n.h5", lambda path: path.touch(), "n.h5: empty"),
    "no keras": ("n.keras", lambda path: zipfile.ZipFile(path, "w").close(), "an archive without arrays"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_such_network_is_told(fault, tmp_path):
    name, write, message = FAULTS[fault]
    write(tmp_path / name)
    with pytest.raises(CnnzooError, match=message):
        read_networks(tmp_path / name, LAYOUT)


def deflate(source: Path, path: Path) -> None:
    """Write the members of an archive compressed, with one more that is mostly nothing."""
    with zipfile.ZipFile(source) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
        packed.writestr("zeros", bytes(10_000))


def test_what_holds_no_numbers_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "n.npz", "w") as archive:
        archive.writestr("notes.txt", "words")
        archive.writestr("a.npy", "words")
    with pytest.raises(CnnzooError, match=r"n\.npz: `(notes\.txt|a)` is no array"):
        read_networks(tmp_path / "n.npz", LAYOUT)
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file.create_dataset("words", (4,), h5py.string_dtype(), fillvalue="x" * 100)
    with pytest.raises(CnnzooError, match="`words` holds no numbers"):
        read_networks(tmp_path / "n.h5", LAYOUT)


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnzoo.scoring.formats.MOST_BYTES", 1000)
    np.savez_compressed(tmp_path / "n.npz", a=np.zeros(10_000))
    write_keras(tmp_path / "n.keras", config())
    write_h5(tmp_path / "n.h5", keras3)
    torch.save({"a": torch.zeros(1).expand(10_000), "b": torch.zeros(2)}, tmp_path / "n.pt")
    deflate(tmp_path / "n.pt", tmp_path / "n.pth")
    for name in ("n.npz", "n.keras", "n.h5", "n.pt", "n.pth"):
        with pytest.raises(CnnzooError, match="MiB, most of it in"):
            read_networks(tmp_path / name, LAYOUT)


def test_a_link_into_another_file_is_not_followed(tmp_path):
    write_h5(tmp_path / "other.weights.h5", keras3)
    with h5py.File(tmp_path / "link.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "other.weights.h5"), "/layers")
    with pytest.raises(CnnzooError, match=r"link\.weights\.h5: `layers` is a link"):
        read_networks(tmp_path / "link.weights.h5", layout_of(Architecture()))


def test_a_torch_file_with_nameless_tensors_is_refused(tmp_path):
    torch.save({0: torch.zeros(16), 1: torch.zeros(16)}, tmp_path / "numbers.pt")
    with pytest.raises(CnnzooError, match=r"numbers\.pt: expected a state_dict"):
        read_networks(tmp_path / "numbers.pt", layout_of(Architecture()))


def refused(path: Path, message: str) -> None:
    with pytest.raises(CnnzooError, match=message):
        read_networks(path, LAYOUT)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_a_checkpoint_holds_the_network_beside_its_training(key, tmp_path):
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, key: generic("c1", "c2", "c3", "fc"), "optimizer": optimizer}, tmp_path / "n.pt")
    (network,) = read_networks(tmp_path / "n.pt", LAYOUT)
    assert np.array_equal(network.row, ROW)


def test_kernels_whose_sides_are_equal_are_transposed_too(tmp_path):
    """Ten channels: the dense kernel is square, so its shape does not tell how it lies."""
    layout = layout_of(Architecture(num_units=10, num_layers=2))
    row = np.arange(layout.size, dtype=np.float32)
    tensors = {name.removeprefix("sequential/"): value for name, value in layout.split(row).items()}
    state = {}
    for ours, theirs in (("conv2d", "a1"), ("conv2d_1", "a2"), ("dense", "d")):
        kernel = tensors[f"{ours}/kernel:0"]
        turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        state[f"{theirs}.weight"] = torch.from_numpy(turned.copy())
        state[f"{theirs}.bias"] = torch.from_numpy(tensors[f"{ours}/bias:0"].copy())
    torch.save(state, tmp_path / "n.pt")
    np.savez(tmp_path / "n.npz", **{name.replace("/", "."): value for name, value in tensors.items()})
    for name in ("n.pt", "n.npz"):
        (network,) = read_networks(tmp_path / name, layout)
        assert np.array_equal(network.row, row)


def test_an_h5_file_sorts_by_name_so_words_do_not_tell_the_order_of_layers(tmp_path):
    write_h5(tmp_path / "n.weights.h5", lambda file: keras3(file, ("stem", "body", "attic", "head")))
    refused(tmp_path / "n.weights.h5", "which of .*`layers/attic/vars`.*comes first.*alike but for a number")


def test_the_optimizers_state_in_an_early_keras_file_is_no_layer(tmp_path):
    """Keras 2.12 to 2.15 keep the layers in `_layer_checkpoint_dependencies`, the optimizer beside it."""
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for name, (bias, kernel) in zip(KERAS_LAYERS, LAYOUT.layers, strict=True):
            file[f"_layer_checkpoint_dependencies/{name}/vars/0"] = published()[kernel.name]
            file[f"_layer_checkpoint_dependencies/{name}/vars/1"] = published()[bias.name]
        file["optimizer/vars/0"] = np.int64(7)
        file["optimizer/vars/1"] = np.float32(0.001)
        file["optimizer/vars/2"] = np.ones(16, dtype=np.float32)
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
        archive.write(tmp_path / "weights.h5", "model.weights.h5")
        archive.writestr("config.json", json.dumps(config("relu")))
    (network,) = read_networks(tmp_path / "n.keras", LAYOUT)
    assert np.array_equal(network.row, ROW)
    assert network.activation == "relu"


def layers(*kinds: tuple[str, dict]) -> dict:
    return {"class_name": "Sequential", "config": {"layers": [{"class_name": k, "config": c} for k, c in kinds]}}


CONVOLUTION = ("Conv2D", {"name": "conv2d", "activation": "linear"})
DENSE = ("Dense", {"activation": "linear"})
TOLD: dict[str, tuple[dict, str | None]] = {
    "relu in the convolutions": (config("relu"), "relu"),
    "tanh in the convolutions": (config("tanh"), "tanh"),
    "a softmax at the end": (
        layers(*[("Conv2D", {"activation": "relu"})] * 3, ("Dense", {"activation": "softmax"})),
        "relu",
    ),
    "a layer of its own": (
        layers(
            *[CONVOLUTION, ("Activation", {"activation": "tanh"})] * 3, DENSE, ("Activation", {"activation": "softmax"})
        ),
        "tanh",
    ),
    "a ReLU layer": (layers(*[CONVOLUTION, ("ReLU", {"max_value": None})] * 3, DENSE), "relu"),
    "dropout and pooling between": (
        layers(
            *[("Conv2D", {"activation": "tanh"}), ("Dropout", {"rate": 0.5})] * 3, ("GlobalAveragePooling2D", {}), DENSE
        ),
        "tanh",
    ),
    "no convolutions": (layers(DENSE), None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("name", TOLD)
def test_the_activation_is_what_the_configuration_says_of_the_convolutions(kind, name, tmp_path):
    settings, expected = TOLD[name]
    path = tmp_path / f"n.{kind}"
    if kind == "keras":
        write_keras(path, settings)
    else:
        write_h5(path, lambda file: keras2(file, "model_weights/"), settings)
    (network,) = read_networks(path, LAYOUT)
    assert network.activation == expected
    assert np.array_equal(network.row, ROW)


def test_an_archive_without_a_configuration_tells_no_activation(tmp_path):
    write_keras(tmp_path / "full.keras", config())
    with zipfile.ZipFile(tmp_path / "full.keras") as full, zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
        archive.writestr("model.weights.h5", full.read("model.weights.h5"))
    (network,) = read_networks(tmp_path / "n.keras", LAYOUT)
    assert network.activation is None


@pytest.mark.parametrize(
    "settings",
    [
        layers(("Conv2D", {"activation": "relu"}), ("Conv2D", {"activation": "tanh"}), DENSE),
        layers(CONVOLUTION, ("Activation", {"activation": "tanh"}), CONVOLUTION, ("ReLU", {}), DENSE),
    ],
)
def test_convolutions_with_several_activations_are_refused(settings, tmp_path):
    write_keras(tmp_path / "n.keras", settings)
    refused(tmp_path / "n.keras", "its convolutions have several activations: relu, tanh")


@pytest.mark.parametrize(
    ("name", "value"),
    [("strides", [1, 1]), ("strides", [2, 1]), ("padding", "same"), ("dilation_rate", [2, 2]), ("groups", 4)],
)
def test_each_setting_of_a_convolution_that_the_family_fixes_is_looked_at(name, value, tmp_path):
    write_keras(tmp_path / "n.keras", config(**{name: value}))
    refused(tmp_path / "n.keras", rf"convolution `conv2d` has {name} .*those of the family have")


def test_all_convolutions_are_looked_at_not_the_first_alone(tmp_path):
    good = ("Conv2D", {"name": "a", "activation": "relu", "strides": [2, 2]})
    bad = ("Conv2D", {"name": "b", "activation": "relu", "strides": [1, 1]})
    write_keras(tmp_path / "n.keras", layers(good, good, bad, DENSE))
    refused(tmp_path / "n.keras", r"convolution `b` has strides \[1, 1\]")


@pytest.mark.parametrize("names", [("c1", "c2", "c10", "fc"), ("2", "3", "10", "11"), ("x.0.a", "x.1.a", "x.2.a", "z")])
def test_layers_are_sorted_by_the_numbers_in_their_names_whatever_their_order_in_the_file(names, tmp_path):
    torch.save(dict(reversed(generic(*names).items())), tmp_path / "n.pt")
    safetensors.torch.save_file(generic(*names), tmp_path / "n.safetensors")
    for name in ("n.pt", "n.safetensors"):
        (network,) = read_networks(tmp_path / name, LAYOUT)
        assert np.array_equal(network.row, ROW)


# --- as people save networks ---


def state(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in generic("conv1", "conv2", "conv3", "fc").items()}


def keras_weights() -> list[np.ndarray]:
    """As `model.get_weights()` returns them."""
    return [published()[variable.name] for bias, kernel in LAYOUT.layers for variable in (kernel, bias)]


def subclassed(file: h5py.File, names: tuple[str, ...], titles: tuple[str, ...]) -> None:
    """As Keras 3 saves a model whose layers are attributes: at the root, by the names of the attributes."""
    for name, title, (bias, kernel) in zip(names, titles, LAYOUT.layers, strict=True):
        file[f"{name}/vars/0"] = published()[kernel.name]
        file[f"{name}/vars/1"] = published()[bias.name]
        file[f"{name}/vars"].attrs["name"] = title
    file.create_group("layers")


def legacy(file: h5py.File, names: tuple[str, ...]) -> None:
    """As Keras 2 saves weights: the attribute tells the order, groups are sorted by name."""
    file.attrs["layer_names"] = np.array([name.encode() for name in (*names, "dropout")])
    for name, (bias, kernel) in zip(names, LAYOUT.layers, strict=True):
        file[f"{name}/{name}/kernel:0"] = published()[kernel.name]
        file[f"{name}/{name}/bias:0"] = published()[bias.name]


AS_SAVED: dict[str, Callable[[Path], object]] = {
    "nested.pth": lambda path: torch.save({"model": state(), "optimizer": {"state": {}}, "epoch": 3}, path),
    "deep.pt": lambda path: torch.save({"trainer": {"net": {"weights": state("module.")}}}, path),
    "lightning.ckpt": lambda path: torch.save({"state_dict": state("model."), "hyper_parameters": {"lr": 1}}, path),
    "pytorch_model.bin": lambda path: torch.save(state(), path),
    "no_ending": lambda path: torch.save(state(), path),
    "old_torch": lambda path: torch.save(state(), path, _use_new_zipfile_serialization=False),
    "wrong_ending.npy": lambda path: torch.save(state(), path),
    "counters.pth": lambda path: torch.save(
        state() | {"acc.tp": torch.tensor(3), "bn": torch.zeros(16, dtype=int)}, path
    ),
    "scalars.npz": lambda path: np.savez(
        path.open("wb"), accuracy=0.9, epoch=3, **{k: v.numpy() for k, v in state().items()}
    ),
    "get_weights.npz": lambda path: np.savez(path.open("wb"), *keras_weights()),
    "parameters.npz": lambda path: np.savez(path.open("wb"), *[value.numpy() for value in state().values()]),
    "weights.data": lambda path: safetensors.torch.save_file(state(), path),
    "subclassed.h5": lambda path: write_h5(path, lambda f: subclassed(f, ("c1", "c2", "c3", "out"), KERAS_LAYERS)),
    "words.h5": lambda path: write_h5(path, lambda f: subclassed(f, ("stem", "body", "attic", "out"), KERAS_LAYERS)),
    "legacy.h5": lambda path: write_h5(path, lambda f: legacy(f, ("stem", "body", "attic", "head"))),
}


@pytest.mark.parametrize("name", AS_SAVED)
def test_networks_are_read_as_people_save_them(name, tmp_path):
    AS_SAVED[name](tmp_path / name)
    (network,) = read_networks(tmp_path / name, LAYOUT)
    assert np.array_equal(network.row, ROW)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16])
def test_narrow_types_are_read_to_their_precision(dtype, tmp_path):
    narrow = {name: value.to(dtype) for name, value in state().items()}
    safetensors.torch.save_file(narrow, tmp_path / "n.safetensors")
    torch.save(narrow, tmp_path / "n.pt")
    expected = {name: value.float() for name, value in narrow.items()}
    torch.save(expected, tmp_path / "wide.pt")
    (wide,) = read_networks(tmp_path / "wide.pt", LAYOUT)
    for name in ("n.safetensors", "n.pt"):
        (network,) = read_networks(tmp_path / name, LAYOUT)
        assert np.array_equal(network.row, wide.row)


def test_several_networks_in_one_checkpoint_are_listed(tmp_path):
    torch.save({"model": state(), "ema": {"shadow": state()}}, tmp_path / "n.pt")
    refused(tmp_path / "n.pt", r"holds several networks \(`model`, `ema.shadow`\); save the one that is meant")


def test_a_checkpoint_without_a_network_lists_its_keys(tmp_path):
    torch.save({"optimizer": {"state": {}}, "epoch": 3}, tmp_path / "n.pt")
    refused(tmp_path / "n.pt", "expected a state_dict .*, got dict, one with 'optimizer', 'epoch'")


def test_torchscript_is_told_what_to_save(tmp_path):
    with zipfile.ZipFile(tmp_path / "n.pt", "w") as archive:
        archive.writestr("n/data.pkl", b"")
        archive.writestr("n/code/__torch__.py", "class Net: pass")
    refused(tmp_path / "n.pt", r"TorchScript, which holds code; save `module\.state_dict\(\)`")


def test_a_layer_of_another_kind_is_not_ignored(tmp_path):
    torch.save(state() | {"bn.weight": torch.ones(16), "bn.bias": torch.zeros(16)}, tmp_path / "n.pt")
    refused(tmp_path / "n.pt", "layer `bn`")


def test_a_row_that_is_not_finite_leaves_the_others(tmp_path):
    np.save(tmp_path / "n.npy", np.stack([ROW, np.full_like(ROW, np.nan), ROW]))
    first, second, third = read_networks(tmp_path / "n.npy", LAYOUT)
    assert (first.fault, third.fault) == (None, None)
    assert np.array_equal(third.row, ROW)
    assert "n.npy: row 1 holds NaN or infinity" in second.fault


def test_a_folder_is_told_as_such(tmp_path):
    refused(tmp_path, "a folder; give the files in it")
