"""Cohort shards: the raw checkpoints of the networks that were trained side by side, one safetensors file each.

A shard is named by a hash of everything that determines its bytes, so a rerun can tell which shards are still valid,
and holds digests of its content, so a truncated or altered one is found before it is used.

Shape letters: N networks, E checkpoint epochs, P parameters.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cnnzoo.core.atomic import atomic_file
from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo.recipes import Recipe

FORMAT = "cnnzoo-shard-1"
CONTENT = "cnnzoo"
"""The one metadata key: safetensors writes several in a different order at every call, so the bytes would differ."""
SUFFIX = ".safetensors"
METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
"""The published metrics, in published column order."""
NEVER = -1
"""`diverged_epoch` of a network that stayed finite."""


@dataclass(frozen=True)
class Origin:
    """What, besides the recipes, determines the bytes of a collection's shards."""

    collection: str
    minibatch: int
    images: str
    """Digest of the image set."""
    engine: str
    numerics: str


@dataclass(frozen=True)
class Shard:
    """One shard's metadata and metrics; the weights are read on demand.

    A diverged network keeps its rows: non-finite from the first checkpoint at or after `diverged_epoch` on.
    """

    path: Path
    origin: Origin
    recipes: tuple[Recipe, ...]  # N of them
    metrics: Mapping[str, NDArray[np.float64]]  # each of METRICS: (N, E)
    diverged_epoch: NDArray[np.int64]  # (N,), NEVER for a finite network
    digest: str

    @property
    def name(self) -> str:
        """The hash that names the shard; also the cohort's name."""
        return self.path.name.removesuffix(SUFFIX)

    @cached_property
    def epochs(self) -> tuple[int, ...]:
        """The checkpoint epochs, ascending: the second axis of the arrays."""
        return self.recipes[0].checkpoints

    def weights(self) -> NDArray[np.float32]:
        """Read the weights, float32 (N, E, P), and check the shard's digest; raises `CnnzooError` if damaged."""
        arrays, _ = _open(self.path)
        if digest_of(arrays) != self.digest:
            raise CnnzooError(f"{self.path}: altered or damaged (its digest does not match). {_REMEDY}")
        return arrays["weights"]


_REMEDY = "Delete this file and run `dvc repro` again: only its networks are trained again."


def serving(shards: Iterable[Shard], recipes: Iterable[Recipe]) -> dict[Recipe, tuple[Shard, int]]:
    """Return the shard that serves each wanted network, and the network's place in it.

    A network that no shard holds with exactly that recipe is left out. Of several shards, the first by name is used.
    """
    wanted = frozenset(recipes)
    found: dict[Recipe, tuple[Shard, int]] = {}
    for shard in sorted(shards, key=lambda shard: shard.name):
        for index, recipe in enumerate(shard.recipes):
            if recipe in wanted:
                found.setdefault(recipe, (shard, index))
    return found


def shard_name(origin: Origin, recipes: Sequence[Recipe]) -> str:
    """Return the hash (16 hex digits) of everything that determines a shard's bytes."""
    content = {"format": FORMAT, "origin": asdict(origin), "recipes": [recipe.values() for recipe in recipes]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_shard(
    folder: Path,
    origin: Origin,
    recipes: Sequence[Recipe],
    weights: NDArray[np.float32],
    metrics: Mapping[str, NDArray[np.float64]],
    diverged_epoch: NDArray[np.int64],
) -> Shard:
    """Write one shard, whole or not at all: weights (N, E, P), metrics (N, E), diverged_epoch (N,)."""
    arrays: dict[str, NDArray[Any]] = {"weights": weights, "diverged_epoch": diverged_epoch, **metrics}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    digest = digest_of(arrays)
    content = {
        "format": FORMAT,
        "origin": asdict(origin),
        "recipes": [recipe.values() for recipe in recipes],
        "sha256": digest,
        "metrics_sha256": digest_of(_without_weights(arrays)),
    }
    path = folder / f"{shard_name(origin, recipes)}{SUFFIX}"
    with atomic_file(path) as file:
        file.write(save(arrays, {CONTENT: json.dumps(content)}))
    return Shard(path, origin, tuple(recipes), dict(metrics), diverged_epoch, digest)


def read_shard(path: Path) -> Shard:
    """Read a shard's metadata and metrics; raises `CnnzooError` if it is truncated, foreign or misnamed."""
    arrays, metadata = _open(path, skip=("weights",))
    try:
        content = json.loads(metadata[CONTENT])
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        origin = Origin(**content["origin"])
        recipes = tuple(Recipe(**recipe) for recipe in content["recipes"])
        metrics = {name: arrays[name] for name in METRICS}
        shard = Shard(path, origin, recipes, metrics, arrays["diverged_epoch"], content["sha256"])
        if shard_name(origin, recipes) != shard.name:
            raise ValueError("its name is not the hash of its content")
        _check_shapes(shard)
        if not _has_sound_metrics(shard, arrays, content):
            raise ValueError("its metrics are altered or damaged")
    except (KeyError, TypeError, ValueError) as error:
        raise CnnzooError(f"{path}: not a valid shard ({error!r}). {_REMEDY}") from error
    return shard


def read_shards(folder: Path) -> list[Shard]:
    """Read all shards of a collection, in order of their names; raises `CnnzooError` if one is damaged."""
    if folder.exists() and not folder.is_dir():
        raise CnnzooError(f"{folder}: must be the folder of a collection's shards; move this file away")
    return [read_shard(path) for path in sorted(folder.glob(f"*{SUFFIX}")) if not path.name.startswith(".")]


def _without_weights(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: array for name, array in arrays.items() if name != "weights"}


def _has_sound_metrics(shard: Shard, arrays: Mapping[str, NDArray[Any]], content: Mapping[str, Any]) -> bool:
    if "metrics_sha256" not in content:  # a shard of an earlier version has one digest, of everything
        return digest_of(_open(shard.path)[0]) == shard.digest
    return bool(digest_of(arrays) == content["metrics_sha256"])


def _check_shapes(shard: Shard) -> None:
    count, epochs = len(shard.recipes), len(shard.epochs)
    for name, array in shard.metrics.items():
        if array.shape != (count, epochs) or array.dtype != np.float64:
            raise ValueError(f"`{name}` is {array.dtype} {array.shape}, expected float64 {(count, epochs)}")
    if shard.diverged_epoch.shape != (count,):
        raise ValueError(f"`diverged_epoch` is {shard.diverged_epoch.shape}, expected {(count,)}")


def _open(path: Path, skip: Sequence[str] = ()) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if name not in skip]  # noqa: SIM118 - not a mapping
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; make it with `dvc repro train`") from error
    except (OSError, SafetensorError) as error:
        raise CnnzooError(f"{path}: truncated or damaged ({error}). {_REMEDY}") from error


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 (hex) of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        digest.update(arrays[name].data)
    return digest.hexdigest()
