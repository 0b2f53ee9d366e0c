"""Damaged and hostile files for every reader: valid files, mutations of them, and what a reader may answer.

A reader returns, or raises `CnnzooError`. Whatever else it raises is a finding; so are a crash of the interpreter, more
than 10 s, more than 4 GB, and an altered file that a reader with digests accepts. Each input is numbered: the number
and the seed make it again. `benchmarks/fuzz.py` runs many, tests/test_fuzz.py a few.
"""

import gzip
import io
import json
import logging
import multiprocessing
import os
import shutil
import signal
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file

from builders import COLLECTION, make_collection, make_images, make_recipes
from cnnzoo import config, predictors
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.imageset import ImageSet
from cnnzoo.images.parsers import cifar10_archive, idx, svhn_mat
from cnnzoo.importing import import_zoo
from cnnzoo.scoring.networks import network_of, read_networks
from cnnzoo.tracking.spool import Spool
from cnnzoo.zoo import Collection, check, check_readable, recipes
from cnnzoo.zoo.shards import read_shard
from imports import ROOT

SECONDS = 10
MEMORY = 4 << 30
NUMBERS = [0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -(2**31)]


@dataclass(frozen=True)
class Target:
    """A reader of one file, which lies in a folder that is valid otherwise."""

    name: str
    folder: Path
    """The valid files, copied for each input."""
    file: str
    """The one that is altered, below the folder."""
    read: Callable[[Path], object]
    """Called with the copied folder."""
    sealed: bool = False
    """Whether a digest covers the file, so that no altered one may be accepted."""


@dataclass(frozen=True)
class Finding:
    """An input that a reader did not withstand."""

    target: str
    number: int
    what: str


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return an altered content: one to four of the usual faults of files, in bytes, numbers or lines."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        kind, place = int(rng.integers(9)), int(rng.integers(len(data)))
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[place] = int(rng.integers(256))
        elif kind == 2:
            del data[place:]  # truncated
        elif kind == 3:
            del data[place : place + int(rng.integers(1, 64))]
        elif kind == 4:
            data[place:place] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 5:
            source = int(rng.integers(len(data)))
            length = int(rng.integers(1, 256))
            data[place : place + length] = data[source : source + length]
        elif kind == 6:  # a number, as binary
            width = int(rng.choice([1, 2, 4, 8]))
            value = NUMBERS[int(rng.integers(len(NUMBERS)))] % 256**width
            data[place : place + width] = value.to_bytes(width, "little" if rng.integers(2) else "big")
        elif kind == 7:  # a number, as text
            digits = [index for index, byte in enumerate(data[place : place + 4096], place) if 48 <= byte <= 57]
            if digits:
                data[digits[0] : digits[0] + 1] = str(NUMBERS[int(rng.integers(len(NUMBERS)))]).encode()
        else:  # a line, doubled or lost
            lines = bytes(data).split(b"\n")
            line = int(rng.integers(len(lines)))
            lines[line : line + 1] = [lines[line]] * int(rng.choice([0, 2]))
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def make_input(target: Target, number: int, seed: int, folder: Path) -> bool:
    """Write an input to `folder`; half of compressed files are altered inside. Returns whether the file differs."""
    rng = np.random.default_rng([seed, number])
    shutil.copytree(target.folder, folder)
    file = folder / target.file
    content = file.read_bytes()
    altered = mutate(content, rng)
    if target.file.endswith(".gz") and rng.integers(2):
        altered = gzip.compress(mutate(gzip.decompress(content), rng), mtime=0)
    file.write_bytes(altered)
    return altered != content and not _is_same_json(altered, content)


def _is_same_json(altered: bytes, content: bytes) -> bool:
    """Return whether two contents are JSON and mean the same: blanks in it are no alteration."""
    try:
        return bool(json.loads(altered) == json.loads(content))
    except ValueError:
        return False


def try_input(target: Target, number: int, seed: int, folder: Path) -> str | None:
    """Read an input; returns what is wrong, None if the reader did as it should."""
    place = folder / f"{number}"
    try:
        differs = make_input(target, number, seed, place)
        with _time_limit():
            target.read(place)
    except CnnzooError:
        return None
    except Exception as error:  # the findings
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return "altered, and accepted" if target.sealed and differs else None


@contextmanager
def _time_limit() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _work(jobs: list[tuple[Target, int]], seed: int, folder: Path, results: Connection) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _mapped(), resource.RLIM_INFINITY))
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    for target, number in jobs:
        results.send((target.name, number, "begun"))  # has left this process when the input is tried
        results.send((target.name, number, try_input(target, number, seed, folder)))
    results.send(None)


class Gone:
    """What a worker answers that died, or hangs where it hears no signal."""


def _next(results: Connection, worker: multiprocessing.Process) -> object:
    for _ in range(30 * SECONDS):
        alive = worker.is_alive()
        try:
            if results.poll(0.1):
                return results.recv()
        except (EOFError, ConnectionResetError):
            break
        if not alive:
            break
    return Gone()


def _mapped() -> int:
    """Return the address space that this process has, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def run(jobs: list[tuple[Target, int]], seed: int, folder: Path, done: Callable[[int], None] = id) -> list[Finding]:
    """Try all inputs in a process of their own, which is replaced if one of them kills it."""
    context = multiprocessing.get_context("fork")
    findings, count = [], 0
    while jobs:
        results, ours = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(jobs, seed, folder, ours))
        worker.start()
        ours.close()
        current: tuple[str, int] | None = None
        finished = 0
        while True:
            answer = _next(results, worker)
            if isinstance(answer, Gone):
                break
            if answer is None:
                finished = len(jobs)
                break
            name, number, what = answer
            current = (name, number)
            if what != "begun":
                finished, count, current = finished + 1, count + 1, None
                done(count)
                if what is not None:
                    findings.append(Finding(name, number, what))
        if current is not None:
            worker.kill()
            worker.join()
            findings.append(Finding(*current, f"the process died or hung (exit code {worker.exitcode})"))
            finished += 1
        elif finished < len(jobs) and not worker.is_alive() and worker.exitcode:
            raise RuntimeError(f"the worker ended with {worker.exitcode} before its work was done")
        worker.join()
        jobs = jobs[finished:]
    return findings


def targets(folder: Path) -> list[Target]:
    """Write valid files of every kind below `folder`; returns their readers."""
    zoo_folder = make_collection(folder / "made", networks=2)
    zoo = Collection.open(zoo_folder)
    found: list[Target] = []
    for file in ("weights.npy", "layout.csv", "metrics.csv.gz", "split.csv", "diverged.csv"):
        found.append(Target(f"collection/{file}", zoo_folder, file, _read_collection))
        found.append(Target(f"manifest of {file}", zoo_folder, file, _check_collection, sealed=True))
    found.append(Target("manifest", zoo_folder, "manifest.json", _check_collection, sealed=True))
    shard = next((folder / "made" / "checkpoints" / COLLECTION).glob("*.safetensors"))
    alone = _folder(folder / "shard")
    shutil.copy(shard, alone)
    found.append(Target("shard", alone, shard.name, lambda f: read_shard(f / shard.name).weights(), sealed=True))
    found += [_network_target(folder, zoo, name, write) for name, write in NETWORKS.items()]
    found += _predictor_targets(folder)
    found += _text_targets(folder)
    found += _image_targets(folder)
    found += _archive_targets(folder, zoo_folder)
    return found


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _read_collection(folder: Path) -> None:
    check(folder)
    check_readable(folder)
    zoo = Collection.open(folder)
    zoo.final("train")
    zoo.at(zoo.epochs[0])


def _state(zoo: Collection) -> dict[str, torch.Tensor]:
    return dict(zoo.module(int(zoo.final()[0])).state_dict())


def _write_h5(path: Path, zoo: Collection) -> None:
    with h5py.File(path, "w") as file:
        for name, tensor in zoo.layout.split(zoo.weights[8]).items():
            file[name] = tensor


def _write_keras(path: Path, zoo: Collection) -> None:
    buffer = path.with_suffix(".h5")
    _write_h5(buffer, zoo)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(buffer, "model.weights.h5")
        archive.writestr("config.json", json.dumps({"config": {"layers": []}}))
    buffer.unlink()


NETWORKS: dict[str, Callable[[Path, Collection], object]] = {
    "npy": lambda path, zoo: np.save(path, zoo.weights[8]),
    "npz": lambda path, zoo: np.savez(
        path, **{n.replace("/", "."): t for n, t in zoo.layout.split(zoo.weights[8]).items()}
    ),
    "safetensors": lambda path, zoo: save_file({n: t.numpy() for n, t in _state(zoo).items()}, path),
    "pt": lambda path, zoo: torch.save({"state_dict": _state(zoo), "epoch": 3}, path),
    "h5": _write_h5,
    "keras": _write_keras,
}


def _network_target(folder: Path, zoo: Collection, ending: str, write: Callable[[Path, Collection], object]) -> Target:
    place = _folder(folder / f"network-{ending}")
    file = f"network.{ending}"
    write(place / file, zoo)
    layout = network_of(zoo) and zoo.layout
    return Target(f"network.{ending}", place, file, lambda f: read_networks(f / file, layout))


def _check_collection(folder: Path) -> None:
    if problems := check(folder):
        raise CnnzooError("; ".join(problems))


def _predictor_targets(folder: Path) -> list[Target]:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((40, 4)), columns=list("abcd"))
    target = 0.2 + 0.6 * table["a"]
    found = []
    for name, settings in (("linear", {}), ("catboost", {"n_estimators": 5}), ("dnn", {"max_epochs": 2})):
        place = folder / f"predictor-{name}"
        kind = predictors.REGISTRY[name]
        known = {key: value for key, value in settings.items() if key in kind().get_params()}
        predictors.save(kind(**known).fit(table, target), place)
        found += [
            Target(f"predictor/{name}/{path.name}", place, path.name, predictors.load, sealed=True)
            for path in sorted(place.iterdir())
        ]
    return found


def _text_targets(folder: Path) -> list[Target]:
    place = _folder(folder / "texts")
    shutil.copy(ROOT / "params.yaml", place)
    recipes.write(place / "recipes.csv", make_recipes(5))
    spool = _folder(place / "spool")
    record = {"name": "tiny/000001", "cohort": "a", "time_ms": 1, "params": {"x": "1"}, "tags": {"a": None}}
    record |= {"metrics": [["loss", 1, 0.5]], "status": "RUNNING"}
    (spool / "00000000000000000001.json").write_text(json.dumps({"action": "log", "records": [record]}))
    return [
        Target("params.yaml", place, "params.yaml", lambda f: config.load(f / "params.yaml")),
        Target("recipes.csv", place, "recipes.csv", lambda f: recipes.read(f / "recipes.csv")),
        Target(
            "spool",
            place,
            "spool/00000000000000000001.json",
            lambda f: Spool(f / "spool").replay(lambda operation: None),
        ),
    ]


def _image_targets(folder: Path) -> list[Target]:
    place = _folder(folder / "images")
    images = make_images()
    images.save(place / "set.npz")
    header = bytes([0, 0, 8, 3]) + b"".join(side.to_bytes(4, "big") for side in images.train_images.shape[:3])
    (place / "images.gz").write_bytes(gzip.compress(header + images.train_images.tobytes(), mtime=0))
    record = bytes([3]) + bytes(3072)
    with tarfile.open(place / "cifar.tar.gz", "w:gz") as archive:
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            _add(archive, f"cifar-10-batches-bin/{name}", record * 4)
    from scipy.io import savemat

    savemat(place / "svhn.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1), np.uint8)})
    return [
        Target("images.npz", place, "set.npz", lambda f: ImageSet.load(f / "set.npz")),
        Target("idx.gz", place, "images.gz", lambda f: idx(f / "images.gz", 3)),
        Target("cifar.tar.gz", place, "cifar.tar.gz", lambda f: cifar10_archive([f / "cifar.tar.gz"])),
        Target("svhn.mat", place, "svhn.mat", lambda f: svhn_mat(f / "svhn.mat")),
    ]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _archive_targets(folder: Path, zoo: Path) -> list[Target]:
    """Archives of a collection; three rows of it would be enough, the smallest one is taken whole."""
    place = _folder(folder / "archives")
    shutil.copy(ROOT / "params.yaml", place)
    files = [zoo / name for name in ("weights.npy", "layout.csv", "metrics.csv.gz")]
    with tarfile.open(place / "mnist.tar", "w") as archive:
        for path in files:
            _add(archive, f"mnist/{path.name}", path.read_bytes())
    with zipfile.ZipFile(place / "mnist.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, f"mnist/{path.name}")
    return [
        Target(name, place, name, lambda f, name=name: import_zoo(Artifacts(f), f / name, "abroad", "mnist"))
        for name in ("mnist.tar", "mnist.zip")
    ]
