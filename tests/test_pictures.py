"""Every kind of picture file is read alike by training, prediction and datasets, or refused."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features

from mtlcli.data.images import read_image
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.drawing.sources import count_others, find_sources, is_video
from mtlcli.errors import InputError
from mtlcli.maps._picture import suffixes

SIZE = (40, 56)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
COLOURS = np.dstack((X * 4, Y * 6, X + Y)).astype(np.uint8)  # no symmetry: a turn is seen
GREY = (X * 4).astype(np.uint8)
DEEP = (X * 1100 + Y).astype(np.uint16)
TWELVE = np.minimum(X * 74 + Y, 4095)
ALPHA = np.where(X < 20, 0, 255).astype(np.uint8)
ON_WHITE = np.where(X[..., None] < 20, 255, COLOURS).astype(np.uint8)
LOSSY = {".jpg": 12, ".jpeg": 12, ".jpe": 12, ".jfif": 12, ".webp": 12, ".avif": 12, ".avifs": 12,
         ".gif": 40, ".apng": 0}  # fmt: skip


def thrice(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8), "L").convert("P")
    picture.putdata(indices.astype(np.uint8).ravel())
    picture.putpalette([v for colour in colours for v in colour] + [0] * (768 - 3 * len(colours)))
    return picture


def pillow(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def opencv(pixels: np.ndarray, ending: str) -> bytes:
    return cv2.imencode(ending, pixels)[1].tobytes()


FILES = {  # what is in the file, and what a person sees
    "grey of 16 bits": (pillow(Image.fromarray(DEEP), "PNG"), thrice(DEEP // 257)),
    "grey TIFF of 16 bits": (pillow(Image.fromarray(DEEP), "TIFF"), thrice(DEEP // 257)),
    "grey of 12 bits in 16": (
        pillow(Image.fromarray(TWELVE.astype(np.uint16)), "PNG"),
        thrice(TWELVE * 255 // 4095),
    ),
    "fractions": (
        pillow(Image.fromarray((X / 60).astype(np.float32)), "TIFF"),
        thrice((X / 60 * 255).astype(np.uint8)),
    ),
    "colour of 16 bits": (opencv(COLOURS[..., ::-1] * np.uint16(257), ".png"), COLOURS),
    "colour TIFF of 16 bits": (opencv(COLOURS[..., ::-1] * np.uint16(257), ".tiff"), COLOURS),
    "transparent": (pillow(Image.fromarray(np.dstack((COLOURS, ALPHA))), "PNG"), ON_WHITE),
    "transparent and grey": (
        pillow(Image.fromarray(np.dstack((GREY, ALPHA)), "LA"), "PNG"),
        np.where(X[..., None] < 20, 255, thrice(GREY)),
    ),
    "one transparent colour": (
        pillow(Image.fromarray(COLOURS), "PNG", transparency=tuple(map(int, COLOURS[5, 5]))),
        np.where((COLOURS[5, 5] == COLOURS).all(-1, keepdims=True), 255, COLOURS),
    ),
    "palette": (
        pillow(palette(X > 20, (9, 8, 7), (200, 100, 50)), "PNG"),
        np.where(X[..., None] > 20, (200, 100, 50), (9, 8, 7)),
    ),
    "palette with a hole": (
        pillow(palette(X > 20, (9, 8, 7), (200, 100, 50)), "PNG", transparency=0),
        np.where(X[..., None] > 20, (200, 100, 50), 255),
    ),
    "one bit": (pillow(Image.fromarray(X > 20), "PNG"), thrice((X > 20) * 255)),
    "plain": (pillow(Image.fromarray(COLOURS), "PNG"), COLOURS),
    "grey": (pillow(Image.fromarray(GREY), "BMP"), thrice(GREY)),
    "first of two": (
        pillow(Image.fromarray(COLOURS), "TIFF", save_all=True,
               append_images=[Image.fromarray(255 - COLOURS)]),
        COLOURS,
    ),
}  # fmt: skip
TURNED = {  # EXIF's orientation -> how the pixels lie in the file
    1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1],
    5: COLOURS.transpose(1, 0, 2), 6: np.rot90(COLOURS), 7: COLOURS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(COLOURS, -1), 9: COLOURS,
}  # fmt: skip


def turned(orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(TURNED[orientation]))
    return pillow(picture, kind, exif=exif, **options)


for number in TURNED:
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        FILES[f"orientation {number}, {kind}"] = turned(number, kind, **options), COLOURS


def stored_of(folder: Path, files: dict[str, bytes], pattern: str) -> Reader:
    """The pictures as training reads them."""
    (folder / "images").mkdir()
    for number, content in enumerate(files.values()):
        (folder / "images" / pattern.format(id=f"p{number}")).write_bytes(content)
    edge = Image.fromarray((X % 7 == 0).astype(np.uint8) * 255)
    for number in range(len(files)):
        edge.save(folder / f"p{number}.png")
    ids = ", ".join(f"p{number}" for number in range(len(files)))
    (folder / "own.yaml").write_text(
        f"size: [32, 32]\nsplits: {{train: [{ids}]}}\nimage: images/{pattern}\n"
        'tasks: {edge: {files: "{id}.png"}}\n'
    )
    path = prepare(str(folder / "own.yaml"), out=folder / "own.h5", workers=1, quiet=True)
    return Reader(path, "train")


def test_training_and_prediction_see_what_a_person_sees(tmp_path: Path) -> None:
    contents = {name: content for name, (content, _) in FILES.items()}
    reader = stored_of(tmp_path, contents, "{id}.png")  # the content counts, not the name
    for number, (name, (_, seen)) in enumerate(FILES.items()):
        drawn = read_image(tmp_path / "images" / f"p{number}.png")
        assert drawn.dtype == np.uint8, name
        np.testing.assert_array_equal(drawn, seen, err_msg=name)
        np.testing.assert_array_equal(reader[number]["image"], seen, err_msg=name)


@pytest.mark.parametrize("orientation", TURNED)
def test_photographs_of_phones_stand_upright(tmp_path: Path, orientation: int) -> None:
    photo = turned(orientation, "JPEG", quality=100, subsampling=0)
    reader = stored_of(tmp_path, {"photo": photo}, "{id}.jpg")
    for pixels in (reader[0]["image"], read_image(tmp_path / "images/p0.jpg")):
        assert pixels.shape == COLOURS.shape
        assert np.abs(pixels.astype(int) - COLOURS).mean() < 3


def test_a_folder_shows_every_ending_that_can_be_read(tmp_path: Path) -> None:
    kinds = Image.registered_extensions()
    written = []
    for ending in suffixes():
        if kinds.get(ending) not in Image.SAVE or (
            kinds[ending] == "AVIF" and not features.check("avif")
        ):
            continue
        path = tmp_path / f"photo{ending}"
        grey = kinds[ending] == "PPM" and ending in (".pgm", ".pfm", ".pbm")
        picture = Image.fromarray(GREY if grey else COLOURS)
        if ending in (".pbm", ".pfm"):
            picture = picture.convert("1" if ending == ".pbm" else "F")
        sizes = {"sizes": [picture.size]} if ending == ".ico" else {}
        picture.save(path, **sizes)
        written.append(path)
        if ending not in (".pbm", ".ico"):
            off = np.abs(read_image(path).astype(int) - (thrice(GREY) if grey else COLOURS)).mean()
            assert off <= LOSSY.get(ending, 0), ending
    assert len(written) > 15
    assert find_sources([str(tmp_path)]) == sorted(written)
    assert not any(map(is_video, written))


def test_what_systems_leave_in_folders_is_passed_over_and_other_files_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "._a.png", ".hidden.jpg", "Thumbs.db", "desktop.ini", "notes.txt",
                 "__MACOSX/a.png", "sub/b.JPG", "sub/table.csv"):  # fmt: skip
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(FILES["plain"][0])
    assert find_sources(["."]) == [Path("a.png")]
    assert count_others(["."]) == 1
    assert find_sources(["**/*"]) == [Path("a.png"), Path("sub/b.JPG")]
    assert count_others([".", "**/*", "a.png"]) == 2


def huge_png(width: int, height: int) -> bytes:
    """The head of a PNG of so many pixels; its data are few."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    )


def without_palette() -> bytes:
    """A PNG of a palette that is not there."""
    whole = FILES["palette"][0]
    start = whole.index(b"PLTE") - 4
    (length,) = struct.unpack_from(">I", whole, start)
    return whole[:start] + whole[start + 12 + length :]


PLAIN = FILES["plain"][0]
REFUSED = {
    "nothing": (b"", "is empty"),
    "text": (b"no picture\n", "not a readable picture"),
    "page": (b"<!DOCTYPE html><html></html>", "not a readable picture"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable picture"),
    "half a PNG": (PLAIN[: len(PLAIN) // 2], "cut short"),
    "damaged PNG": (PLAIN[:60] + b"\0\0\0\0" + PLAIN[64:], "damaged chunk"),
    "PNG without its palette": (without_palette(), "not a readable picture"),
    "half a JPEG": (turned(1, "JPEG")[:600], "not a readable picture"),
    "bomb": (huge_png(30000, 30000), "too large"),
    "bomb of Pillow's": (huge_png(2**31 - 1, 2**31 - 1), "too large"),
    "of a phone": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "HEIC"),
    "no number": (
        pillow(Image.fromarray(np.full(SIZE, np.nan, np.float32)), "TIFF"), "holds numbers from nan"
    ),
    "below nothing": (
        pillow(Image.fromarray(np.full(SIZE, -3, np.float32)), "TIFF"), "holds numbers from -3"
    ),
    "32 bits": (
        pillow(Image.fromarray(np.full(SIZE, 70000, np.int32)), "TIFF"), "to 70000"
    ),
    "colours of 32 bits": (
        opencv(np.ones((*SIZE, 3), np.float32), ".tiff"), "not a readable picture"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, said = REFUSED[case]
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(InputError) as told:
        read_image(tmp_path / "x.tif")
    assert str(told.value).startswith(str(tmp_path / "x.tif "))
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match=r"sample 'p0': image cannot be decoded \(.*" + said):
        stored_of(tmp_path / "own", {case: content}, "{id}.png")


def test_pictures_that_are_taken_for_12_bits_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("grey of 12 bits in 16", "grey of 16 bits", "grey of 12 bits in 16")
    stored_of(tmp_path, {f"{i} {kind}": FILES[kind][0] for i, kind in enumerate(kinds)}, "{id}.png")
    assert "train: 16 bits and nothing above 4095, so taken for 12 bits: 2 pictures." in (
        capsys.readouterr().err
    )


def test_damaged_bytes_never_break_the_reader(tmp_path: Path) -> None:
    noise, path = np.random.default_rng(0), tmp_path / "x.png"
    whole = [content for content, _ in FILES.values()] + [turned(6, "JPEG"), turned(6, "AVIF")]
    for round in range(150):
        content = bytearray(whole[round % len(whole)])
        for at in noise.integers(0, len(content), 1 + round % 9):
            content[at] = noise.integers(0, 256)
        path.write_bytes(content[: noise.integers(1, len(content) + 1)] if round % 3 else content)
        try:
            pixels, said = read_image(path), str(path)
        except InputError as error:
            pixels, said = COLOURS, str(error)
        assert said.startswith(str(path))
        assert "\n" not in said
        assert (pixels.dtype, pixels.shape[2:]) == (np.uint8, (3,))
