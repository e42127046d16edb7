"""What the tests share: a home folder with a small rooms dataset, and the command line."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mtlcli.home import set_environment

ROOMS_SIZE = (48, 64)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure() -> None:
    """A shell starts its background jobs deaf to Ctrl-C; tests of Ctrl-C must hear it. Processes
    of pytest that run side by side share the cores, and their threads sleep while they wait.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    side_by_side = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if side_by_side > 1:
        threads = max(1, (os.cpu_count() or 1) // side_by_side)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    set_environment()


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def rooms_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared rooms.h5 of 8 training and 3 validation pictures of 48x64."""
    from mtlcli.data.prepare import prepare

    path = tmp_path_factory.mktemp("rooms") / "rooms.h5"
    return prepare("rooms", size=ROOMS_SIZE, train=8, val=3, out=path, workers=1, quiet=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, $MTL_HOME."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, save_network: Callable[..., Path]) -> Path:
    """A checkpoint with random weights in a run named `first`."""
    return save_network(tmp_path_factory.mktemp("runs") / "first" / "last.pt")


@pytest.fixture
def home(tmp_path: Path, rooms_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, $MTL_HOME, in which rooms is prepared."""
    (tmp_path / "datasets").mkdir()
    os.link(rooms_file, tmp_path / "datasets" / "rooms.h5")
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mtl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run a command line as `mtl(...)` would, in this process."""
    from mtlcli import cli

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["mtl", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else int(bool(code)), *printed)

    return run


@pytest.fixture(scope="session")
def trained_run(rooms_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four iterations on rooms, with its scores: what `base` copies."""
    from mtlcli.runs.config import Conduct, RunConfig
    from mtlcli.scoring.evaluate import evaluate
    from mtlcli.training.loop import train

    place = tmp_path_factory.mktemp("trained")
    (place / "datasets").mkdir()
    os.link(rooms_file, place / "datasets" / "rooms.h5")
    config = RunConfig(
        dataset="rooms", system="multi_task", backbone="resnet18_half", init="random",
        tasks=("depth", "semseg"), iterations=4, batch_size=2,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTL_HOME", str(place))
        run = train(config, out=place / "run", conduct=Conduct(device="cpu", workers=0, quiet=True))
        evaluate(run, device="cpu", workers=0, quiet=True)
    return run


@pytest.fixture
def base(home: Path, trained_run: Path) -> Path:
    """The run weights/base of four iterations in an own home folder."""
    return shutil.copytree(trained_run, home / "weights" / "base")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes weights/NAME as a run without a network: `make_run(name, ...)`, see `write_run`."""
    from tests.made_runs import write_run

    return lambda name, *results, **facts: write_run(tmp_path / "weights" / name, *results, **facts)


@pytest.fixture(scope="session")
def save_network() -> Callable[..., Path]:
    """Writes a checkpoint with random weights for four tasks: `save_network(path, ...)`."""
    import torch

    from mtlcli.data.hdf5 import Info
    from mtlcli.runs import checkpoint
    from mtlcli.runs.config import RunConfig

    dataset = {
        "title": "Test",
        "size": [48, 64],
        "classes": {"semseg": ("wall", "floor", "person")},
        "palettes": {"semseg": ((10, 20, 30), (200, 0, 0), (0, 200, 0))},
        "options": {"edge": {"max_dist": 0.011}},
    }

    def save(path: Path, backbone: str = "resnet18_half", seed: int = 3) -> Path:
        tasks = ("semseg", "depth", "normals", "edge")
        config = RunConfig(system="multi_task", backbone=backbone, tasks=tasks)
        torch.manual_seed(seed)
        network = checkpoint.build_network(config, Info.from_json(dataset))
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"config": config.to_json(), "dataset": dataset, "iteration": 1}
        checkpoint.save(path, network=network.state_dict(), **content)
        return path

    return save


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    reason = "playwright is not installed: pip install playwright"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not found:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real NYUD and PASCAL samples that $MTL_REAL_DATA names."""
    folder = os.environ.get("MTL_REAL_DATA")
    if not folder:
        pytest.skip("MTL_REAL_DATA is not set")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Lays out a small NYUD bundle of noise: `make_bundle(folder, "atrc"|"mti"|"astmt", ...)`."""
    import numpy as np
    from PIL import Image
    from scipy.io import savemat

    def save(path: Path, array: np.ndarray, key: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, array)
        elif path.suffix == ".mat":
            savemat(path, {key: array})
        else:
            Image.fromarray(array).save(path)

    def make(
        folder: Path,
        layout: str = "atrc",
        train: int = 3,
        val: int = 2,
        shape: tuple[int, int] = (24, 32),
    ) -> Path:
        root = folder / {"atrc": "NYUDv2", "mti": "NYUD_MT", "astmt": "NYUD_MT"}[layout]
        image, label, depth, normals, edge = {
            "atrc": ("png", "png", "npy", "png", "png"),
            "mti": ("jpg", "png", "npy", "npy", "npy"),
            "astmt": ("jpg", "mat", "mat", "jpg", "png"),
        }[layout]
        noise = np.random.default_rng(0)
        for split, count, first in (("train", train, 0), ("val", val, 1000)):
            ids = [f"{first + i:04d}" for i in range(count)]
            for ident in ids:
                rgb = noise.integers(0, 256, (2, *shape, 3), np.uint8)
                lines = noise.integers(0, 2, shape, np.uint8)
                vectors = noise.normal(size=(*shape, 3)).astype(np.float32)
                vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
                labels = noise.integers(0, 41, shape, np.uint8)
                metres = noise.uniform(0.5, 10, shape).astype(np.float32)
                save(root / f"images/{ident}.{image}", rgb[0], "image")
                save(root / f"segmentation/{ident}.{label}", labels, "segmentation")
                save(root / f"depth/{ident}.{depth}", metres, "depth")
                codes = vectors if normals == "npy" else rgb[1]
                save(root / f"normals/{ident}.{normals}", codes, "normals")
                line_map = lines.astype(np.float32) if edge == "npy" else lines * 255
                save(root / f"edge/{ident}.{edge}", line_map, "edge")
            (root / "gt_sets").mkdir(exist_ok=True)
            (root / f"gt_sets/{split}.txt").write_text("\n".join(ids) + "\n")
        return root

    return make
