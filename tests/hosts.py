"""Hosts of files on this machine that behave as badly as real ones."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from mtlcli.data.download import Downloader
from mtlcli.data.progress import Bars
from mtlcli.data.way import Patience
from mtlcli.datasets._dataset import Remote

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
    shorter: int = 0  # so many answers give less of the rest than was asked for
    total: int | None = None  # what Content-Range says of the whole file
    more: tuple[tuple[str, str], ...] = ()  # further headers
    leads_to: str | None = None  # redirects there
    raw: bytes | None = None  # all that it says
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
        if host.raw is not None:
            self.wfile.write(host.raw)
            return None
        if host.leads_to is not None:
            self.send_response(302)
            self.send_header("Location", host.leads_to)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if host.status != 200:
            return self.send_error(host.status)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and host.ranges else 0
        if condition not in (None, host.etag):
            start = 0
        if start and start >= len(host.data):
            return self.send_error(416)
        self.answer(host, start)

    def answer(self, host: Host, start: int) -> None:
        body = host.data[start:]
        if start and host.shorter:
            host.shorter -= 1
            body = body[: len(body) // 2]
        self.send_response(206 if start else 200)
        if start:
            total = host.total or "*"
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
        if host.etag:
            self.send_header("ETag", host.etag)
        if host.length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", host.kind)
        for name, value in host.more:
            self.send_header(name, value)
        self.end_headers()
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


def hasty(folder: Path) -> Downloader:
    """A downloader into a folder that soon gives up."""
    return Downloader(
        folder=folder / "downloads",
        ledger=folder / "sources.json",
        bars=Bars(quiet=True),
        patience=HASTY,
    )


def remote(base: str, *paths: str, **known: Any) -> Remote:
    """The file under some addresses of the server."""
    return Remote(file="x.tar.gz", urls=tuple(f"{base}/{p}" for p in paths), **known)


def known(**more: Any) -> dict[str, Any]:
    """What is published of the file."""
    return {"size": len(DATA), "sha256": SHA256, **more}
