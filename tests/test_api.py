"""`from mtlcli import load`: named maps in documented units, from any picture."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mtlcli
from mtlcli.data.hdf5 import Info
from mtlcli.drawing.api import Predictor
from mtlcli.drawing.prediction import decode_map, predict
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


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 5, 3)), np.zeros((4, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_an_array_that_is_no_picture(net: Predictor, wrong) -> None:
    with pytest.raises(InputError, match=r"RGB array \(H, W, 3\)"):
        net.predict(wrong)


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
        "slow = {'torch._dynamo', 'torchvision', 'torchmetrics', 'scipy.signal'}\n"
        "print(slow & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "set()\n", answer.stderr
