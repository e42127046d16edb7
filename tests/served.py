"""The page of `mtl serve` around a small network, and requests that no browser would send."""

import gc
import http.client
import json
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlcli.data.hdf5 import Info
from mtlcli.runs.checkpoint import Trained, build_network
from mtlcli.runs.config import RunConfig

TASKS = ("semseg", "depth", "normals", "edge", "sal")
NAMES = ("wall", "floor", '<b>"chair"</b>')
SHOW = 0  # the number of the page's function that takes a picture


def small_network() -> Trained:
    """A network of random weights."""
    torch.manual_seed(0)
    config = RunConfig(
        dataset="rooms", system="multi_task", backbone="resnet18_half", tasks=TASKS, size=(48, 64)
    )
    dataset = Info(title="Rooms", size=(48, 64), classes={"semseg": NAMES})
    return Trained(
        path=Path("nyud_small"),  # a name that is known everywhere
        network=build_network(config, dataset).eval(),
        config=config,
        dataset=dataset,
        iteration=1,
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served_page(trained: Trained, folder: Path) -> Iterator[tuple[Any, int]]:
    """The page of a network and its port; uploads go into the folder."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install mtlcli[web]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # gradio leaves event loops open
        from mtlcli.page import layout

        port = free_port()
        page, _ = layout.launch(trained, "127.0.0.1", port, folder)
        gc.collect()
    yield page, port
    page.close(verbose=False)


class Visitor:
    """Sends what it likes to 127.0.0.1:port; every answer must come within ten seconds."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Status, body, headers."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        given = {"Host": f"127.0.0.1:{self.port}"} | dict(headers or {})
        try:
            link.request(method, path, body, given, encode_chunked="Transfer-Encoding" in given)
            answer = link.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            link.close()

    def join(self, data: Any, session: Any = "visitor", **more: Any) -> tuple[int, bytes]:
        """Ask for a prediction."""
        asked = {"data": data, "fn_index": SHOW, "session_hash": session, "trigger_id": 4} | more
        status, said, _ = self.ask(
            "POST",
            "/gradio_api/queue/join",
            json.dumps(asked),
            {"Content-Type": "application/json"},
        )
        return status, said

    def upload(self, *files: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Send files in one request; the answer lists their paths."""
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            + file
            + b"\r\n"
            for file in files
        ]
        kind = {"Content-Type": "multipart/form-data; boundary=b"} | dict(headers or {})
        body = b"".join([*parts, b"--b--\r\n"])
        status, said, _ = self.ask("POST", "/gradio_api/upload", body, kind)
        return status, said

    def shown(self, session: str = "visitor") -> dict[str, Any]:
        """What the page at last says to what was joined."""
        _, said, _ = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")
        messages = [json.loads(x.removeprefix("data: ")) for x in said.decode().split("\n\n") if x]
        return next(m for m in messages if m["msg"] == "process_completed")
