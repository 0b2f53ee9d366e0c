"""What former params.yaml files have left: files, entries of dvc.lock and experiments in MLflow of no collection."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import atomic_file
from cnnzoo.core.errors import CnnzooError


@dataclass(frozen=True)
class Orphans:
    """What belongs to nothing in params.yaml."""

    paths: list[Path] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    """Stages in dvc.lock, such as `train@old`."""
    experiments: list[str] = field(default_factory=list)
    """Experiments in MLflow, such as `zoo/old`."""

    def lines(self) -> list[str]:
        """Return a line for each."""
        return [
            *map(str, self.paths),
            *(f"dvc.lock: {stage}" for stage in self.locked),
            *(f"MLflow: {name}" for name in self.experiments),
        ]


def find_orphans(artifacts: Artifacts, params: Params, experiments: Collection[str] = ()) -> Orphans:
    """Return what belongs to nothing in `params`; `experiments` are the names of all experiments in MLflow."""
    zoos = {*params.populations, *params.imported}
    stages = _known_stages(params)
    return Orphans(
        sorted(_unknown_paths(artifacts, params)),
        [name for name in _lock(artifacts).get("stages", {}) if name not in stages],
        sorted(
            name
            for name in experiments
            if name.partition("/")[0] in {"zoo", "predictors"} and name.partition("/")[2] not in zoos
        ),
    )


def check_shared_folders(artifacts: Artifacts, params: Params) -> None:
    """Check that the folders which stages over all collections depend on hold the collections of `params` alone.

    DVC takes a folder as a whole: with more in it, the origin says "up to date" and a clone that pulled "modified".
    Raises `CnnzooError` that names what belongs to none of them.
    """
    shared = {artifacts.zoo("x"), artifacts.features("x"), artifacts.models("x"), artifacts.forecast("x")}
    folders = {path.parent for path in shared}
    if found := [path for path in find_orphans(artifacts, params).paths if path.parent in folders]:
        raise CnnzooError(
            f"of no collection in {artifacts.params}: {', '.join(map(str, found))}. `evaluate` and `report` depend on "
            "these folders as a whole, and a clone would find others. `cnnzoo prune --remove` removes what former "
            "parameters have left; or move it out of the project, or define its collection again."
        )


def remove_files(artifacts: Artifacts, orphans: Orphans) -> None:
    """Remove the files and the entries of dvc.lock; DVC's cache keeps what it has until `dvc gc`."""
    for path in orphans.paths:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if orphans.locked:
        lock = _lock(artifacts)
        for stage in orphans.locked:
            del lock["stages"][stage]
        with atomic_file(_lock_path(artifacts)) as file:
            YAML().dump(lock, file)


def _unknown_paths(artifacts: Artifacts, params: Params) -> Iterator[Path]:
    made, zoos, learned = set(params.populations), {*params.populations, *params.imported}, set(params.collections)
    places = (
        (artifacts.images("x").parent, {f"{name}.npz" for name in params.datasets}),
        (artifacts.recipes("x").parent, {f"{name}.csv" for name in made}),
        (artifacts.checkpoints("x").parent, made),
        (artifacts.unfinished("x").parent, zoos),
        (artifacts.zoo("x").parent, zoos | {f"{name}.dvc" for name in zoos}),
        (artifacts.features("x").parent, learned),
        (artifacts.models("x").parent, learned),
        (artifacts.forecast("x").parent, learned),
    )
    for folder, known in places:
        if folder.is_dir():
            # Hidden names are those of files in the making, of imports that go on, and of git.
            yield from (path for path in folder.iterdir() if path.name not in known and not path.name.startswith("."))


def _known_stages(params: Params) -> set[str]:
    made = {f"{stage}@{name}" for stage in ("recipes", "train", "assemble") for name in params.populations}
    learned = {f"{stage}@{name}" for stage in ("features", "search", "forecast") for name in params.collections}
    return {"evaluate", "report"} | {f"images@{name}" for name in params.datasets} | made | learned


def _lock_path(artifacts: Artifacts) -> Path:
    return artifacts.root / "dvc.lock"


def _lock(artifacts: Artifacts) -> Any:
    path = _lock_path(artifacts)
    if not path.exists():
        return {}
    try:
        return YAML().load(path.read_text(encoding="utf-8")) or {}
    except Exception as error:  # whatever the parser raises
        raise CnnzooError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
