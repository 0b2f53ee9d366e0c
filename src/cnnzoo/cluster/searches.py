"""The runner `ray`: the searches of a collection, carried out by the workers of a cluster."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from cnnzoo.cluster.events import Began, Event, Inside, Recorded, Refused, Scored, Tried, Written
from cnnzoo.cluster.identity import identity, refusal
from cnnzoo.cluster.pool import Pool
from cnnzoo.cluster.ray_backend import Call, Cluster, RayBackend, connected, require_ray
from cnnzoo.cluster.search_worker import SearchOrder, carry_out_search
from cnnzoo.config import Runtime
from cnnzoo.core.atomic import atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.progress import say
from cnnzoo.search import Journal, Scores
from cnnzoo.search.runs import Listen, Record, Search
from cnnzoo.search.task import LIBRARIES


class RayRunner:
    """Carries out searches on a Ray cluster: that of RAY_ADDRESS, or one on this machine.

    Raises `CnnzooError` without Ray.
    """

    def __init__(self, runtime: Runtime) -> None:
        require_ray()
        self._runtime = runtime

    def __call__(self, searches: Sequence[Search], listen: Listen) -> Iterator[tuple[Search, Scores]]:
        """Carry out the searches; yields each with its scores as it ends."""
        with connected(self._runtime) as cluster:
            # Each gets an equal share of the cores: CatBoost uses them, to the same result.
            share = cluster.count("CPU") // max(len(searches), 1)
            cores = max(1, min(cluster.cores_of_smallest_node(), share))
            client = _Client(cluster, searches, listen, cores)
            try:
                for one in Pool(RayBackend(cluster, carry_out_search, cores), client, say).run(searches):
                    yield one, client.close(one)
            finally:
                client.close_all()


class _Client:
    """Hears what the workers tell: keeps trials, writes folders, passes on what is recorded."""

    def __init__(self, cluster: Cluster, searches: Sequence[Search], listen: Listen, cores: int) -> None:
        self._cluster = cluster
        self._listen = listen
        self._cores = cores
        self._searches = searches
        self._left = Counter(one.task.features for one in searches)
        """Searches that are not done, of each feature set."""
        self._halves: dict[str, Any] = {}
        """Where feature sets lie in the object store, as long as searches need them."""
        self._journals: dict[Search, Journal] = {}
        self._open: dict[Search, tuple[ExitStack, Record]] = {}
        self._scores: dict[Search, Scores] = {}

    def call(self, one: Search) -> Call:
        """Return what a worker needs to carry out a search, from its finished trials on."""
        if one.task.features not in self._halves:
            self._read(one)
        order = SearchOrder(replace(one.task, jobs=self._cores), tuple(self._journals[one].trials), identity(LIBRARIES))
        return Call((order, self._halves[one.task.features]))

    def hear(self, one: Search, event: Event) -> bool:
        """Take an event; returns whether a repetition would go on from there."""
        match event:
            case Began():
                stack = ExitStack()
                self._open[one] = stack, stack.enter_context(self._listen(one))
            case Refused():
                raise refusal(event)
            case Tried(trial):
                self._journals[one].add(trial)
                return True
            case Written(files):
                write_folder(one.folder, files)
            case Recorded(method, arguments):
                getattr(self._open[one][1], method)(*(_local(one.folder, argument) for argument in arguments))
            case Scored(scores):
                self._scores[one] = dict(scores)
        return False

    def lost(self, one: Search) -> None:
        """End the record of a search: its repetition has one of its own."""
        if one in self._open:
            stack, _ = self._open.pop(one)
            error = CnnzooError("its worker was lost")
            stack.__exit__(CnnzooError, error, None)

    def name(self, one: Search) -> str:
        """Return what people call a search."""
        return f"search of {one.task.predictor} on {one.task.features}"

    def close(self, one: Search) -> Scores:
        """End the record of a finished search; returns its scores."""
        self._open.pop(one)[0].close()
        self._left[one.task.features] -= 1
        if not self._left[one.task.features]:
            del self._halves[one.task.features]
        return self._scores.pop(one)

    def close_all(self) -> None:
        """End the records of searches that are not finished, as interrupted ones."""
        for stack, _ in self._open.values():
            stack.__exit__(GeneratorExit, GeneratorExit(), None)
        self._open.clear()

    def _read(self, one: Search) -> None:
        """Read a feature set once for all its searches."""
        halves = one.halves()
        for other in self._searches:
            if other.task.features == one.task.features:
                self._journals[other] = Journal.of(other.artifacts, other.task, halves.train)
        self._halves[one.task.features] = self._cluster.put(halves)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names inside a folder, all or none; raises `CnnzooError` for one that is outside."""
    for name in files:
        _check_inside(name)
    with atomic_folder(folder) as new:
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)


def _local(folder: Path, argument: Any) -> Any:
    if not isinstance(argument, Inside):
        return argument
    _check_inside(argument.name)
    return folder / argument.name


def _check_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name:
        raise CnnzooError(f"a worker sent a file named `{name}`, which lies outside the folder that it was asked for")
