"""Folders below folders and addresses of the web, and what is written of them."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlcli.drawing import pictures, remote
from mtlcli.drawing.sources import VIDEOS
from mtlcli.errors import InputError
from mtlcli.maps import depth


def png(width: int = 40, height: int = 30) -> bytes:
    held = BytesIO()
    Image.new("RGB", (width, height), (90, 120, 40)).save(held, "PNG")
    return held.getvalue()


def test_folders_are_walked_and_their_structure_is_kept(folder: Path, network: Path, mtl) -> None:
    for name in ("a.png", "x/a.png", "x/y/b.png"):
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(png())
    options = ("--checkpoint", network, "--quiet", "--recursive")
    assert mtl("visualize", "in", "--tasks", "depth", *options).code == 0
    names = ["a", "x/a", "x/y/b"]
    assert all((folder / "visualized" / f"{name}.png").is_file() for name in names)
    again = mtl("visualize", ".", "--tasks", "depth", "--separate", *options)
    assert again.code == 0
    found = Path("visualized").glob("**/*.npz")
    values = sorted(p.relative_to("visualized").as_posix() for p in found)
    assert values == [f"in/{name}.npz" for name in names]


def test_the_files_of_a_picture_say_what_they_mean(folder: Path, network: Path, mtl) -> None:
    (folder / "a.png").write_bytes(png())
    answer = mtl("visualize", "a.png", "--separate", "--checkpoint", network, "--quiet")
    assert answer.code == 0, answer.err
    out = folder / "visualized"
    said = json.loads((out / "a.json").read_text())
    assert all((out / name).is_file() for name in said["files"])
    assert said["picture"] == {"source": "a.png", "width": 40, "height": 30}
    classes = said["tasks"]["semseg"]["classes"]
    with np.load(out / "a.npz") as file:
        counts = np.bincount(file["semseg"].ravel(), minlength=3)
        near, far = file["depth"].min(), file["depth"].max()
    assert {c["index"]: c["pixels"] for c in classes} == {i: n for i, n in enumerate(counts) if n}
    assert {c["name"] for c in classes} <= {"wall", "floor", "person"}
    assert said["tasks"]["depth"]["range"] == pytest.approx([near, far])
    assert (said["tasks"]["depth"]["unit"], said["tasks"]["depth"]["png_step"]) == ("m", 0.001)
    assert "away from the camera" in said["tasks"]["normals"]["holds"]
    with np.load(out / "a.npz") as file:
        assert {n: list(file[n].shape) for n in file} == {
            name: told["shape"] for name, told in said["tasks"].items()
        }
    assert {name for name, told in said["tasks"].items() if "png" in told} == {"normals", "edge"}
    assert said["network"]["trained_at"] == [48, 64]
    with Image.open(out / "overlay" / "a.png") as shown:
        assert shown.size == (40, 30)
    with Image.open(out / "drawn" / "depth" / "a.png") as shown:
        assert shown.height > 336  # its key is below it


def test_depth_is_drawn_in_the_colour_map_that_is_wanted() -> None:
    ramp = np.linspace(1, 2, 64, dtype=np.float32).reshape(1, 8, 8)
    drawn = {name: depth.draw(ramp, {"colormap": name}) for name in ("inferno", "turbo", "grey")}
    np.testing.assert_array_equal(drawn["inferno"], depth.draw(ramp, {}))
    assert (drawn["grey"] == drawn["grey"][..., :1]).all()
    assert np.abs(drawn["turbo"].astype(int) - drawn["inferno"]).mean() > 20


# ---- addresses of the web ----


class Site(BaseHTTPRequestHandler):
    """A picture, a page, a redirect inwards, and more than is wanted."""

    def do_GET(self) -> None:
        place = self.path.split("?")[0]
        if place == "/inwards":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.2/secret.png")
            self.end_headers()
        elif place == "/round":
            self.send_response(302)
            self.send_header("Location", "/round")
            self.end_headers()
        elif place in ("/drip", "/drip.png"):
            self.send_response(200)
            if place == "/drip.png":
                self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.02)
        else:
            kind = "text/html" if place == "/page" else "image/png"
            body = png() if place != "/gone" else b""
            self.send_response(404 if place == "/gone" else 200)
            self.send_header("Content-Type", kind)
            if place == "/short":
                self.send_header("Content-Length", str(len(body) + 9))
            self.end_headers()
            self.wfile.write(b"x" * 5000 if place in ("/large.png", "/no.png") else body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a site that passes for public; 127.0.0.2 does not."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(remote, "is_public", lambda address: address == "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.png"])
def test_a_pipe_is_not_waited_for(folder: Path, mtl, name: str) -> None:
    os.mkfifo(folder / name)
    answer = mtl("visualize", name, "--quiet")
    assert (answer.code, answer.err) == (2, f"mtl: {name} is no regular file.\n")


def test_a_picture_of_the_web_is_drawn(folder: Path, network: Path, mtl, site: str) -> None:
    answer = mtl("visualize", f"{site}/my%20room.png?size=2", "--checkpoint", network, "--quiet")
    assert answer.code == 0, answer.err
    assert (folder / "visualized" / "my_room.png").is_file()


@pytest.mark.parametrize(
    "place", ["inwards", "round", "page", "gone", "short", "large.png", "no.png"]
)
def test_what_is_no_picture_of_the_web_is_one_line(
    folder: Path, network: Path, mtl, site: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "large.png":
        monkeypatch.setattr(remote, "LARGEST", 4000)
    answer = mtl("visualize", f"{site}/{place}", "--checkpoint", network, "--quiet")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert f"{site}/{place}" in answer.err


@pytest.mark.parametrize("place", ["drip", "drip.png"])  # in the headers, and in the body
def test_what_drips_is_hung_up(
    site: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LONGEST", 0.4)
    with pytest.raises(InputError, match="too slow"):
        remote.fetch(f"{site}/{place}", tmp_path)


def test_one_bad_address_of_several_costs_only_itself(
    folder: Path, network: Path, mtl, site: str
) -> None:
    (folder / "a.png").write_bytes(png())
    answer = mtl(
        "visualize", f"{site}/gone", "a.png", f"{site}/b.png", "--checkpoint", network, "--quiet"
    )
    assert answer.code == 1
    assert f"{site}/gone" in answer.err
    assert sorted(p.name for p in (folder / "visualized").iterdir()) == ["a.png", "b.png"]


def test_nothing_is_fetched_before_the_line_is_known_to_be_right(
    folder: Path, network: Path, mtl, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "fetch", lambda *_, **__: pytest.fail("fetched"))
    for wrong in (("--tasks", "sal"), ("--layout", "sal"), ("--fov", 60), ("--checkpoint", "no")):
        line = ("visualize", f"{site}/a.png", "--checkpoint", network, *wrong)
        assert mtl(*line).code == 2


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        ("get.php", "video/mp4", ".mp4"),
        ("clip", "video/quicktime", ".mov"),
        ("clip", "video/x-flv", ".mp4"),
        ("get.php", "image/gif", ".gif"),
        ("clip.MP4", "video/mp4", ".MP4"),
        ("a.mpeg", "video/mpeg", ".mpg"),
        ("a.mp4", "image/png", ".png"),
        ("a.mov", "application/octet-stream", ".mov"),
        ("a.jpg", "image/png", ".jpg"),
        ("a", "image/svg+xml", ".svg"),
    ],
)
def test_the_kind_tells_whether_a_file_of_the_web_has_frames(
    name: str, kind: str, suffix: str
) -> None:
    assert remote.suffix_of(name, kind) == suffix
    moves = kind.startswith("video/") or kind == "image/gif" or suffix == ".mov"
    assert (suffix.lower() in (*VIDEOS, ".gif")) == moves


@pytest.mark.parametrize("tail", ["85e5", "1"])  # no port, one that looks like a port
def test_an_address_of_version_6_is_no_host_and_port(
    monkeypatch: pytest.MonkeyPatch, tail: str
) -> None:
    monkeypatch.setattr(remote, "reach", lambda addresses: socket.socket())
    url = f"http://[2606:4700::6810:{tail}]/a.jpg"
    connection, _ = remote.connect(url, url)
    assert (connection.host, connection.port) == (f"2606:4700::6810:{tail}", 80)
    connection.close()


def test_addresses_are_asked_as_browsers_show_them_and_in_turn(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(site.rsplit(":", 1)[1])
    closed = ("127.0.0.1", 9)
    monkeypatch.setattr(remote, "find_addresses", lambda *_: [closed, ("127.0.0.1", port)])
    assert remote.fetch(f"{site}/küche 1.png?größe=2", tmp_path).name == "küche_1.png"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("64:ff9b::7f00:1", False),
        ("::7f00:1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("fe80::1%1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_what_an_address_carries_decides(address: str, public: bool) -> None:
    assert remote.is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "http://",
        "http://localhost/a.png",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:10.0.0.1]/a.png",
        "http://[64:ff9b::a9fe:a9fe]/a.png",
        "http://192.168.1.1/a.png",
        "http://169.254.169.254/latest",
        "http://0.0.0.0/a.png",
        "http://2130706433/a.png",
        "http://a:99999/a.png",
    ],
)
def test_only_public_addresses_of_the_web_are_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        remote.fetch(url, tmp_path)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
