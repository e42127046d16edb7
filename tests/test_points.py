"""Depth as points in space, and a depth scale of one's own camera."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlcli.drawing import fit_scale, lens
from mtlcli.drawing.prediction import predict
from mtlcli.runs import checkpoint
from mtlcli.runs.record import Record

trimesh = pytest.importorskip("trimesh")


@pytest.fixture
def run(tmp_path: Path, save_network: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose network sees some depth; the working folder is its parent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    path = save_network(tmp_path / "run" / "last.pt")
    trained = checkpoint.load(path, "cpu")
    record = Record(config=trained.config, dataset=trained.dataset)
    (path.parent / "run.json").write_text(json.dumps(record.to_json()))
    return path.parent


def picture(path: Path, width: int = 60, height: int = 40, **saved: Any) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **saved)
    return pixels


def test_a_cloud_reopened_is_the_depth_within_a_millimetre(run: Path, mtl: Any) -> None:
    pixels = picture(Path("a.png"))
    options = ("--points", "picture", "--fov", 70, "--separate", "--quiet")
    answer = mtl("visualize", "a.png", "--checkpoint", run, *options)
    assert answer.code == 0, answer.err
    assert "70.0 degrees across" in answer.err
    with np.load("visualized/a.npz") as file:
        depth, normals = file["depth"], file["normals"]
    there = depth > 0
    focal = 30 / math.tan(math.radians(35))
    v, u = np.nonzero(there)
    wanted = np.stack(((u + 0.5 - 30) / focal, (v + 0.5 - 20) / focal, np.ones(len(u))), -1)
    wanted *= depth[there][:, None]
    ply = trimesh.load("visualized/a.ply", process=False)
    np.testing.assert_allclose(ply.vertices, wanted, atol=1e-3)
    np.testing.assert_array_equal(ply.colors[:, :3], pixels[there])
    head, raw = Path("visualized/a.ply").read_bytes().split(b"end_header\n", 1)
    assert b"degrees across" in head
    table = np.frombuffer(raw, np.dtype([("p", "<f4", 6), ("c", "u1", 3)]))
    np.testing.assert_allclose(table["p"][:, 3:], -normals[there], atol=1e-6)
    (cloud,) = trimesh.load("visualized/a.glb", process=False).geometry.values()
    np.testing.assert_allclose(cloud.vertices, wanted * [1, -1, -1], atol=1e-3)
    light = colours_of(Path("visualized/a.glb"))[:, :3] / 65535
    seen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal((255 * seen).round(), pixels[there])
    said = json.loads(Path("visualized/a.json").read_text())
    assert {"a.ply", "a.glb"} <= set(said["files"])
    assert (said["camera"]["fov"], said["camera"]["focal_px"]) == pytest.approx((70, focal))


def colours_of(path: Path) -> np.ndarray:
    """Colours of a .glb as they stand in it, (N, 4) uint16: light, as glTF has it."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    content, start = json.loads(data[20 : 20 + length]), 28 + length
    (mesh,) = content["meshes"]
    accessor = content["accessors"][mesh["primitives"][0]["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["normalized"]) == (5123, True)
    view = content["bufferViews"][accessor["bufferView"]]
    raw = data[start + view["byteOffset"] :][: view["byteLength"]]
    return np.frombuffer(raw, "<u2").reshape(-1, 4)


def test_classes_colour_points(run: Path, mtl: Any) -> None:
    picture(Path("a.png"))
    answer = mtl("visualize", "a.png", "--checkpoint", run, "--points", "classes")
    assert answer.code == 0, answer.err
    colours = {tuple(c[:3]) for c in trimesh.load("visualized/a.ply", process=False).colors}
    assert colours <= {(10, 20, 30), (200, 0, 0), (0, 200, 0)}


def test_the_lens_is_what_is_said_or_what_exif_says_or_assumed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    picture(tmp_path / "told.jpg", exif=exif)
    picture(tmp_path / "silent.jpg")
    told, silent = tmp_path / "told.jpg", tmp_path / "silent.jpg"
    diagonal = math.hypot(60, 40)
    assert lens.lens_of(told, 60, 40, None, None).focal == pytest.approx(28 / 43.2666 * diagonal)
    assert lens.lens_of(told, 60, 40, 90, None).focal == pytest.approx(30)
    assert lens.lens_of(told, 60, 40, None, 30).view == pytest.approx(90)
    assumed = lens.lens_of(silent, 60, 40, None, None)
    assert assumed.view == pytest.approx(60)
    assert "assumed" in assumed.why


@pytest.mark.parametrize("size", [(60, 40), (40, 60)])
@pytest.mark.parametrize(("unit", "millimetres"), [(2, 25.4), (3, 10), (None, 25.4)])
def test_a_focal_length_counts_with_the_pixels_of_the_sensor(
    tmp_path: Path, size: tuple[int, int], unit: int | None, millimetres: float
) -> None:
    """As cameras say it whose film has no equivalent: 50 mm, on a sensor 36 mm wide."""
    exif = Image.Exif()
    its = exif.get_ifd(0x8769)
    its[0x920A], its[0xA002], its[0xA003], its[0xA20E] = 50, 600, 400, 600 / 36 * millimetres
    if unit:
        its[0xA210] = unit
    picture(tmp_path / "a.jpg", *size, exif=exif)
    found = lens.lens_of(tmp_path / "a.jpg", *size, None, None)
    assert found.focal == pytest.approx(50 * 60 / 36, rel=1e-3)
    assert "50 mm" in found.why
    del its[0xA20E]
    picture(tmp_path / "b.jpg", *size, exif=exif)
    assumed = lens.lens_of(tmp_path / "b.jpg", *size, None, None)
    assert assumed.view == pytest.approx(60)
    assert "50 mm" in assumed.why


def test_damaged_exif_is_none_and_says_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    for end in range(20, len(exif.tobytes()), 7):
        picture(tmp_path / "a.jpg", exif=exif.tobytes()[:end])
        assert lens.lens_of(tmp_path / "a.jpg", 60, 40, None, None).focal > 0


def test_all_files_of_a_picture_bear_one_name(run: Path, mtl: Any) -> None:
    picture(Path("a.png"))
    Path("out").mkdir()
    Path("out/a.ply").write_text("another's")
    wish = ("a.png", "--points", "picture", "--checkpoint", run, "--out", "out")
    for options, others in ((), ("a_2.png",)), (("--separate",), ("a_2.json", "a_2.npz")):
        assert mtl("visualize", *wish, *options).code == 0
        assert {"a.ply", "a_2.ply", "a_2.glb", *others} <= {p.name for p in Path("out").iterdir()}
        assert not list(Path("out").rglob("a.[!p]*")) + list(Path("out").rglob("a.png"))


@pytest.mark.parametrize(
    "wrong",
    [
        ("--points", "picture", "--fov", 0),
        ("--points", "picture", "--fov", 180),
        ("--points", "picture", "--fov", "nan"),
        ("--points", "picture", "--focal", -3),
        ("--points", "picture", "--focal", 0.1),
        ("--points", "picture", "--focal", 1e30),
        ("--points", "picture", "--fov", 60, "--focal", 50),
        ("--points", "picture", "--tasks", "semseg", "--layout", "sal"),
        ("--fov", 60),
        ("--fov", 0),
        ("--layout", "heat"),
        ("--tasks", "depth", "--layout", "picture,semseg"),
        ("--tasks", "depth", "--layout", "overlay"),
    ],
)
def test_a_wrong_wish_for_points_is_one_line(run: Path, mtl: Any, wrong: tuple) -> None:
    picture(Path("a.png"))
    answer = mtl("visualize", "a.png", "--checkpoint", run, *wrong)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err


def test_the_fit_finds_the_scale_that_made_the_truth() -> None:
    own = np.random.default_rng(0).uniform(0.5, 8, 1000)
    found = fit_scale.fit(own, 1.7 * own**0.8, 3)
    assert (found.exponent, found.factor) == pytest.approx((0.8, 1.7))
    assert found.after < 1e-9 < found.before
    flat = fit_scale.fit(np.full(9, 2.0), np.full(9, 3.0), 1)
    assert (flat.exponent, flat.factor) == pytest.approx((1, 1.5))


def test_a_wall_does_not_tell_how_depth_goes_on_behind_it() -> None:
    """Its noise would: as steep a line through one wall makes 4 m of a room 600 m."""
    noise = np.random.default_rng(0).normal(size=1000)
    wall, far = 2 + 0.02 * noise, np.array([0.5, 4, 8])
    for truth in (2.5 + 0.25 * noise, np.full(1000, 2.5)):
        found = fit_scale.fit(wall, truth, 1)
        np.testing.assert_allclose(found.factor * far**found.exponent, 1.25 * far, rtol=0.05)
    steep = fit_scale.fit(np.geomspace(1, 4, 99), np.geomspace(1, 4, 99) ** 5, 1)
    assert steep.exponent == 2


def test_a_run_keeps_its_depth_scale_and_says_so(run: Path, mtl: Any) -> None:
    Path("own").mkdir()
    trained = checkpoint.load(run, "cpu")
    plain = predict(trained, picture(Path("own/a.png")))["depth"][0]
    np.save("own/a.npy", 2 * plain)
    answer = mtl("eval", run, "--fit-scale", "own", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["exponent"], found["factor"]) == pytest.approx((1, 2), rel=1e-3)
    answer = mtl("visualize", "own/a.png", "--checkpoint", run, "--separate")
    assert "--fit-scale" in answer.err
    with np.load("visualized/a.npz") as file:
        np.testing.assert_allclose(file["depth"], 2 * plain, rtol=1e-2, atol=1e-4)
    sidecar = Path("visualized/a.json").read_text()
    assert "2 * depth^1" in json.loads(sidecar)["tasks"]["depth"]["scaled"]
    assert str(run) not in sidecar, "a place on this machine goes out with the file"
    assert mtl("export", run, "--format", "pt2", "--out", "scaled.pt2").code == 0
    again = mtl("visualize", "own/a.png", "--checkpoint", "scaled.pt2", "--force")
    assert "--fit-scale" in again.err
    answer = mtl("eval", "scaled.pt2")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "score the run" in answer.err


def test_what_cannot_be_fitted_is_one_line(run: Path, mtl: Any) -> None:
    Path("own").mkdir()
    wrong = [(run, "nowhere"), (run, "own"), ("nyud_small", "own")]
    picture(Path("own/a.png"))
    for network, folder in wrong:
        answer = mtl("eval", network, "--fit-scale", folder)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    np.save("own/a.npy", np.ones((3, 3), np.float32))
    answer = mtl("eval", run, "--fit-scale", "own")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "one size" in answer.err


@pytest.mark.parametrize(
    ("suffix", "depth", "said"),
    [
        (".npy", np.full((40, 60), 2500, np.uint16), "must be in metres"),
        (".npy", np.full((40, 60), 1e300), "must be in metres"),
        (".npy", np.full((40, 60), np.nan), "no pixel"),
        (".npy", np.ones((40, 60)), "nothing is kept"),
        (".png", np.full((40, 60), 200, np.uint8), "8 bits"),
        (".png", np.full((40, 60, 3), 200, np.uint8), "8 bits"),
    ],
)
def test_depth_that_cannot_be_meant_leaves_a_run_as_it_is(
    suffix: str, depth: np.ndarray, said: str, run: Path, mtl: Any
) -> None:
    Path("own/depth").mkdir(parents=True)
    picture(Path("own/a.jpg"))
    if suffix == ".npy":
        np.save("own/a.npy", depth)
    else:
        Image.fromarray(depth).save("own/depth/a.png")
    before = (run / "run.json").read_bytes()
    answer = mtl("eval", run, "--fit-scale", "own")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert said in answer.err
    assert (run / "run.json").read_bytes() == before
