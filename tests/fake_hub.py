"""A Hugging Face hub on this machine: answers for files as the real one does, or badly."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server has and how it behaves; tests change it at will."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}  # "OWNER/NAME@REVISION/FILE" -> content
        self.refusals: dict[str, tuple[int, str]] = {}  # OWNER/NAME -> status, X-Error-Code
        self.sends: dict[str, bytes] = {}  # as `files`: other bytes than promised
        self.commits: dict[str, str] = {}  # "OWNER/NAME@REVISION" -> its commit, if another
        self.page: bytes | None = None  # a web page instead of any answer
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, authorization
        self.address = ""


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub = self.hub
        hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
        if hub.page is not None:
            return self.send(200, hub.page, {"Content-Type": "text/html"})
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        name = f"{repo}@{unquote(revision)}/{file}"
        if repo in hub.refusals:
            status, code = hub.refusals[repo]
            return self.send(status, b"", {"X-Error-Code": code})
        if name not in hub.files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = hub.files[name]
        digest = hashlib.sha256(content).hexdigest()
        commit = hub.commits.get(f"{repo}@{unquote(revision)}", COMMIT)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"',
                   "X-Linked-Size": str(len(content))}  # fmt: skip
        sent = hub.sends.get(name, content) if self.command == "GET" else content
        return self.send(200, sent, headers)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Hub]:
    """The hub, on a free port."""
    hub = Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()
