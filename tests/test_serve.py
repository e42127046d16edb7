"""The page shows what the network sees, says what it cannot take, and asks nobody outside."""

import base64
import io
import re
import struct
import sys
import zipfile
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
from mtlcli.page import words
from mtlcli.page.downloads import ZIP
from mtlcli.page.look import look, open_upload, see, titles_of
from mtlcli.page.tiles import OVERLAY, as_bytes
from mtlcli.page.uploads import MOST_BYTES, Uploads
from mtlcli.runs.checkpoint import Trained
from tests.pages import example
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
    titles = [lookup.load("tasks", name).TASK.title for name in TASKS]
    assert list(seen.drawn) == titles_of(trained) == [*titles, OVERLAY]
    assert all(drawn.shape == seen.image.shape == (60, 90, 3) for drawn in seen.drawn.values())
    assert seen.html.count("<figure") == 1 + len(TASKS) + 2  # overlay and points
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
    assert tab.locator(".mtl-tile").count() == 1 + len(TASKS) + 1
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


@pytest.fixture(params=[1280, 390])
def sized(request: Any, tab: Any) -> Any:
    """The page at two widths, after a click on a room."""
    tab.set_viewport_size({"width": request.param, "height": 900})
    tab.get_by_role("button", name="A bedroom").click()
    tab.wait_for_selector(".mtl-points canvas[data-turned]", timeout=60_000)
    return tab


def test_a_room_to_try_is_shown_and_its_points_turn(sized: Any) -> None:
    assert sized.locator(".mtl-tile").count() == 1 + len(TASKS) + 1
    assert sized.evaluate("document.documentElement.scrollWidth") <= sized.viewport_size["width"]
    canvas = sized.locator(".mtl-points canvas")
    ink = (
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => a + b)"
    )
    before, turned = canvas.evaluate(ink), canvas.get_attribute("data-turned")
    assert before > 0
    canvas.press("ArrowRight")
    assert canvas.get_attribute("data-turned") != turned
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    sized.mouse.move(box["x"] + 40, box["y"] + 40)
    sized.mouse.down()
    sized.mouse.move(box["x"] + 90, box["y"] + 60)
    sized.mouse.up()
    assert canvas.evaluate(ink) != before
    canvas.dblclick()
    assert canvas.get_attribute("data-turned") == turned


def test_each_map_and_all_can_be_saved(tab: Any, trained: Trained, photo: Path) -> None:
    tab.set_input_files("input[type=file]", str(photo))
    tab.wait_for_selector(".mtl-links a", timeout=60_000)
    maps = see(trained, photo).maps
    with tab.expect_download() as begun:
        tab.get_by_role("link", name="Save all maps").click()
    assert begun.value.suggested_filename == ZIP
    compare_with_maps(Path(begun.value.path()), maps)
    for place, task in enumerate(TASKS):
        with tab.expect_download() as begun:
            tab.get_by_role("link", name="Save values").nth(place).click()
        assert begun.value.suggested_filename == f"{task}.png"
        with Image.open(begun.value.path()) as opened:
            values = np.asarray(opened)
        assert values.shape[:2] == (60, 90)
        if task == "depth":
            np.testing.assert_allclose(values / 1000, maps[task][0], atol=0.00051)
    with tab.expect_download() as begun:
        tab.get_by_role("button", name="Save colours").nth(len(TASKS)).click()
    assert begun.value.suggested_filename == "overlay_colours.png"
    with Image.open(begun.value.path()) as opened:
        np.testing.assert_array_equal(opened.convert("RGB"), see(trained, photo).overlay())


def compare_with_maps(packed: Path, maps: Any) -> None:
    """A zip of all maps holds their values."""
    with zipfile.ZipFile(packed) as opened:
        (name,) = [n for n in opened.namelist() if n.endswith(".npz")]
        kept = np.load(io.BytesIO(opened.read(name)))
    assert set(kept) == set(maps)
    np.testing.assert_allclose(kept["depth"], maps["depth"][0], rtol=1e-5)
    np.testing.assert_array_equal(kept["semseg"], maps["semseg"])


def test_a_program_calls_the_named_endpoints(
    address: str, trained: Trained, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_of = pytest.importorskip("gradio_client", reason="needs gradio: mtlcli[web]")
    client = client_of.Client(
        address, analytics_enabled=False, verbose=False, download_files=str(tmp_path / "got")
    )
    try:
        told = client.predict(api_name="/network")
        assert list(told["tasks"]) == list(TASKS)
        assert told["classes"]["semseg"] == list(NAMES)
        packed = client.predict(client_of.handle_file(str(photo)), api_name="/predict")
        compare_with_maps(Path(packed), see(trained, photo).maps)
        fake = tmp_path / "fake.png"
        fake.write_text("no picture")
        with pytest.raises(Exception, match="not a picture"):
            client.predict(client_of.handle_file(str(fake)), api_name="/predict")
    finally:
        client.close()


def test_the_programs_that_reference_and_page_show_run_as_they_stand(
    address: str, trained: Trained, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio_client", reason="needs gradio: mtlcli[web]")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.chdir(photo.parent)
    for name in ("photo.jpg", "room.jpg"):
        Image.open(photo).save(name)
    (shown,) = re.findall(r"```python\n(.*?)```", words.footing(trained), re.S)
    for code in (example("gradio_client"), shown):
        assert "http://127.0.0.1:7860" in code
        names: dict[str, Any] = {}
        exec(code.replace("http://127.0.0.1:7860", address), names)
        names["page"].close()


def test_where_there_is_no_room_maps_are_shown_and_not_written(
    trained: Trained, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    assert "Save all maps" in look(trained, photo, Uploads(folder)).html
    before = sorted(folder.rglob("*"))

    def fill(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mtlcli.page.downloads.ZipFile", fill)
        assert "Save all maps" not in look(trained, photo, Uploads(folder)).html
    monkeypatch.setattr("mtlcli.page.uploads.MOST_STORED", 0)
    assert "Save all maps" not in look(trained, photo, Uploads(folder)).html
    assert sorted(folder.rglob("*")) == before


def test_the_page_says_in_plain_words_what_the_network_knows(trained: Trained) -> None:
    said = words.heading(trained)
    for task in trained.tasks.values():
        assert task.question
        assert task.question in said
        assert task.title.lower() not in said.replace(task.question, "")
    known = words.knowledge(trained)
    assert lookup.load("datasets", "rooms").DATASET.scenes in known
    assert f"{len(NAMES)} kinds" in known


def test_the_server_refuses_more_bytes_than_the_page_says(address: str) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install httpx")
    too_much = b"0" * (MOST_BYTES + 1)
    answer = httpx.post(address + "gradio_api/upload", files={"files": ("big.png", too_much)})
    assert answer.status_code == 413


def test_pictures_in_the_page_are_whole(trained: Trained, photo: Path) -> None:
    html = look(trained, photo).html
    url = html.split('data-values="data:image/png;base64,')[1].split('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(url))).size == (90, 60)
