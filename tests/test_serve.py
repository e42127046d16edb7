"""The page shows what the network sees, says what it cannot take, and asks nobody outside."""

import base64
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.page import look as looking
from mtlcli.page.look import look, open_upload
from mtlcli.page.tiles import as_bytes
from mtlcli.runs.checkpoint import Trained
from tests.served import NAMES, TASKS, served_page, small_network


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A small network of random weights."""
    return small_network()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_a_look_holds_every_task_at_the_size_of_the_picture(trained: Trained, photo: Path) -> None:
    seen = look(trained, photo)
    assert list(seen.drawn) == [lookup.load("tasks", name).TASK.title for name in TASKS]
    assert all(drawn.shape == seen.image.shape == (60, 90, 3) for drawn in seen.drawn.values())
    assert seen.html.count("<figure") == 1 + len(TASKS)
    assert "<b>&quot;" not in seen.html
    assert '<b>"chair"' not in seen.html


def test_large_pictures_are_shown_smaller(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "wide.jpg"
    Image.new("RGB", (3000, 300), "red").save(path)
    assert look(trained, path).image.shape == (102, 1024, 3)


def test_what_is_no_picture_is_refused_without_naming_a_path(tmp_path: Path, photo: Path) -> None:
    whole = photo.read_bytes()
    for content in (b"", b"hello", b"<svg/>", whole[: len(whole) // 2]):
        path = tmp_path / "upload.png"
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a picture") as refused:
            open_upload(path)
        assert str(tmp_path) not in str(refused.value)


def test_giants_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "read_image", lambda path: pytest.fail("was decoded"))
    for side in (8000, 50_000):  # the second is beyond Pillow's own limit
        path = tmp_path / "giant.png"
        path.write_bytes(png_header(side))
        with pytest.raises(InputError, match="up to 50 million pixels"):
            open_upload(path)


def png_header(side: int) -> bytes:
    """The start of a PNG file of side x side pixels."""
    fields = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields) + chunk(b"IDAT", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    """A piece of a PNG file."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def test_hidden_pictures_hold_the_values(trained: Trained) -> None:
    metres = np.full((1, 4, 6), 3.217, np.float32)
    values = as_bytes(lookup.load("tasks", "depth").TASK.map.encode(metres, {}))
    assert (256 * values[0, 0, 0].astype(int) + values[0, 0, 1]) / 1000 == 3.217
    classes = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert (as_bytes(classes) == classes).all()
    assert as_bytes(np.zeros((2000, 1000), np.uint8)).shape == (500, 250)


def test_without_gradio_the_command_that_installs_it_is_said(
    mtl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mtlcli.page.layout", None)
    answer = mtl("serve")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "pip install 'mtlcli[web]'" in answer.err


@pytest.fixture(scope="module")
def address(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, served."""
    with served_page(trained, tmp_path_factory.mktemp("uploads")) as (_, port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """The page in a tab; at its end nothing was asked of other hosts, and no error was logged."""
    tab = browser.new_page(viewport={"width": 1280, "height": 1000})
    complaints: list[str] = []
    local = (address, address.replace("http", "ws"), "data:", "blob:")
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda r: None if r.url.startswith(local) else complaints.append(r.url))
    tab.goto(address)
    tab.wait_for_selector("input[type=file]", state="attached", timeout=60_000)
    yield tab
    tab.close()
    assert not complaints


def test_a_browser_shows_all_maps_and_the_values_under_the_pointer(tab: Any, photo: Path) -> None:
    tab.set_input_files("input[type=file]", str(photo))
    tab.wait_for_selector(".mtl-tile img", timeout=60_000)
    assert tab.locator(".mtl-tile").count() == 1 + len(TASKS)
    tab.wait_for_function("document.querySelectorAll('.slider-wrap img, img').length >= 8")
    picture = tab.locator(".mtl-picture").nth(2)
    read = tab.locator(".mtl-tile output")
    for _ in range(20):
        for x in (20, 40):
            picture.hover(position={"x": x, "y": 30})
        if read.nth(2).inner_text():
            break
        tab.wait_for_timeout(100)
    image, *said = read.all_inner_texts()
    assert said[0] in NAMES
    assert said[1].endswith(" m")
    assert said[2].startswith("x ")
    assert said[3].endswith(" %")
    assert image == f"{said[0]}, {said[1]}"
    tab.get_by_label("Surface normals").check()
    tab.wait_for_timeout(300)


def test_a_browser_says_what_is_no_picture(tab: Any, tmp_path: Path) -> None:
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    tab.set_input_files("input[type=file]", str(fake))
    tab.get_by_text("This file is not a picture that can be read.").first.wait_for(timeout=30_000)
    tab.locator("#tiles [role=alert]").wait_for()
    assert tab.locator(".mtl-tile").count() == 0


def test_the_server_refuses_more_bytes_than_the_page_says(address: str) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install httpx")
    too_much = b"0" * (looking.MOST_BYTES + 1)
    answer = httpx.post(address + "gradio_api/upload", files={"files": ("big.png", too_much)})
    assert answer.status_code == 413


def test_pictures_in_the_page_are_whole(trained: Trained, photo: Path) -> None:
    html = look(trained, photo).html
    url = html.split('data-values="data:image/png;base64,')[1].split('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(url))).size == (90, 60)
