import socket
from pathlib import Path

import numpy as np
import pytest
from image_server import IMPATIENT, Resource, Server

from cnnzoo.core import progress
from cnnzoo.images.transfer import Transfer, TransferError

BODY = np.random.default_rng(0).bytes(300_000)


def run(server: Server, part: Path, most_bytes: int = len(BODY)) -> bytes:
    Transfer(f"{server.url}/f", part, most_bytes, IMPATIENT).run()
    return part.read_bytes()


def test_continues_a_partial_file_with_a_range_request(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY)
    (tmp_path / "part").write_bytes(BODY[:1000])
    assert run(server, tmp_path / "part") == BODY
    assert server.requests == [("/f", "bytes=1000-")]


@pytest.mark.parametrize("length", ["9" * 5000, "300000 bytes", ""])
def test_a_length_that_is_no_number_tells_nothing(server: Server, tmp_path: Path, length: str) -> None:
    server.resources["/f"] = Resource(BODY, headers={"Content-Length": length}, tells_length=False)
    assert run(server, tmp_path / "part") == BODY


def test_starts_again_where_the_server_ignores_the_range(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, ranges=False)
    (tmp_path / "part").write_bytes(b"x" * 1000)
    assert run(server, tmp_path / "part") == BODY
    assert len(server.requests) == 1


def test_continues_after_a_cut_connection(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, cuts=[100_000, 50_000])
    assert run(server, tmp_path / "part") == BODY
    assert server.requests == [("/f", None), ("/f", "bytes=100000-"), ("/f", "bytes=150000-")]


def test_a_line_that_breaks_often_gets_the_file_as_long_as_bytes_come(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, cuts=[20_000] * 3 * IMPATIENT.attempts)
    assert run(server, tmp_path / "part") == BODY
    assert len(server.requests) == 3 * IMPATIENT.attempts + 1


def test_gives_up_when_attempts_bring_nothing_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, cuts=[70_000] + [0] * 20)
    with pytest.raises(TransferError, match="broke off 3 times after 70000 bytes"):
        run(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BODY[:70_000]
    assert len(server.requests) == 3


def test_gives_up_on_a_server_that_ignores_ranges_and_always_breaks_off(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, cuts=[70_000, 60_000] * 20, ranges=False)
    with pytest.raises(TransferError, match="broke off 3 times"):
        run(server, tmp_path / "part")


def test_a_part_that_is_already_whole_needs_no_byte(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY)
    (tmp_path / "part").write_bytes(BODY)
    assert run(server, tmp_path / "part") == BODY
    assert len(server.requests) == 1


def test_a_part_longer_than_the_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY)
    (tmp_path / "part").write_bytes(BODY + b"more")
    assert run(server, tmp_path / "part") == BODY
    assert server.requests[-1] == ("/f", None)


def test_a_range_that_starts_elsewhere_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, starts_at=512)
    (tmp_path / "part").write_bytes(BODY[:1000])
    assert run(server, tmp_path / "part") == BODY


def test_ranges_shorter_than_asked_are_put_together(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, range_bytes=120_000)
    (tmp_path / "part").write_bytes(BODY[:1000])
    assert run(server, tmp_path / "part") == BODY
    assert [asked for _, asked in server.requests] == ["bytes=1000-", "bytes=121000-", "bytes=241000-"]


def test_bytes_are_kept_as_sent_whatever_encoding_the_server_claims(server: Server, tmp_path: Path) -> None:
    # Some servers label a .gz file `Content-Encoding: gzip`; unwrapped bytes would not fit the ranges.
    server.resources["/f"] = Resource(BODY, headers={"Content-Encoding": "gzip"})
    assert run(server, tmp_path / "part") == BODY


def test_a_missing_file_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="HTTP 404 Not Found"):
        run(server, tmp_path / "part")
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(BODY, statuses=[503, 429])
    assert run(server, tmp_path / "part") == BODY
    server.resources["/f"] = Resource(BODY, statuses=[503] * 100)
    (tmp_path / "part").unlink()
    with pytest.raises(TransferError, match="HTTP 503"):
        run(server, tmp_path / "part")
    assert len(server.requests) == 3 + IMPATIENT.attempts


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_larger_file_than_expected_is_refused(server: Server, tmp_path: Path, tells_length: bool) -> None:
    server.resources["/f"] = Resource(BODY, tells_length=tells_length)
    with pytest.raises(TransferError, match="not the same file"):
        run(server, tmp_path / "part", most_bytes=200_000)
    assert (tmp_path / "part").exists() == (not tells_length)  # nothing is read where the length says enough


def test_an_unreachable_server_is_named_with_its_cause(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/f"
    with pytest.raises(TransferError, match="Connection refused"):
        Transfer(url, tmp_path / "part", 10, IMPATIENT).run()


def test_a_log_gets_plain_lines(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    server.resources["/f"] = Resource(BODY)
    run(server, tmp_path / "part")
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1] == "f: 0.3 of 0.3 MB"
    assert "\r" not in shown
    assert "\x1b" not in shown


def test_a_continued_download_tells_all_that_is_there(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    server.resources["/f"] = Resource(BODY)
    (tmp_path / "part").write_bytes(BODY[:210_000])
    run(server, tmp_path / "part")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] in ("f: 0.2 of 0.3 MB", "f: 0.3 of 0.3 MB")
    assert lines[-1] == "f: 0.3 of 0.3 MB"


def test_a_terminal_gets_a_bar(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    server.resources["/f"] = Resource(BODY)
    run(server, tmp_path / "part")
    assert "━" in capsys.readouterr().err
