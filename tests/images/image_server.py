"""A loopback HTTP server that misbehaves as told, and records of files made for a test."""

import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cnnzoo.images.content import PublishedFile
from cnnzoo.images.transfer import Patience

IMPATIENT = Patience(connect_s=2.0, read_s=2.0, attempts=3, pause_s=0.0)


def published(name: str, content: bytes) -> PublishedFile:
    """Return the registry's record of a file with this content."""
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest(), gzipped=name.endswith(".gz"))


def gz(content: bytes, level: int = 9) -> bytes:
    return gzip.compress(content, compresslevel=level, mtime=0)


@dataclass
class Resource:
    """What the server does with one path."""

    body: bytes = b""
    statuses: list[int] = field(default_factory=list)  # of the first requests; then it serves
    cuts: list[int] = field(default_factory=list)  # bytes sent of the first answers before the connection is cut
    ranges: bool = True
    tells_length: bool = True
    range_bytes: int | None = None  # the most that a range answer holds
    starts_at: int | None = None  # where a range answer starts, whatever was asked
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0  # how long a cut connection stays open first


@dataclass
class Server:
    url: str = ""
    resources: dict[str, Resource] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of every request."""
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.state.requests.append((self.path, asked))
        resource = self.state.resources.get(self.path, Resource(statuses=[404]))
        if resource.statuses:
            status = resource.statuses.pop(0) if self.path in self.state.resources else 404
            self._head(status, {"Content-Length": "0"})
            return
        self._serve(resource, asked)

    def _serve(self, resource: Resource, asked: str | None) -> None:
        start, status, headers = 0, 200, dict(resource.headers)
        if asked and resource.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(resource.body):
                self._head(416, {"Content-Range": f"bytes */{len(resource.body)}", "Content-Length": "0"})
                return
            start, status = start if resource.starts_at is None else resource.starts_at, 206
        body = resource.body[start:] if status == 200 else resource.body[start:][: resource.range_bytes]
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(resource.body)}"
        if resource.tells_length:
            headers["Content-Length"] = str(len(body))
        self._head(status, headers)
        if not resource.cuts:
            self.wfile.write(body)
            return
        self.wfile.write(body[: resource.cuts.pop(0)])
        self.state.over.wait(resource.stall_s)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.over.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()
