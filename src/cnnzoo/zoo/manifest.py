"""The manifest of a collection: what it holds, how its networks were trained, and the SHA-256 of its files.

It is a function of the collection alone. No commit, library, machine or date stands in it: with them, the same networks
would have other bytes on another machine. The commit whose dvc.lock names the collection tells the code.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnzoo.core.atomic import write_text
from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo import format as published
from cnnzoo.zoo.check_report import Report
from cnnzoo.zoo.facts import Facts
from cnnzoo.zoo.reader import Collection
from cnnzoo.zoo.shards import Origin

FORMAT = "cnnzoo-collection-1"
DESCRIBED = (published.WEIGHTS, published.METRICS, published.LAYOUT, published.SPLIT, published.DIVERGED)
"""The files whose digests it holds, as far as the collection has them."""
MOST_BYTES = 10**6


@dataclass(frozen=True, order=True)
class Training:
    """How some networks of a collection were trained, diverged ones included."""

    engine: str
    numerics: str
    minibatch: int
    images: str
    """SHA-256 of the image set."""
    networks: int


def trainings_of(origins: Iterable[Origin]) -> list[Training]:
    """Return how networks were trained, from the origin of each network's shard."""
    counts = Counter(origins)
    return sorted(
        Training(origin.engine, origin.numerics, origin.minibatch, origin.images, networks)
        for origin, networks in counts.items()
    )


def write_manifest(folder: Path, facts: Facts, trainings: Sequence[Training]) -> None:
    """Write manifest.json of the collection in `folder`; reads the described files once."""
    files = {name: digest_of_file(folder / name) for name in DESCRIBED if (folder / name).is_file()}
    content = _content(facts) | {"trainings": [asdict(training) for training in trainings], "files": files}
    content["sha256"] = _digest_of(content)
    write_text(folder / published.MANIFEST, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_name(folder: Path) -> str | None:
    """Return what the manifest calls the collection; None without one. Raises `CnnzooError` if it is damaged."""
    path = folder / published.MANIFEST
    return str(_read(path)["name"]) if path.is_file() else None


def read_trainings(folder: Path) -> list[Training]:
    """Return how the networks were trained; empty without a manifest. Raises `CnnzooError` if it is damaged."""
    path = folder / published.MANIFEST
    return [Training(**entry) for entry in _read(path)["trainings"]] if path.is_file() else []


def has_manifest(folder: Path) -> bool:
    """Return whether a folder has a manifest of this project, not a file of that name from elsewhere."""
    path = folder / published.MANIFEST
    return path.is_file() and FORMAT.rpartition("-")[0].encode() in path.read_bytes()[:MOST_BYTES]


def check_manifest(report: Report) -> None:
    """Note every file that is not as the manifest of its folder says, unless it is known why.

    Without a manifest nothing is noted.
    """
    path = report.folder / published.MANIFEST
    if not path.is_file():
        return
    content = report.attempt(_read, published.MANIFEST)
    if content is None:
        return
    known, found = content["files"], [name for name in DESCRIBED if (report.folder / name).is_file()]
    for name in sorted({*found, *known}):
        if name not in found:
            report.add(name, f"not there, but {published.MANIFEST} names it")
        elif name not in known:
            report.add(name, f"{published.MANIFEST} does not name it")
        elif known[name] != digest_of_file(report.folder / name) and not report.blames(name):
            report.add(name, f"altered or damaged: not the bytes that {published.MANIFEST} names")
    if not report.problems:
        _check_facts(report, content)


def _check_facts(report: Report, content: Mapping[str, Any]) -> None:
    """Note what the manifest of a sound collection says that its files do not."""
    measured = json.loads(json.dumps(_content(Facts.of(Collection.open(report.folder), content["name"]))))
    for name, value in measured.items():
        if content.get(name) != value:
            report.add(published.MANIFEST, f"`{name}` is {content.get(name)!r}, but the files have {value!r}")


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(facts: Facts) -> dict[str, Any]:
    return {"format": FORMAT} | asdict(facts)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        own = content.pop("sha256")
        if own != _digest_of(content):
            raise ValueError("its digest does not match")
        if not isinstance(content["name"], str) or content["format"] != FORMAT:
            raise ValueError(f"of the format {content['format']!r}, this version of cnnzoo knows {FORMAT!r}")
        [Training(**entry) for entry in content["trainings"]], dict[str, str](content["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CnnzooError(
            f"{path}: altered or damaged ({error}); make the collection again with `dvc repro assemble`"
        ) from error
    return dict(content)


def _digest_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
