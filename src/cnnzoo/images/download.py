"""Where a data set's file is found: among earlier downloads, in a mirror, or at a public address; always checked.

pooch keeps the downloads (one folder, SHA-256 of what is kept, the final name only on success). Its own
HTTP downloader starts again after every fault and deletes what arrived, so `Transfer` is used instead; and since
pooch checks the file that it keeps, a gzip wrapper is removed first.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pooch

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.progress import say
from cnnzoo.images.content import ContentError, PublishedFile, check, chunks
from cnnzoo.images.transfer import Patience, Transfer, TransferError

Place = Path | str
"""A local folder, or the URL of the file."""


class _AbsentError(ContentError):
    """A local folder does not have the file at all."""


@dataclass(frozen=True)
class Depot:
    """The folder of one data set's downloads, and the places that are searched when a file is not in it."""

    dataset: str
    downloads: Path
    mirrors: Sequence[str]
    addresses: Sequence[str]
    """Public URLs, best first; the file's name is appended."""
    patience: Patience = field(default_factory=Patience)

    @property
    def folder(self) -> Path:
        """Where this data set's downloads are kept."""
        return self.downloads / self.dataset

    def fetch(self, file: PublishedFile) -> Path:
        """Return the path of a file whose content was checked; a local mirror's file is read in place.

        Raises `CnnzooError` that lists what happened at each place, or that the disk cannot be written.
        """
        refusals = []
        for place in self._places(file):
            try:
                return _local(place, file) if isinstance(place, Path) else self._download(place, file)
            except (ContentError, TransferError) as error:
                refusals.append(f"  - {place}: {error}")
                if place != self.folder or not isinstance(error, _AbsentError):
                    say(f"{self.dataset}/{file.name}: {place}: {error}")
        raise CnnzooError("\n".join([f"{self.dataset}/{file.name} was found nowhere:", *refusals, self._remedy(file)]))

    def _places(self, file: PublishedFile) -> list[Place]:
        mirrors = [mirror_place(mirror, self.dataset, file.name) for mirror in self.mirrors]
        return [self.folder, *mirrors, *(address + file.name for address in self.addresses)]

    def _remedy(self, file: PublishedFile) -> str:
        return (
            f"Get the file by other means (sha256 of its content: {file.sha256}) and put it into {self.folder}, or as "
            f"{self.dataset}/{file.name} into a folder or web server that params.yaml names in `images.mirrors`; "
            f"then run again. An interrupted download resumes where it stopped."
        )

    def _download(self, url: str, file: PublishedFile) -> Path:
        """Fetch one URL into the folder of downloads; a partial file that does not match the rest is fetched again."""
        part = part_path(self.folder, url, file)
        continued = part.exists()
        try:
            return self._retrieve(url, file, part)
        except ContentError:
            if not continued:
                raise
            return self._retrieve(url, file, part)

    def _retrieve(self, url: str, file: PublishedFile, part: Path) -> Path:
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{file.sha256}",
                fname=file.content_name,
                path=self.folder,
                downloader=_downloader(file, part, self.patience),
            )
        except ValueError as error:  # pooch's word for another digest
            raise ContentError(f"not the published content ({error})") from error
        except OSError as error:
            raise CnnzooError(
                f"{self.folder}: {file.name} cannot be stored ({error.strerror or error}). Make room or make the "
                f"folder writable, then run again: what was fetched so far is kept."
            ) from error
        return self.folder / file.content_name


def mirror_place(mirror: str, dataset: str, name: str) -> Place:
    """Return where a mirror of `images.mirrors` keeps a file: the folder, or the file's URL.

    Raises `CnnzooError` for a mirror that is neither a path nor an http(s) URL.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", mirror)
    if scheme and scheme[1].lower() in ("http", "https"):
        return f"{mirror.rstrip('/')}/{dataset}/{name}"
    if scheme or not mirror.strip():
        raise CnnzooError(
            f"params.yaml: `images.mirrors` takes the paths of local folders and http:// or https:// URLs that hold "
            f"<dataset>/<file>, got {mirror!r}"
        )
    return Path(mirror).expanduser() / dataset


def part_path(folder: Path, url: str, file: PublishedFile) -> Path:
    """Return the path of an unfinished download: one per URL, since mirrors may compress differently."""
    return folder / f"{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"


def _local(folder: Path, file: PublishedFile) -> Path:
    """Return the path of the file in a local folder, with or without its gzip wrapper."""
    fault: ContentError = _AbsentError(f"no {file.name} there")
    for path in (folder / file.content_name, folder / file.name):
        try:
            check(path, file)
            return path
        except FileNotFoundError:
            continue
        except ContentError as error:
            fault = ContentError(f"{path.name} is {error}")
        except OSError as error:
            fault = ContentError(f"{path.name} cannot be read ({error.strerror or error})")
    raise fault


def _downloader(file: PublishedFile, part: Path, patience: Patience) -> Callable[[str, str, object], None]:
    """Return a downloader as pooch wants it: fill `output` with the content of `url`."""

    def download(url: str, output: str, _: object) -> None:
        Transfer(url, part, file.most_bytes, patience).run()
        if not file.gzipped:
            part.replace(output)
            return
        try:
            with Path(output).open("wb") as unwrapped:
                unwrapped.writelines(chunks(part, gunzip=True, most_bytes=file.size))
        except ContentError:
            part.unlink()  # continuing it cannot succeed
            raise
        part.unlink()

    return download
