"""The finished trials of a study on disk: what makes a killed search go on, and a larger budget continue a smaller."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from cnnzoo.core.artifacts import Artifacts, slug
from cnnzoo.core.locks import lock_or_fail
from cnnzoo.search.sample import Sample
from cnnzoo.search.task import Task

DIGEST_LENGTH = 16
SUFFIX = ".journal"
LOCK = "lock"


class Trials(Protocol):
    """Finished trials of a study, and where new ones are kept."""

    @property
    def trials(self) -> list[FrozenTrial]:
        """Return the finished trials, in order."""

    def add(self, trial: FrozenTrial) -> None:
        """Keep a finished trial."""


class Journal:
    """An Optuna journal that holds finished trials only, in order; `optuna-dashboard FILE` shows it.

    The file's name and the study's hold a digest of everything that determines the trials, so a journal of other data
    or other code is never read. Journals are kept when a search is done: a later search with the same digest, whatever
    its `search.trials`, does not repeat a trial. They hold about 1 kB a trial and may be deleted at any time.

    One process may write at a time; see `only_search`.
    """

    def __init__(self, path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(path)
        Path(f"{path}.lock").unlink(missing_ok=True)  # Optuna waits 30 s for the lock of a killed process
        try:
            self._study = _open(path, name)
        except (ValueError, KeyError, TypeError) as error:  # what Optuna raises for lines that are not its own
            logging.getLogger(__name__).warning("%s: damaged (%s); its search starts again", path, error)
            path.unlink()
            self._study = _open(path, name)

    @classmethod
    def of(cls, artifacts: Artifacts, task: Task, train: Sample) -> Self:
        """Open the journal of one task."""
        digest = task.digest(train)[:DIGEST_LENGTH]
        path = artifacts.studies(task.collection) / f"{task.predictor}_{slug(task.features)}_{digest}{SUFFIX}"
        return cls(path, f"{task.predictor} on {task.features}, {digest}")

    @property
    def trials(self) -> list[FrozenTrial]:
        """The finished trials, in order."""
        return self._study.get_trials()

    def add(self, trial: FrozenTrial) -> None:
        """Keep a finished trial; it is on the disk when this returns."""
        self._study.add_trial(trial)


def _open(path: Path, name: str) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)


def _drop_unfinished_line(path: Path) -> None:
    """Cut off what a killed process had begun to write: a whole line ends with a line feed."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)


def only_search(artifacts: Artifacts, collection: str) -> AbstractContextManager[None]:
    """Hold the lock of a collection's journals."""
    return lock_or_fail(
        artifacts.studies(collection) / LOCK,
        f"another search of `{collection}` is under way",
        "Wait for it, or end it: after a killed `dvc repro` its search may live on (`pgrep -f cnnzoo.stages.search`).",
    )
