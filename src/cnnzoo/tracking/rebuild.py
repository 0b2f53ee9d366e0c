"""The record of a collection, rebuilt from its files: what `cnnzoo track` does after `dvc pull`.

Light: importing this module does not import mlflow.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError, counted
from cnnzoo.tracking.finished import read_searches
from cnnzoo.tracking.location import check_writable
from cnnzoo.tracking.reach import reach
from cnnzoo.tracking.search_sync import sync_searches
from cnnzoo.tracking.zoo import sync_zoo

Files = dict[Path, str]
"""What a part of the record is made from, each with the target of `dvc pull` that gets it."""


@dataclass(frozen=True)
class _Part:
    """The networks or the searches of a collection."""

    collection: str
    name: str
    files: Files
    record: Callable[[Artifacts, Params, str], str]
    """Records it; returns what is on record then."""

    def missing(self) -> list[Path]:
        """Return the files that are not there."""
        return [path for path in self.files if not path.exists()]

    def absence(self, missing: Sequence[Path]) -> str:
        """Return the line for a part that cannot be recorded."""
        targets = " ".join(dict.fromkeys(self.files[path] for path in missing))
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        return (
            f"{self.collection}: {self.name} not recorded: no {missing[0]}{more}. "
            f"`dvc pull {targets}` gets what is missing, `dvc repro {targets}` makes it"
        )


def rebuild(artifacts: Artifacts, params: Params, collections: Iterable[str]) -> Iterator[str]:
    """Record the networks and the searches of collections as far as their files are here; yields a line for each.

    What is on record already stays as it is. Raises `CnnzooError` if nothing is here that could be recorded, a file is
    damaged, another process searches in one of these collections, or the store does not answer.
    """
    parts = [part for collection in collections for part in _parts(artifacts, params, collection)]
    missing = [part.missing() for part in parts]
    if all(missing):
        lines = [part.absence(paths) for part, paths in zip(parts, missing, strict=True)]
        raise CnnzooError("\n".join(lines) or "nothing to record: no collection in params.yaml is learned from")
    check_writable(artifacts)
    reach(artifacts)
    for part, paths in zip(parts, missing, strict=True):
        if paths:
            yield part.absence(paths)
        else:
            yield f"{part.collection}: {part.record(artifacts, params, part.collection)} on record"


def _parts(artifacts: Artifacts, params: Params, collection: str) -> Iterator[_Part]:
    if collection in params.populations:  # of an imported one nobody knows how its networks were trained
        yield _Part(collection, "networks", _network_files(artifacts, collection), _record_networks)
    if collection in params.collections:
        yield _Part(collection, "searches", _search_files(artifacts, params, collection), _record_searches)


def _network_files(artifacts: Artifacts, collection: str) -> Files:
    return {
        artifacts.recipes(collection): f"recipes@{collection}",
        artifacts.checkpoints(collection): f"train@{collection}",
    }


def _search_files(artifacts: Artifacts, params: Params, collection: str) -> Files:
    zoo = artifacts.zoo(collection)
    imported = zoo.with_name(f"{collection}.dvc").relative_to(artifacts.root).as_posix()
    folders = [artifacts.predictor(collection, *pair) for pair in params.searches]
    return {
        zoo: f"assemble@{collection}" if collection in params.populations else imported,
        artifacts.features(collection): f"features@{collection}",
        **dict.fromkeys(folders, f"search@{collection}"),
    }


def _record_networks(artifacts: Artifacts, _: Params, collection: str) -> str:
    from cnnzoo.zoo import first_rows, recipes
    from cnnzoo.zoo.shards import read_shards, serving

    wanted, shards = recipes.read(artifacts.recipes(collection)), read_shards(artifacts.checkpoints(collection))
    if not sync_zoo(artifacts, collection, shards, wanted, first_rows(shards, wanted)):
        raise CnnzooError("the record is not complete, see above; run the same command again")
    trained = len(serving(shards, wanted))
    return counted(trained, "network") + (f" of {len(wanted):,}" if trained < len(wanted) else "")


def _record_searches(artifacts: Artifacts, params: Params, collection: str) -> str:
    from cnnzoo.search import only_search

    with only_search(artifacts, collection):  # the run of a search under way would be taken for one that was killed
        left = sync_searches(artifacts, collection, read_searches(artifacts, params, collection))
    if left:
        names = ", ".join(f"{search.predictor} on {search.features}" for search in left)
        raise CnnzooError(f"the record is not complete, see above: {names}; run the same command again")
    return counted(len(params.searches), "tuned predictor")
