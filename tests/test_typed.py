"""The commands of README and reference as a practitioner types them, one after the other, word for
word; what each is said to write is there and can be opened.
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import trimesh
import yaml
from PIL import Image

from tests.fake_hub import COMMIT, ask_instead, serving
from tests.pages import ROOT, example
from tests.test_video import film

BLOCK = example("--compare weights/A", "sh")
WRITTEN = {  # what stands in a line -> files that it leaves
    "--compare": ["visualized/a.png"],
    "--index 12": ["visualized/nyud_val_12.png"],
    "--separate": ["visualized/depth/a.png", "visualized/drawn/depth/a.png", "visualized/a.npz",
                   "visualized/overlay/a.png", "visualized/a.json"],
    "--recursive": ["visualized/b.png", "visualized/below/c.png"],
    "--points": ["visualized/a.ply", "visualized/a.glb"],
    "--layout": ["visualized/film.mp4"],
    "--fit-scale": ["weights/A/run.json"],
    "--reference": ["report.html"],
    "--latex": [],
    "mtl pack": ["small/model.safetensors", "small/README.md"],
    "--checkpoint hf:": ["visualized/a.png"],
    "mtl export": ["room.onnx"],
    "--checkpoint room.onnx": ["visualized/a.png"],
}  # fmt: skip


@pytest.fixture
def desk(home: Path, trained_run: Path, make_bundle: Callable, mtl: Callable) -> Path:
    """Pictures, a film, two runs and a prepared dataset, as the block takes them for granted."""
    shutil.copy(ROOT / "room.jpg", home)
    small = Image.open("room.jpg").resize((96, 72))
    (home / "photos" / "below").mkdir(parents=True)
    for name in ("a.jpg", "photos/b.jpg", "photos/below/c.jpg"):
        small.save(name)
    np.save("photos/b.npy", np.linspace(1, 4, 72 * 96).reshape(72, 96))
    film(home / "film.mp4", frames=3)
    for name in "AB":
        shutil.copytree(trained_run, home / "weights" / name)
    bundle = make_bundle(home / "bundle", "atrc", train=1, val=13)
    assert mtl("prepare", "nyud", "--archive", bundle, "--workers", 1, "--quiet").code == 0
    return home


def test_a_folder_of_pictures_becomes_a_dataset_and_a_network(home: Path, mtl: Callable) -> None:
    for folder in ("images", "masks"):
        (home / folder).mkdir()
    for number in range(52):
        Image.new("RGB", (48, 32), (number, 90, 200)).save(home / f"images/{number}.jpg")
        Image.fromarray(np.full((32, 48), number % 3, np.uint8)).save(home / f"masks/{number}.png")
    said = yaml.safe_load(example("name: my", "yaml"))
    said |= {"size": [32, 48], "tasks": {"semseg": said["tasks"]["semseg"]}}
    said["splits"]["val"] = "lists/val.txt"
    (home / "my.yaml").write_text(yaml.safe_dump(said))
    block = example("mtl prepare my.yaml", "sh").replace("2000", "1").splitlines()
    for line in block:
        if line.startswith("mtl "):
            done = mtl(*shlex.split(line, comments=True)[1:])
            assert done.code == 0, (line, done.err)
        else:
            subprocess.run(line, shell=True, check=True, cwd=home)
    assert json.loads((home / "weights/mine/results.json").read_text())["images"] == 50


def test_the_first_command_of_the_readme_draws_the_picture_that_ships(
    home: Path, mtl: Callable
) -> None:
    assert "&& mtl visualize room.jpg " in example("pip install -e . ", "sh")
    shutil.copy(ROOT / "room.jpg", home)
    answer = mtl("visualize", "room.jpg")
    assert answer.code == 0, answer.err
    assert "comes with mtl" in answer.err
    with Image.open("visualized/room.png") as sheet:
        assert min(sheet.size) > 500
    assert (ROOT / "room.jpg").stat().st_size < 150_000


def test_the_commands_of_the_reference_do_what_is_said_beside_them(
    desk: Path, mtl: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: mtlcli[onnx]")
    assert "mtl export nyud_small " in BLOCK
    typed = BLOCK.replace("export nyud_small", "export A").splitlines()  # which takes no minutes
    assert len(typed) >= 10
    with serving() as hub:
        ask_instead(hub, monkeypatch, desk / "cache")
        for line in typed:
            shutil.rmtree("visualized", ignore_errors=True)
            answer = mtl(*shlex.split(line, comments=True)[1:])
            assert answer.code == 0, f"{line}: {answer.err}"
            (files,) = (files for mark, files in WRITTEN.items() if mark in line.partition("#")[0])
            for file in files:
                assert Path(file).stat().st_size, f"{line}: {file}"
                open_file(Path(file))
            for path in Path("small").glob("*"):
                hub.files[f"USER/REPO@main/{path.name}"] = path.read_bytes()
    assert any(COMMIT in path or "main" in path for _, path, _ in hub.asked)
    scaled, other = (Path("weights", name, "run.json").read_text() for name in "AB")
    assert scaled != other, "--fit-scale keeps its scale in the run"


def open_file(path: Path) -> None:
    """Read a file as other programs do."""
    if path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".npz":
        assert np.load(path)["depth"].shape == (72, 96)
    elif path.suffix in (".ply", ".glb"):
        assert len(trimesh.load_scene(path).to_geometry().vertices) == 72 * 96
    elif path.suffix == ".mp4":
        with av.open(str(path)) as shown:
            (stream,) = shown.streams
            assert (stream.codec_context.name, stream.frames) == ("h264", 3)
