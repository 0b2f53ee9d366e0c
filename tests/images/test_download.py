import gzip
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from image_server import IMPATIENT, Resource, Server, gz, published

from cnnzoo.core.errors import CnnzooError
from cnnzoo.images.download import Depot, mirror_place, part_path

CONTENT = np.random.default_rng(1).integers(0, 4, 400_000, dtype=np.uint8).tobytes()  # compresses to about a quarter
WRAPPED = published("images.gz", CONTENT)
ARCHIVE = published("archive.tar", CONTENT)


def depot(tmp_path: Path, *mirrors: str, addresses: tuple[str, ...] = ()) -> Depot:
    return Depot("toy", tmp_path / "downloads", mirrors, addresses, IMPATIENT)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("file", [WRAPPED, ARCHIVE], ids=lambda file: file.name)
def test_a_download_is_checked_and_kept_alone_in_the_folder(server: Server, tmp_path: Path, file) -> None:
    server.resources[f"/toy/{file.name}"] = Resource(gz(CONTENT) if file.gzipped else CONTENT)
    path = depot(tmp_path, server.url).fetch(file)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "downloads" / "toy") == [file.content_name]


def test_a_public_address_is_extended_by_the_file_name_alone(server: Server, tmp_path: Path) -> None:
    server.resources["/pub/images.gz"] = Resource(gz(CONTENT))
    depot(tmp_path, addresses=(f"{server.url}/pub/",)).fetch(WRAPPED)
    assert server.requests == [("/pub/images.gz", None)]


def test_nothing_is_fetched_that_is_already_there(server: Server, tmp_path: Path) -> None:
    server.resources["/toy/images.gz"] = Resource(gz(CONTENT))
    first = depot(tmp_path, server.url).fetch(WRAPPED)
    assert depot(tmp_path, server.url).fetch(WRAPPED) == first
    assert len(server.requests) == 1


def test_a_file_put_into_the_downloads_by_hand_is_used(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "downloads" / "toy"
    folder.mkdir(parents=True)
    (folder / "images").write_bytes(b"damaged")
    (folder / "images.gz").write_bytes(gz(CONTENT))
    assert depot(tmp_path, server.url).fetch(WRAPPED) == folder / "images.gz"
    assert server.requests == []


@pytest.mark.parametrize("name", ["images.gz", "images"])
@pytest.mark.parametrize("level", [1, 9])
def test_a_local_mirror_is_read_in_place_whatever_its_compression(
    server: Server, tmp_path: Path, name: str, level: int
) -> None:
    mirror = tmp_path / "mirror" / "toy"
    mirror.mkdir(parents=True)
    (mirror / name).write_bytes(gz(CONTENT, level) if name.endswith(".gz") else CONTENT)
    mirror.chmod(0o555)
    assert depot(tmp_path, str(tmp_path / "mirror"), server.url).fetch(WRAPPED) == mirror / name
    assert server.requests == []
    assert not (tmp_path / "downloads").exists()


def test_a_gzip_wrapper_around_an_archive_is_not_taken_off(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror" / "toy"
    mirror.mkdir(parents=True)
    (mirror / "archive.tar").write_bytes(gz(CONTENT))
    with pytest.raises(CnnzooError, match="truncated"):
        depot(tmp_path, str(tmp_path / "mirror")).fetch(ARCHIVE)


@pytest.mark.slow
def test_each_place_is_tried_in_order_until_one_has_the_published_content(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged" / "toy"
    damaged.mkdir(parents=True)
    (damaged / "images.gz").write_bytes(gz(CONTENT)[:-100])
    server.resources["/altered/toy/images.gz"] = Resource(gz(CONTENT[:-1] + b"!"))
    server.resources["/good/images.gz"] = Resource(gz(CONTENT))
    path = depot(
        tmp_path,
        str(tmp_path / "nowhere"),
        str(damaged.parent),
        f"{server.url}/missing",
        f"{server.url}/altered/",
        addresses=(f"{server.url}/good/",),
    ).fetch(WRAPPED)
    assert path.read_bytes() == CONTENT
    assert [asked for asked, _ in server.requests] == [
        "/missing/toy/images.gz",
        "/altered/toy/images.gz",
        "/good/images.gz",
    ]
    shown = capsys.readouterr().err
    assert "nowhere/toy: no images.gz there" in shown
    assert "images.gz is truncated or damaged gzip file" in shown


def test_the_error_lists_every_place_with_its_cause_and_the_remedy(server: Server, tmp_path: Path) -> None:
    server.resources["/altered/toy/images.gz"] = Resource(gz(CONTENT[:-1] + b"!"))
    server.resources["/short/images.gz"] = Resource(gz(CONTENT)[:-100])
    mirrors = (str(tmp_path / "nowhere"), f"{server.url}/altered")
    addresses = (f"{server.url}/short/", f"{server.url}/missing/")
    with pytest.raises(CnnzooError) as caught:
        depot(tmp_path, *mirrors, addresses=addresses).fetch(WRAPPED)
    first, *places, remedy = str(caught.value).splitlines()
    assert first == "toy/images.gz was found nowhere:"
    for line, pattern in zip(
        places,
        (
            r"downloads/toy: no images.gz there$",
            r"nowhere/toy: no images.gz there$",
            rf"altered/toy/images.gz: not the published content .*{WRAPPED.sha256}",
            r"short/images.gz: truncated or damaged gzip file",
            r"missing/images.gz: HTTP 404 Not Found$",
        ),
        strict=True,
    ):
        assert re.search(pattern, line), line
    assert WRAPPED.sha256 in remedy
    assert "`images.mirrors`" in remedy
    assert str(tmp_path / "downloads" / "toy") in remedy


def test_a_damaged_download_is_replaced(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "downloads" / "toy" / "images"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT[:-1] + b"!")
    server.resources["/toy/images.gz"] = Resource(gz(CONTENT))
    depot(tmp_path, server.url).fetch(WRAPPED)
    assert kept.read_bytes() == CONTENT
    assert "images is altered" in capsys.readouterr().err


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1]], ids=["altered", "short"])
def test_a_damaged_download_that_cannot_be_replaced_is_not_used_nor_lost(tmp_path: Path, content: bytes) -> None:
    kept = tmp_path / "downloads" / "toy" / "images"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    with pytest.raises(CnnzooError, match="found nowhere"):
        depot(tmp_path).fetch(WRAPPED)
    assert kept.read_bytes() == content


def test_a_beginning_that_does_not_fit_the_rest_is_fetched_again(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/toy/images.gz"
    server.resources["/toy/images.gz"] = Resource(gz(CONTENT))
    part = part_path(tmp_path / "downloads" / "toy", url, WRAPPED)
    part.parent.mkdir(parents=True)
    part.write_bytes(gz(CONTENT, level=1)[:5000])  # the mirror has compressed the file again since
    assert depot(tmp_path, server.url).fetch(WRAPPED).read_bytes() == CONTENT
    assert server.requests == [("/toy/images.gz", "bytes=5000-"), ("/toy/images.gz", None)]


def test_the_beginning_from_one_mirror_is_not_continued_from_another(server: Server, tmp_path: Path) -> None:
    first, second = gz(CONTENT, level=9), gz(CONTENT, level=1)
    server.resources["/a/toy/images.gz"] = Resource(first, cuts=[5000] + [0] * 9)
    server.resources["/b/toy/images.gz"] = Resource(second)
    depot(tmp_path, f"{server.url}/a", f"{server.url}/b").fetch(WRAPPED)
    assert [request for request in server.requests if request[0][:3] == "/b/"] == [("/b/toy/images.gz", None)]


def test_a_decompression_bomb_is_refused(server: Server, tmp_path: Path) -> None:
    bomb = gz(b"\0" * 50_000_000)
    assert len(bomb) < WRAPPED.most_bytes
    server.resources["/toy/images.gz"] = Resource(bomb)
    with pytest.raises(CnnzooError, match="too long: its content must not exceed 400000 bytes"):
        depot(tmp_path, server.url).fetch(WRAPPED)
    assert all(path.stat().st_size <= WRAPPED.size for path in (tmp_path / "downloads" / "toy").iterdir())


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to grow a file: what a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.slow
@pytest.mark.parametrize("limit_bytes", [70_000, 200_000], ids=["while fetching", "while unwrapping"])
def test_a_full_disk_gives_one_message_and_loses_nothing(server: Server, tmp_path: Path, limit_bytes: int) -> None:
    server.resources["/toy/images.gz"] = Resource(gz(CONTENT))
    with file_size_limit(limit_bytes), pytest.raises(CnnzooError, match=r"cannot be stored .*Make room"):
        depot(tmp_path, server.url, f"{server.url}/other").fetch(WRAPPED)
    (part,) = (tmp_path / "downloads" / "toy").glob("*.part")
    assert part.stat().st_size >= min(65_536, limit_bytes)
    assert depot(tmp_path, server.url).fetch(WRAPPED).read_bytes() == CONTENT
    assert server.requests[1][1] == f"bytes={min(limit_bytes, len(gz(CONTENT)))}-"


def test_a_folder_that_cannot_be_made_gives_one_message(server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("a file where the folder should be")
    server.resources["/toy/images.gz"] = Resource(gz(CONTENT))
    with pytest.raises(CnnzooError, match="cannot be stored"):
        depot(tmp_path, server.url).fetch(WRAPPED)


FETCH = """
import sys
from pathlib import Path
from cnnzoo.images.content import PublishedFile
from cnnzoo.images.download import Depot
url, downloads, size, sha256 = sys.argv[1:]
Depot("toy", Path(downloads), [url], []).fetch(PublishedFile("archive.tar", int(size), sha256))
"""


def test_a_killed_download_continues_where_it_stopped(server: Server, tmp_path: Path) -> None:
    stalls = Resource(CONTENT, cuts=[200_000], stall_s=30.0)
    server.resources["/toy/archive.tar"] = stalls
    arguments = (server.url, str(tmp_path / "downloads"), str(ARCHIVE.size), ARCHIVE.sha256)
    part = part_path(tmp_path / "downloads" / "toy", f"{server.url}/toy/archive.tar", ARCHIVE)
    with subprocess.Popen([sys.executable, "-c", FETCH, *arguments]) as process:
        deadline = time.monotonic() + 30
        while (not part.exists() or part.stat().st_size < 65_536) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    came = part.stat().st_size
    assert came >= 65_536
    assert depot(tmp_path, server.url).fetch(ARCHIVE).read_bytes() == CONTENT
    assert server.requests == [("/toy/archive.tar", None), ("/toy/archive.tar", f"bytes={came}-")]


def test_a_mirror_is_a_url_or_a_folder() -> None:
    assert mirror_place("https://host/path/", "toy", "f.gz") == "https://host/path/toy/f.gz"
    assert mirror_place("../datasets", "toy", "f.gz") == Path("../datasets/toy")
    assert mirror_place("~/datasets", "toy", "f.gz") == Path.home() / "datasets/toy"


@pytest.mark.parametrize("mirror", ["s3://bucket/x", "file:///data", "", " "])
def test_any_other_mirror_is_refused_by_name(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(CnnzooError, match=rf"`images.mirrors` takes .*got {re.escape(repr(mirror))}"):
        depot(tmp_path, mirror).fetch(WRAPPED)


def test_the_wrapper_bound_holds_for_content_that_does_not_compress() -> None:
    noise = np.random.default_rng(2).bytes(1_000_000)
    for level in range(10):
        assert len(gzip.compress(noise, level)) <= published("noise.gz", noise).most_bytes
