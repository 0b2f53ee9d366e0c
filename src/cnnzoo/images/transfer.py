"""One file over HTTP, continued where an earlier attempt stopped.

The bytes go to a partial file as they arrive, so little is lost whatever ends the process. A server that ignores
the Range header is read from the start. Bytes are stored as sent (no transparent decompression): only then do they
agree with the ranges.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from cnnzoo.core.numbers import DIGITS, whole_number
from cnnzoo.core.progress import transfer_progress

CHUNK_BYTES = 1 << 16
OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 200, 206, 416
PASSING_FAULTS = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask again."""

    connect_s: float = 10.0
    read_s: float = 60.0
    attempts: int = 4
    """How many attempts in a row may bring no new bytes."""
    pause_s: float = 1.0


class TransferError(Exception):
    """A server did not deliver the file; the message says why. What arrived is kept for the next attempt."""


class _CutError(Exception):
    """The file arrived incomplete: worth another attempt."""


@dataclass(frozen=True)
class Transfer:
    """Completes the partial file `part` with the bytes of `url`, at most `most_bytes`."""

    url: str
    part: Path
    most_bytes: int
    patience: Patience

    def run(self) -> None:
        """Fetch what is missing.

        Raises `TransferError` if the server refuses, sends too much or keeps breaking off; `OSError` if the partial
        file cannot be written.
        """
        most, failures = self._size(), 0
        with _session(self.patience) as session:
            while True:
                try:
                    return self._attempt(session)
                except _CutError as error:
                    failures = 1 if self._size() > most else failures + 1
                    most = max(most, self._size())
                    if failures >= self.patience.attempts:
                        raise TransferError(f"broke off {failures} times after {most} bytes: {error}") from error
                time.sleep(self.patience.pause_s * failures)

    def _attempt(self, session: requests.Session) -> None:
        offset = self._size()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        timeout_s = (self.patience.connect_s, self.patience.read_s)
        try:
            response = session.get(self.url, headers=headers, stream=True, timeout=timeout_s)
        except requests.RequestException as error:
            raise TransferError(_reason(error)) from error
        with response:
            if response.status_code == RANGE_NOT_SATISFIABLE and _range(response) == (None, offset):
                return  # every byte was there already
            start, total = self._placement(response, offset)
            if total is not None and total > self.most_bytes:
                raise TransferError(f"holds {total} bytes, expected at most {self.most_bytes}: not the same file")
            self._store(response, start, total)

    def _placement(self, response: requests.Response, offset: int) -> tuple[int, int | None]:
        """Return where the body starts in the file, and the size of the whole file if the server sends it."""
        if response.status_code == OK:
            length = response.headers.get("Content-Length", "")
            return 0, whole_number(length)
        if response.status_code == PARTIAL_CONTENT:
            start, total = _range(response)
            if start == offset:
                return offset, total
        if offset and response.status_code in (PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE):
            self.part.unlink()
            raise _CutError("the file at the address does not match the partial download")
        raise TransferError(f"HTTP {response.status_code} {response.reason}")

    def _store(self, response: requests.Response, start: int, total: int | None) -> None:
        size = start
        label = self.url.rsplit("/", 1)[-1]
        with self.part.open("ab" if start else "wb") as file, transfer_progress(label, start, total) as advance:
            try:
                for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                    size += len(chunk)
                    if size > self.most_bytes:
                        raise TransferError(f"sends more than the {self.most_bytes} bytes expected: not the same file")
                    file.write(chunk)
                    advance(len(chunk))
            except HTTPError as error:
                raise _CutError(_reason(error)) from error
        if total is not None and size < total:
            raise _CutError(f"{size} of {total} bytes arrived")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _session(patience: Patience) -> requests.Session:
    """Return a session that asks again when it cannot connect or the server is busy."""
    retry = Retry(
        total=patience.attempts - 1,
        backoff_factor=patience.pause_s,
        status_forcelist=PASSING_FAULTS,
        raise_on_status=False,
        respect_retry_after_header=False,  # a server may ask for hours; another address is better
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return start and total of a Content-Range header: `bytes 5-9/10` is (5, 10), `bytes */10` is (None, 10)."""
    match = re.fullmatch(
        rf"bytes (?:({DIGITS})-{DIGITS}|\*)/(?:({DIGITS})|\*)", response.headers.get("Content-Range", "").strip()
    )
    start, total = match.groups() if match else (None, None)
    return (int(start) if start else None), (int(total) if total else None)


def _reason(error: BaseException) -> str:
    """Return the innermost cause of a network error, which requests and urllib3 wrap several times."""
    while isinstance(cause := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = cause
    return f"{type(error).__name__}: {error}"
