"""`mtl visualize` on pictures: what is on the sheets and in the files, and what it refuses."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlcli.data.images import read_image
from mtlcli.drawing.grid import Tile, in_columns, layout_of
from mtlcli.drawing.prediction import predict
from mtlcli.drawing.sources import Targets, find_sources
from mtlcli.drawing.tiles import sheet_tiles
from mtlcli.errors import InputError
from mtlcli.maps import _colours as colors
from mtlcli.maps import boundaries
from mtlcli.runs import checkpoint

PALETTE = ((10, 20, 30), (200, 0, 0), (0, 200, 0))


def picture(path: Path, width: int = 60, height: int = 40, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return path


def opened(path: str | Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


def has_colour(sheet: np.ndarray, colour: tuple[int, int, int], pixels: int = 100) -> bool:
    return int((sheet == colour).all(axis=-1).sum()) >= pixels


# ---- sheets ----


def test_a_sheet_shows_picture_tasks_and_keys(folder: Path, network: Path, mtl) -> None:
    picture(folder / "a.png", 64, 48)
    answer = mtl("visualize", "a.png", "--checkpoint", network, "--quiet")
    assert answer.code == 0
    assert answer.out == "visualized/a.png\n"
    assert answer.err == f"Network: {network}\n"
    sheet = np.asarray(opened("visualized/a.png"))
    cells = in_columns([Tile(title="", picture=np.zeros((48, 64, 3), np.uint8))] * 5)
    assert sheet.shape[0] > 336 * len(cells)
    assert sheet.shape[1] > 448 * len(cells[0])
    assert has_colour(sheet, (255, 255, 255), 10_000)  # paper
    assert any(has_colour(sheet, colour) for colour in PALETTE)
    for end in (colors.inferno()[0], colors.inferno()[-1]):  # both ends of the depth scale
        assert has_colour(sheet, tuple(end.tolist()), 10)


@pytest.mark.parametrize(
    ("tasks", "titles"),
    [
        (["semseg", "depth", "normals", "edge"], ["Overlay"]),  # would leave a hole in 3 x 2
        (["semseg", "depth", "normals"], []),
        (["depth", "normals"], []),
    ],
)
def test_a_hole_in_the_sheet_is_filled_with_the_overlay(
    network: Path, tasks: list[str], titles: list[str]
) -> None:
    trained = checkpoint.load(network)
    image = np.full((48, 64, 3), 200, np.uint8)
    maps = predict(trained, image, (24, 32))
    tiles = sheet_tiles(trained, image, {name: maps[name] for name in tasks})
    assert [t.title for t in tiles[1 + len(tasks) :]] == titles
    if titles:
        rows = in_columns(tiles)
        assert len(rows[-1]) == len(rows[0])
        assert tiles[-1].picture.shape == (24, 32, 3)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".pt", ".safetensors"])
def test_a_network_that_is_given_for_a_picture_is_told_for_what_it_is(
    folder: Path, mtl, suffix: str
) -> None:
    (folder / f"room{suffix}").write_bytes(b"network")
    answer = mtl("visualize", f"room{suffix}")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"--checkpoint room{suffix}" in answer.err


@pytest.mark.parametrize(
    "given",
    [
        *(("--dataset", "rooms", *option) for option in (
            ("--recursive",), ("--fov", 60), ("--focal", 60), ("--frames", 2), ("--separate",),
            ("--layout", "depth"), ("--points", "picture"))),
        ("a.png", "--index", 0),
        ("a.png", "--split", "val"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(home: Path, network: Path, mtl, given) -> None:
    picture(home / "a.png")
    answer = mtl("visualize", *given, "--checkpoint", network)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert "--dataset" in answer.err


@pytest.mark.parametrize("size", [(1, 1), (500, 3), (3, 500), (900, 700), (37, 41)])
def test_any_size_and_proportions(folder: Path, network: Path, mtl, size) -> None:
    picture(folder / "a.png", *size)
    answer = mtl("visualize", "a.png", "--checkpoint", network, "--quiet")
    assert answer.code == 0
    shown = opened("visualized/a.png")
    assert 300 < shown.width < 3000
    assert 200 < shown.height < 3000


def test_tasks_are_chosen_and_several_pictures_keep_their_names(
    folder: Path, network: Path, mtl
) -> None:
    for name in ("x/a.png", "y/a.png", "y/b.jpg"):
        picture(folder / name)
    wide = mtl("visualize", "x/a.png", "--checkpoint", network, "--out", "all")
    assert wide.code == 0
    answer = mtl(
        "visualize",
        "[xy]/*.*",
        "--tasks",
        "depth,edge",
        "--checkpoint",
        network,
        "--json",
        "--quiet",
    )
    record = json.loads(answer.out)
    assert record["written"] == ["visualized/a.png", "visualized/a_2.png", "visualized/b.png"]
    assert record["failed"] == {}
    assert opened("visualized/a.png").size != opened("all/a.png").size


def test_a_source_is_never_written_over(folder: Path, network: Path, mtl) -> None:
    before = picture(folder / "a.png").read_bytes()
    answer = mtl("visualize", "a.png", "--checkpoint", network, "--out", ".", "--quiet")
    assert answer.code == 0
    assert (folder / "a.png").read_bytes() == before
    assert (folder / "a_2.png").exists()
    assert Targets(Path("out"), []).name("a", "{}.png") == "a"


def test_runs_side_by_side_have_a_row_each(folder: Path, network: Path, save_network, mtl) -> None:
    other = save_network(folder / "second" / "last.pt", seed=4).parent
    picture(folder / "a.png", 64, 48)
    answer = mtl("visualize", "a.png", "--compare", network, other, "--quiet")
    assert answer.code == 0
    assert answer.err.count("Network: ") == 2
    one_row = layout_of([[Tile(title="", picture=np.zeros((48, 64, 3), np.uint8))] * 5])
    assert opened("visualized/a.png").height > 2 * one_row.tile[0]
    first = mtl("visualize", "--compare", network, other, "a.png", "--json", "--quiet")
    assert json.loads(first.out)["networks"] == [str(network), str(other)]


def test_a_sample_is_drawn_with_truth_and_error(home: Path, save_network, mtl) -> None:
    network = save_network(home / "weights" / "net" / "last.pt")
    answer = mtl("visualize", "--dataset", "rooms", "--index", 0, 2, "--tasks", "depth", "edge",
                 "--checkpoint", network, "--quiet")  # fmt: skip
    assert answer.code == 0
    assert answer.out.splitlines() == [f"visualized/rooms_val_{i}.png" for i in (0, 2)]
    sheet = np.asarray(opened("visualized/rooms_val_0.png"))
    tile = layout_of([[Tile(title="", picture=np.zeros((48, 64, 3), np.uint8))] * 3]).tile
    assert sheet.shape[0] > 3 * tile[0]
    assert has_colour(sheet, boundaries.MISSED) or has_colour(sheet, boundaries.HIT)


# ---- separate files ----


def test_separate_files_hold_values_that_programs_read(folder: Path, network: Path, mtl) -> None:
    picture(folder / "a.png", 60, 40)
    answer = mtl("visualize", "a.png", "--separate", "--checkpoint", network, "--quiet")
    assert answer.code == 0
    out = folder / "visualized"
    with np.load(out / "a.npz") as file:
        values = dict(file)
    assert sorted(values) == ["depth", "edge", "normals", "semseg"]

    classes = opened(out / "semseg" / "a.png")
    assert classes.mode == "P"
    np.testing.assert_array_equal(np.asarray(classes), values["semseg"])
    assert tuple(classes.getpalette()[:9]) == sum(PALETTE, ())

    depth = np.asarray(opened(out / "depth" / "a.png"))
    assert depth.dtype == np.uint16
    assert values["depth"].shape == (40, 60)
    np.testing.assert_allclose(depth, values["depth"] * 1000, atol=0.51)

    normals = np.asarray(opened(out / "normals" / "a.png"))
    assert normals.shape == values["normals"].shape == (40, 60, 3)
    np.testing.assert_allclose(2 * (normals / 255) - 1, values["normals"], atol=1 / 255 + 1e-6)

    edge = np.asarray(opened(out / "edge" / "a.png"))
    np.testing.assert_array_equal(edge, (255 * values["edge"]).astype(np.uint8))


# ---- pictures of every kind ----


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :15] = (200, 10, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees to the right
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")
    assert upright.shape == (30, 20, 3)
    assert upright[0, 0].tolist() == [200, 10, 10]
    assert upright[-1, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    if mode == "I;16":
        made = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "F":
        made = Image.fromarray(grey.astype(np.float32) / 255)
    else:
        made = Image.fromarray(grey)
        made = (made if mode == "P" else made.convert("RGB")).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("F", "CMYK") else "a.png")
    made.save(path)
    read = read_image(path)
    assert (read.shape, read.dtype) == ((30, 40, 3), np.uint8)
    if mode not in ("1",):
        np.testing.assert_allclose(read[..., 0].astype(int), grey, atol=4)


def test_colours_of_16_bits(tmp_path: Path) -> None:
    import cv2

    colour = np.zeros((6, 8, 3), np.uint16)
    colour[..., 0] = 200 * 257  # blue, in OpenCV's order
    for name in ("a.tif", "a.png"):
        cv2.imwrite(str(tmp_path / name), colour)
        assert read_image(tmp_path / name)[0, 0].tolist() == [0, 0, 200]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").min() == 255


# ---- bad input ----


def bomb(path: Path, side: int = 50_000) -> Path:
    """A PNG that claims to be side x side pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


BAD = {
    "zero bytes": (lambda d: (d / "bad.png").write_bytes(b""), "bad.png", "bad.png is empty"),
    "text": (lambda d: (d / "bad.png").write_text("hello"), "bad.png", "bad.png is not a readable"),
    "no suffix": (lambda d: (d / "bad").write_text("hello"), "bad", "bad is not a readable"),
    "bomb": (lambda d: bomb(d / "bad.png"), "bad.png", "bad.png is too large"),
    "large": (lambda d: bomb(d / "bad.png", 10_001), "bad.png", "10001x10001"),
    "folder": (lambda d: (d / "bad").mkdir(), "bad", "bad holds no pictures"),
    "below": (lambda d: picture(d / "bad" / "in" / "a.png"), "bad", "those below it: --recursive"),
    "pattern": (lambda d: None, "none/*.jpg", "none/*.jpg"),
    "missing": (lambda d: None, "gone.jpg", "gone.jpg"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_source_is_one_line(folder: Path, network: Path, mtl, case: str) -> None:
    make, source, said = BAD[case]
    make(folder)
    answer = mtl("visualize", source, "--checkpoint", network)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert said in answer.err


def test_a_picture_cut_short_is_refused(folder: Path, network: Path, mtl) -> None:
    whole = picture(folder / "a.png", 200, 200).read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    answer = mtl("visualize", "a.png", "--checkpoint", network)
    assert answer.code == 2
    assert "a.png is not a readable picture" in answer.err


def test_a_folder_with_a_bad_file_finishes_the_others(folder: Path, network: Path, mtl) -> None:
    for name in ("a.png", "c.png"):
        picture(folder / "in" / name)
    (folder / "in" / "b.png").write_bytes(b"")
    (folder / "in" / "notes.txt").write_text("no picture")
    answer = mtl("visualize", "in", "--checkpoint", network, "--quiet")
    assert answer.code == 1
    assert answer.out.splitlines() == ["visualized/a.png", "visualized/c.png"]
    assert answer.err.count("mtl: ") == 1
    assert "in/b.png is empty" in answer.err


WRONG = {
    "task": (("a.png", "--tasks", "dept"), "Did you mean 'depth'"),
    "nothing": ((), "mtl visualize SOURCE"),
    "both": (("a.png", "--dataset", "rooms"), "mtl visualize SOURCE"),
    "index": (("--dataset", "rooms", "--index", 3), "0 to 2"),
    "split": (("--dataset", "rooms", "--split", "tset"), "tset"),
    "dataset": (("--dataset", "nyud"), "mtl prepare nyud"),
    "separate rows": (("a.png", "--separate", "--compare", "NET", "NET"), "--separate"),
    "network": (("a.png", "--compare", "NET", "gone"), "gone"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_wish_is_one_line(home: Path, network: Path, mtl, case: str) -> None:
    picture(home / "a.png")
    arguments, said = WRONG[case]
    arguments = tuple(network if a == "NET" else a for a in arguments)
    chosen = () if "--compare" in arguments else ("--checkpoint", network)
    answer = mtl("visualize", *arguments, *chosen)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert said in answer.err


def test_where_nothing_can_be_written_is_said(folder: Path, network: Path, mtl) -> None:
    picture(folder / "a.png")
    (folder / "taken").write_text("a file")
    (folder / "there").mkdir()
    (folder / "there" / "depth").write_text("a file")
    separate = ("--separate", "--tasks", "depth")
    for out, code, more in (("taken", 2, ()), ("taken", 2, separate), ("there", 1, separate)):
        answer = mtl("visualize", "a.png", "--checkpoint", network, "--out", out, *more)
        assert answer.code == code
        assert out in answer.err
        assert answer.err.count("\n") == 1


def test_sources_are_found_once(folder: Path) -> None:
    for name in ("a.png", "sub/b.JPG", "sub/c.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert find_sources(["a.png", ".", "**/*.JPG"]) == [Path("a.png"), Path("sub/b.JPG")]
    assert find_sources(["0"]) == [0]
    with pytest.raises(InputError, match="There is no picture, video or folder b"):
        find_sources(["a.png", "b"])
