"""Downloads: whatever a host does, the file is whole and right or there is none."""

import hashlib
import json
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlcli import files
from mtlcli.data.download import Downloader, DownloadError, Patience
from mtlcli.data.progress import Bars
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import RunError

DATA = b"\x1f\x8b" + np.random.default_rng(0).bytes(300_000)  # begins as a .gz does
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
HASTY = Patience(silence=0.5, attempts=3, pause=0.01, slowest=100_000, slow_for=0.3)


@dataclass
class Host:
    """How the server behaves for one path, and what it was asked."""

    data: bytes = DATA
    status: int = 200
    cuts: int = 0  # so many answers end in the middle
    ranges: bool = True  # honours Range
    etag: str | None = '"one"'
    length: bool = True  # sends Content-Length
    kind: str = "application/gzip"
    trickle: float = 0.0  # seconds between single bytes
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)  # Range, If-Range


class Handler(BaseHTTPRequestHandler):
    """Serves `hosts` by path."""

    hosts: dict[str, Host]

    def do_GET(self) -> None:
        host = self.hosts.get(self.path)
        if host is None:
            return self.send_error(404)
        span, condition = self.headers["Range"], self.headers["If-Range"]
        host.asked.append((span, condition))
        if host.status != 200:
            return self.send_error(host.status)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and host.ranges else 0
        if condition not in (None, host.etag):
            start = 0
        if start and start >= len(host.data):
            return self.send_error(416)
        self.answer(host, start)

    def answer(self, host: Host, start: int) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(host.data) - 1}/*")
        if host.etag:
            self.send_header("ETag", host.etag)
        if host.length:
            self.send_header("Content-Length", str(len(host.data) - start))
        self.send_header("Content-Type", host.kind)
        self.end_headers()
        body = host.data[start:]
        if host.cuts:
            host.cuts -= 1
            body = body[: len(body) // 2]
        with suppress(OSError):  # the client has left
            self.write(body, host.trickle)

    def write(self, body: bytes, trickle: float) -> None:
        if not trickle:
            self.wfile.write(body)
            return
        for value in body:
            self.wfile.write(bytes([value]))
            self.wfile.flush()
            if STOP.wait(trickle):
                return

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


STOP = threading.Event()


@contextmanager
def serving(**hosts: Host) -> Iterator[str]:
    """A server on this machine; host `a` answers at URL/a."""
    handler = type("Handler", (Handler,), {"hosts": {f"/{k}": v for k, v in hosts.items()}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    STOP.clear()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        STOP.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def downloader(tmp_path: Path) -> Downloader:
    return Downloader(
        folder=tmp_path / "downloads",
        ledger=tmp_path / "sources.json",
        bars=Bars(quiet=True),
        patience=HASTY,
    )


def remote(base: str, *paths: str, **known: Any) -> Remote:
    return Remote(file="x.tar.gz", urls=tuple(f"{base}/{p}" for p in paths), **known)


def known(**more: Any) -> dict[str, Any]:
    return {"size": len(DATA), "sha256": SHA256, **more}


def test_a_file_arrives_whole_and_is_not_fetched_twice(downloader: Downloader) -> None:
    host = Host()
    with serving(a=host) as base:
        path = downloader.fetch(remote(base, "a", **known()))
        downloader.fetch(remote(base, "a", **known()))
    assert path.read_bytes() == DATA
    assert len(host.asked) == 1
    assert [p.name for p in downloader.folder.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("published", [True, False])
def test_a_cut_download_goes_on_where_it_stopped(downloader: Downloader, published: bool) -> None:
    host = Host(cuts=5)
    with serving(a=host) as base:
        path = downloader.fetch(remote(base, "a", **(known() if published else {})))
    assert path.read_bytes() == DATA
    assert host.asked[0] == (None, None)
    starts = [int(span.removeprefix("bytes=").rstrip("-")) for span, _ in host.asked[1:]]
    assert starts == sorted(starts)
    assert starts[0] >= len(DATA) // 4
    assert {condition for _, condition in host.asked[1:]} == {'"one"'}


def test_a_later_run_goes_on_too(downloader: Downloader) -> None:
    with serving(a=Host(cuts=99, data=DATA[:1000])) as base, pytest.raises(DownloadError):
        downloader.fetch(remote(base, "a"))  # a host that always cuts: the part stays
    part = downloader.folder / "x.tar.gz.part"
    part.write_bytes(DATA[:200_000])
    host = Host()
    with serving(a=host) as base:
        url = f"{base}/a"
        note = {"url": url, "validator": '"one"', "total": len(DATA)}
        files.write_json(downloader.folder / "x.tar.gz.part.json", note)
        path = downloader.fetch(remote(base, "a"))
    assert path.read_bytes() == DATA
    assert host.asked == [("bytes=200000-", '"one"')]


def test_a_file_that_changed_meanwhile_starts_anew(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b old" * 100)
    host = Host()
    with serving(a=host) as base:
        note = {"url": f"{base}/a", "validator": '"old"', "total": 99_999}
        files.write_json(downloader.folder / "x.tar.gz.part.json", note)
        path = downloader.fetch(remote(base, "a"))
    assert path.read_bytes() == DATA
    assert host.asked == [("bytes=600-", '"old"')]


def test_a_part_nothing_is_known_about_starts_anew(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b what is this?")
    host = Host(etag=None)
    with serving(a=host) as base:
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA
    assert host.asked == [(None, None)]


def test_a_server_that_ignores_ranges_starts_anew(downloader: Downloader) -> None:
    host = Host(cuts=1, ranges=False)
    with serving(a=host) as base:
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA
    assert host.asked[1][0] is not None


def test_a_complete_part_is_not_fetched_again(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(DATA)
    host = Host()
    with serving(a=host) as base:
        assert downloader.fetch(remote(base, "a", **known())).read_bytes() == DATA
    assert host.asked == []


def test_a_part_of_another_file_does_not_spoil_the_download(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b" + bytes(100_000))
    with serving(a=Host()) as base:
        assert downloader.fetch(remote(base, "a", **known())).read_bytes() == DATA


BAD_HOSTS = {
    "HTTP 404": Host(status=404),
    "Service Unavailable": Host(status=503),
    "sends a web page": Host(kind="text/html", data=b"<html>Sign in</html>" * 20_000),
    "sends a web page instead": Host(data=b"  <!DOCTYPE html>".ljust(len(DATA))),
    "no .gz file": Host(data=b"PK\3\4".ljust(len(DATA))),
    "offers 300001 bytes, expected 300002": Host(data=DATA[:-1]),
    "its sha256 is": Host(data=DATA[:-1] + b"!"),
    "IncompleteRead": Host(cuts=99, ranges=False),
    "slower than 100000 bytes a second": Host(trickle=0.02),
    "timed out": Host(trickle=5.0),
}


@pytest.mark.parametrize("reason", BAD_HOSTS)
def test_a_bad_mirror_is_named_and_the_next_one_used(downloader: Downloader, reason: str) -> None:
    bad = replace(BAD_HOSTS[reason], asked=[])
    with serving(bad=bad) as base, pytest.raises(DownloadError, match=reason):
        downloader.fetch(remote(base, "bad", **known()))
    assert not (downloader.folder / "x.tar.gz").exists()
    with serving(bad=bad, good=Host()) as base:
        path = downloader.fetch(remote(base, "bad", "good", **known()))
    assert path.read_bytes() == DATA
    assert json.loads(downloader.ledger.read_text())["x.tar.gz"]["sha256"] == SHA256


def test_no_network_is_told_quickly(downloader: Downloader) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9: .*refused"):
        downloader.fetch(remote("http://127.0.0.1:9", "a"))


def test_md5_is_checked_where_that_is_all_there_is(downloader: Downloader) -> None:
    with serving(a=Host()) as base:
        with pytest.raises(DownloadError, match=f"its md5 is {MD5}, expected 00"):
            downloader.fetch(remote(base, "a", md5="00"))
        assert downloader.fetch(remote(base, "a", md5=MD5)).read_bytes() == DATA


def test_the_first_digits_of_a_hash_are_checked_where_no_more_is_published(
    downloader: Downloader,
) -> None:
    with serving(a=Host()) as base:
        with pytest.raises(DownloadError, match=f"its sha256 is {SHA256}, expected 0123abcd"):
            downloader.fetch(remote(base, "a", sha256="0123abcd"))
        assert downloader.fetch(remote(base, "a", sha256=SHA256[:8])).read_bytes() == DATA


def test_what_was_used_first_is_demanded_ever_after(downloader: Downloader) -> None:
    with serving(a=Host()) as base:
        downloader.fetch(remote(base, "a")).unlink()
    entry = json.loads(downloader.ledger.read_text())["x.tar.gz"]
    assert (entry["sha256"], entry["size"]) == (SHA256, len(DATA))
    with serving(a=Host(data=DATA[:-1])) as base:
        with pytest.raises(DownloadError, match=r"first used on .*sources\.json"):
            downloader.fetch(remote(base, "a"))
        downloader.forget(remote(base, "a"))
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA[:-1]


def test_an_end_that_cannot_be_recognised_is_not_trusted(downloader: Downloader) -> None:
    with serving(a=Host(length=False)) as base:
        with pytest.raises(DownloadError, match="does not say how long"):
            downloader.fetch(remote(base, "a"))
        assert downloader.fetch(remote(base, "a", sha256=SHA256)).read_bytes() == DATA


def test_a_file_that_was_tampered_with_is_refused(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz").write_bytes(DATA[:-1])
    with pytest.raises(DownloadError, match=r"not the right file.*delete it"):
        downloader.fetch(remote("http://127.0.0.1:9", "a", **known()))


def test_space_is_asked_for_before(downloader: Downloader, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage)
    host = Host()
    with serving(a=host) as base:
        with pytest.raises(RunError, match=r"0\.3 MB are needed"):
            downloader.fetch(remote(base, "a", **known()))
        assert host.asked == []
        with pytest.raises(RunError, match=r"0\.3 MB are needed"):
            downloader.fetch(remote(base, "a"))


def test_drive_files_come_through_gdown(
    downloader: Downloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(id: str, output: str, resume: bool, quiet: bool) -> str:
        assert (id, resume) == ("abc", True)
        Path(output).write_bytes(DATA)
        return output

    file = Remote(file="x.tar.gz", urls=("gdrive:abc",), sha256=SHA256)
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DownloadError, match=r"Google Drive: needs gdown: pip install"):
        downloader.fetch(file)
    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
    assert downloader.fetch(file).read_bytes() == DATA
