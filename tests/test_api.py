"""`from mtlcli import load`: named maps in documented units, from any picture."""

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mtlcli
from mtlcli.data.hdf5 import Info
from mtlcli.drawing.api import Predictor, as_pixels
from mtlcli.drawing.prediction import Prediction, decode_map, predict
from mtlcli.errors import InputError
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, save_network: Callable[..., Path]) -> Path:
    return save_network(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture(scope="module")
def net(path: Path) -> Predictor:
    return mtlcli.load(str(path), device="cpu")


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)


def test_maps_have_the_documented_shapes_types_and_units(net: Predictor, image) -> None:
    out = net.predict(image)
    assert list(out) == list(net.tasks) == ["semseg", "depth", "normals", "edge"]
    assert (out["semseg"].shape, out["semseg"].dtype) == ((30, 50), np.uint8)
    assert out["semseg"].max() < len(out.classes["semseg"]) == 3
    for name in ("depth", "edge"):
        assert (out[name].shape, out[name].dtype) == ((30, 50), np.float32)
    assert out["depth"].min() >= 0
    assert 0 <= out["edge"].min() <= out["edge"].max() <= 1
    assert out["normals"].shape == (30, 50, 3)
    np.testing.assert_allclose(np.linalg.norm(out["normals"], axis=-1), 1, rtol=1e-5)


def test_maps_are_those_of_predict(net: Predictor, image) -> None:
    out, raw = net.predict(image), predict(net.trained, image)
    np.testing.assert_array_equal(out["semseg"], raw["semseg"])
    np.testing.assert_array_equal(out["depth"], raw["depth"][0])
    np.testing.assert_array_equal(out["normals"][..., 1], raw["normals"][1])


def test_a_picture_may_be_a_path_a_pillow_image_or_an_array(
    net: Predictor, image, tmp_path: Path
) -> None:
    Image.fromarray(image).save(tmp_path / "x.png")
    wanted = net.predict(image)["depth"]
    for same in (tmp_path / "x.png", str(tmp_path / "x.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(net.predict(same)["depth"], wanted)
    grey = net.predict(image[..., 0])
    np.testing.assert_array_equal(grey.image, np.repeat(image[..., :1], 3, axis=2))


FLOATS = np.zeros((4, 5, 3))
WRONG = {
    "four channels": (np.zeros((4, 5, 4), np.uint8), r"RGB array \(H, W, 3\)"),
    "nothing": (np.zeros((0, 5, 3), np.uint8), r"not \(0, 5, 3\) of uint8"),
    "whole numbers": (np.zeros((4, 5, 3), np.int64), "of int64"),
    "truth values": (np.zeros((4, 5), bool), "of bool"),
    "objects": (np.array([["a", None]], object), "of object"),
    "a number": (np.array(0.5), r"not \(\) of float64"),
    "channels first": (np.zeros((3, 4, 5), np.float32), r"not \(3, 4, 5\) of float32"),
    "five axes": (np.zeros((1, 1, 4, 5, 3)), r"\(1, 1, 4, 5, 3\)"),
    "too bright": (FLOATS + 255, "numbers from 0 to 1, not 255 to 255"),
    "negative": (FLOATS - 0.5, "numbers from 0 to 1, not -0.5 to -0.5"),
    "not a number": (np.where(np.arange(3) == 1, np.nan, FLOATS), "from 0 to 1, not NaN"),
    "infinite": (FLOATS + np.inf, "from 0 to 1, not inf"),
    "no list": ([], "the list is empty"),
    "no batch": (np.zeros((0, 4, 5, 3)), "the list is empty"),
    "none": (None, "no NoneType"),
    "one of a list": ([FLOATS, FLOATS + 2], "Picture 1 of 2: .* not 2 to 2"),
    "a list in a list": ([[FLOATS]], "Picture 0 of 1: .* no list"),
    "one of a batch": (np.stack([FLOATS, FLOATS - 1]), "Picture 1 of 2"),
    "a missing file": (["nothing.jpg"], "Picture 0 of 1: nothing.jpg"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_picture_is_one_line_before_anything_is_predicted(
    net: Predictor, case: str, monkeypatch
) -> None:
    monkeypatch.setattr("mtlcli.drawing.api.predict", lambda *_: pytest.fail("it was predicted"))
    wrong, named = WRONG[case]
    with pytest.raises(InputError, match=named) as error:
        net.predict(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_the_fractions_of_the_codes(net: Predictor, image, kind) -> None:
    fractions = (image / 255).astype(kind)
    np.testing.assert_array_equal(as_pixels(fractions), image)
    np.testing.assert_array_equal(as_pixels(fractions[..., 1]), as_pixels(image[..., 1]))
    np.testing.assert_array_equal(as_pixels(np.array([[0.5]], kind)), [[[128] * 3]])


def test_of_several_pictures_there_is_a_list_each_as_alone(
    net: Predictor, image, tmp_path: Path
) -> None:
    Image.fromarray(image[:20]).save(tmp_path / "x.png")
    several = [tmp_path / "x.png", image, Image.fromarray(image[..., 0]), image / 255.0]
    for given in (several, tuple(several)):
        found = net.predict(given)
        assert isinstance(found, list)
        for out, one in zip(found, several, strict=True):
            np.testing.assert_array_equal(out["depth"], net.predict(one)["depth"])
    batch = net.predict(np.stack([image, image[::-1]]))
    np.testing.assert_array_equal(batch[1].image, image[::-1])


def test_saved_files_are_those_of_visualize_separate(
    net: Predictor, path: Path, image, tmp_path: Path, mtl
) -> None:
    Image.fromarray(image).save(tmp_path / "room.png")
    wanted = tmp_path / "wanted"
    line = ("visualize", tmp_path / "room.png", "--checkpoint", path, "--separate", "--out", wanted)
    assert mtl(*line, "--device", "cpu").code == 0
    written = net.predict(tmp_path / "room.png").save(tmp_path / "own")
    names = {p.relative_to(wanted) for p in wanted.rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "own") for p in written} == names
    for name in names:
        one, other = (tmp_path / "own" / name, wanted / name)
        if name.suffix == ".npz":
            with np.load(one) as a, np.load(other) as b:
                assert all(np.array_equal(a[key], b[key]) for key in (*a, *b))
        elif name.suffix == ".json":
            assert one.read_text() == other.read_text()
        else:
            assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def test_saving_spares_the_files_of_others_and_refuses_what_is_no_name(
    net: Predictor, image, tmp_path: Path
) -> None:
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "picture.png").write_text("mine")
    out = net.predict(image)
    assert out.save(str(tmp_path))[-1] == tmp_path / "picture_2.npz"
    assert (tmp_path / "depth" / "picture.png").read_text() == "mine"
    assert out.save(tmp_path, "a.b")[-1] == tmp_path / "a.b.npz"
    for name in ("", "..", "a/b"):
        with pytest.raises(InputError, match="no name of a file"):
            out.save(tmp_path, name)
    with pytest.raises(InputError, match="is a file"):
        out.save(tmp_path / "depth" / "picture.png")


def test_saving_picture_after_picture_keeps_all_and_once_more_replaces(
    net: Predictor, image, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    first, second = net.predict([image, image[::-1]])
    assert [o.save(out)[-1].name for o in (first, second)] == ["picture.npz", "picture_2.npz"]
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "room.png")
    named = [net.predict(tmp_path / folder / "room.png") for folder in ("x", "y", "x")]
    assert [o.save(out)[-1].name for o in named] == ["room.npz", "room_2.npz", "room.npz"]
    assert [o.save(out, "own")[-1].name for o in (first, second)] == ["own.npz", "own.npz"]


def test_points_are_those_of_visualize(net: Predictor, path: Path, image, tmp_path: Path, mtl):
    Image.fromarray(image).save(tmp_path / "room.png")
    line = ("visualize", tmp_path / "room.png", "--checkpoint", path, "--device", "cpu")
    assert mtl(*line, "--points", "picture", "--fov", 70, "--out", tmp_path / "out").code == 0
    cloud = net.predict(image).points(fov=70)
    for suffix in (".ply", ".glb"):
        found = cloud.save(tmp_path / "own" / f"room{suffix}").read_bytes()
        assert found == (tmp_path / "out" / f"room{suffix}").read_bytes()
    with pytest.raises(InputError, match=r"\.ply or \.glb"):
        cloud.save(tmp_path / "room.obj")
    with pytest.raises(InputError, match="--fov"):
        net.predict(image).points(fov=0)
    with pytest.raises(InputError, match="classes"):
        net.predict(image).points("rainbow")


def test_the_overlay_mixes_classes_and_boundaries_into_the_picture(net: Predictor, image) -> None:
    out = net.predict(image)
    palette = np.array(net.trained.dataset.palettes["semseg"], float)
    mixed = (image + palette[out["semseg"]]) / 2
    line = out["edge"].astype(float)[..., None]
    found = out.overlay()
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
    np.testing.assert_allclose(found, mixed * (1 - line) + 255 * line, atol=0.51)
    certain = replace(out, maps={"edge": np.ones((1, 30, 50), np.float32)})
    assert (certain.overlay() == 255).all()
    with pytest.raises(InputError, match="neither classes nor boundaries"):
        replace(out, maps={"depth": out.maps["depth"]}).overlay()


def test_background_is_not_coloured(net: Predictor, image) -> None:
    info = replace(net.trained.dataset, classes={"semseg": ("background", "floor", "person")})
    maps = {"semseg": np.zeros((30, 50), np.uint8)}
    maps["semseg"][:10] = 2
    out = Prediction(image=image, maps=maps, trained=replace(net.trained, dataset=info))
    found = out.overlay()
    np.testing.assert_array_equal(found[10:], image[10:])
    assert (found[:10] != image[:10]).any()


def test_a_notebook_shows_the_grid(net: Predictor, image) -> None:
    out = net.predict(image)
    shown = Image.open(io.BytesIO(out._repr_png_()))
    assert shown.format == "PNG"
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(out.grid()))


def test_the_grid_is_one_picture(net: Predictor, image) -> None:
    grid = net.predict(image).grid()
    assert isinstance(grid, Image.Image)
    assert grid.mode == "RGB"
    assert grid.width > 3 * 300


def test_a_task_it_lacks_is_a_key_error_with_the_nearest(net: Predictor, image) -> None:
    with pytest.raises(KeyError, match="Did you mean 'depth'"):
        net.predict(image)["dept"]


def test_an_unknown_device_or_file_is_said(path: Path) -> None:
    with pytest.raises(InputError, match="tpu"):
        mtlcli.load(path, device="tpu")
    with pytest.raises(InputError, match=r"nothing\.pt"):
        mtlcli.load("nothing.pt")
    assert checkpoint.load(path).network is not None  # auto
    assert pick_device("cpu") == next(checkpoint.load(path, "cpu").network.parameters()).device


@pytest.mark.parametrize("backbone", ["resnet18_half", "swin_t"])
def test_a_loaded_network_equals_one_built_as_usual(
    save_network: Callable[..., Path], tmp_path: Path, backbone: str
) -> None:
    path = save_network(tmp_path / "last.pt", backbone)
    content = checkpoint.read(path)
    config = RunConfig.from_json(content["config"])
    usual = checkpoint.build_network(config, Info.from_json(content["dataset"]))
    usual.load_state_dict(content["network"])
    loaded = checkpoint.load(path, "cpu").network
    everything = {**dict(usual.named_parameters()), **dict(usual.named_buffers())}
    found = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    assert everything.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in everything.items())
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for name, answer in usual.eval()(picture).items():
            assert torch.equal(loaded(picture)[name], answer)


def test_random_numbers_come_back_after_loading(path: Path) -> None:
    checkpoint.load(path, "cpu")
    assert torch.empty(100).normal_().std() > 0.5


def test_large_maps_are_enlarged_in_bands_alike(net: Predictor, monkeypatch) -> None:
    logits = torch.randn(1, 3, 7, 9)
    whole = {n: decode_map(net.trained.tasks[n], logits, (61, 40)) for n in ("semseg", "normals")}
    monkeypatch.setattr("mtlcli.drawing.prediction.BAND", 3 * 40 * 8)
    np.testing.assert_allclose(
        decode_map(net.trained.tasks["normals"], logits, (61, 40)), whole["normals"], atol=1e-5
    )
    assert (
        decode_map(net.trained.tasks["semseg"], logits, (61, 40)) == whole["semseg"]
    ).mean() > 0.99


def test_the_package_is_imported_without_torch_and_has_no_other_attributes() -> None:
    code = "import mtlcli, sys; assert not {'torch', 'numpy'} & set(sys.modules); mtlcli.nothing"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "has no attribute 'nothing'" in answer.stderr


def test_prediction_imports_neither_the_compiler_nor_plots(path: Path) -> None:
    """Each of them would take longer than the prediction."""
    code = (
        "import sys, numpy as np, mtlcli\n"
        f"net = mtlcli.load({str(path)!r}, 'cpu')\n"
        "net.predict(np.zeros((20, 30, 3), np.uint8)).grid()\n"
        "slow = {'torch._dynamo', 'torchvision', 'scipy.signal'}\n"
        "print(slow & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "set()\n", answer.stderr
