"""Nothing of the user's is overwritten: what mtl wrote it may replace, all else stays."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mtlcli.boundary import run_boundary
from mtlcli.data.reader import Reader
from mtlcli.drawing.sources import Targets
from mtlcli.errors import InputError
from mtlcli.files import is_ours
from tests.made_runs import write_run


@pytest.fixture
def draw(home: Path, network: Path, mtl: Callable) -> Callable:
    """`mtl visualize ...` with a small network; the paths it has written."""

    def run(*words: object) -> list[str]:
        chosen = ("--checkpoint", network, "--device", "cpu", "--quiet")
        answer = mtl("visualize", *words, *chosen)
        assert answer.code == 0, answer.err
        return answer.out.splitlines()

    return run


def picture(path: str, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return Path(path)


def films(path: str) -> Path:
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for grey in range(3):
        writer.write(np.full((48, 64, 3), 80 * grey, np.uint8))
    writer.release()
    return Path(path)


def contents() -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def kept(before: dict[Path, bytes]) -> bool:
    return all(path.read_bytes() == content for path, content in before.items())


def test_separate_files_go_beside_labels_of_the_same_names(home: Path, draw: Callable) -> None:
    for name in ("normals/k.png", "depth/k.png", "semseg/k_2.png"):
        picture(name)
    Path("k_3.npz").write_bytes(b"mine")
    before = contents()
    written = draw("normals/k.png", "--separate", "--out", ".")
    tasks = [
        f"{place}{t}" for t in ("semseg", "depth", "normals", "edge") for place in ("", "drawn/")
    ]
    pictures = [f"{folder}/k_4.png" for folder in (*tasks, "overlay")]
    assert sorted(written) == sorted([*pictures, "k_4.npz", "k_4.json"])
    assert kept(before)


def test_own_files_are_replaced_by_the_next_call(home: Path, draw: Callable) -> None:
    picture("k.jpg")
    films("film.mp4")
    calls = (
        ("k.jpg",),
        ("k.jpg", "--separate"),
        ("film.mp4", "--out", "films"),
        ("--dataset", "rooms", "--index", 0),
    )
    for call in calls:
        first = draw(*call)
        assert all(is_ours(Path(p.split(" (")[0])) for p in first), first
        assert [p.split(" (")[0] for p in draw(*call)] == [p.split(" (")[0] for p in first]
    assert cv2.VideoCapture("films/film.mp4").read()[0]
    with np.load("visualized/k.npz") as values:
        assert "depth" in values


def test_sheets_and_videos_are_numbered_where_others_lie(home: Path, draw: Callable) -> None:
    picture("in/k.jpg")
    films("film.mp4")
    for name in ("k.png", "rooms_val_0.png"):
        picture(f"out/{name}")
    Path("out/film.mp4").write_bytes(b"mine")
    before = contents()
    out = ("--out", "out")
    assert draw("in/k.jpg", *out) == ["out/k_2.png"]
    assert draw("in/k.jpg", *out) == ["out/k_2.png"]
    assert draw("film.mp4", *out)[0].startswith("out/film_2.mp4")
    assert draw("--dataset", "rooms", *out) == ["out/rooms_val_0_2.png"]
    assert kept(before)


def test_force_replaces_others_but_never_a_source(home: Path, draw: Callable) -> None:
    source, other = picture("k.png"), picture("out/k.png", 1)
    os.link(source, "out/j.png")
    before = source.read_bytes()
    assert draw("k.png", "--out", "out", "--force") == ["out/k.png"]
    assert is_ours(other)
    assert draw("k.png", "--out", ".", "--force") == ["k_2.png"]
    picture("in/j.png")
    assert draw("k.png", "in/j.png", "--out", "out", "--force") == ["out/k.png", "out/j_2.png"]
    assert source.read_bytes() == before


def test_an_own_sheet_that_is_the_source_stays(home: Path, draw: Callable) -> None:
    picture("k.jpg")
    (sheet,) = draw("k.jpg")
    before = Path(sheet).read_bytes()
    assert draw(sheet) == ["visualized/k_2.png"]
    assert Path(sheet).read_bytes() == before


def test_names_are_taken_once(tmp_path: Path) -> None:
    targets = Targets(tmp_path, [])
    assert [targets.name("a", "{}.png") for _ in range(3)] == ["a", "a_2", "a_3"]
    assert targets.name("a", "{}.npz", "depth/{}.png") == "a"
    (tmp_path / "link.png").symlink_to(picture(str(tmp_path / "mine.png")))
    assert targets.name("link", "{}.png") == "link_2"


def test_a_file_the_user_names_is_refused_unless_it_is_ours(home: Path, mtl: Callable) -> None:
    run = write_run(home / "weights" / "run")
    picture("s.png")
    for name in ("page.html", "table.md", "table.tex"):
        Path(name).write_text("mine")
    before = contents()
    commands = {
        "s.png": ("data", "datasets/rooms.h5", "--json", "--browse"),
        "page.html": ("report", run, "--quiet", "--device", "cpu", "--out"),
        "table.md": ("report", run, "--markdown", "--out"),
        "table.tex": ("report", run, "--latex", "--out"),
    }
    for name, command in commands.items():
        refused = mtl(*command, name)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert f"{name} exists" in refused.err
        assert "--force" in refused.err
    assert kept(before)
    for name, command in commands.items():
        assert mtl(*command, name, "--force").code == 0
        assert is_ours(Path(name)), name
        assert mtl(*command, name).code == 0  # again


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_an_exported_file_replaces_its_like_only(
    home: Path, network: Path, mtl: Callable, form: str
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    Path("net.bin").write_bytes(b"mine")
    command = ("export", network, "--format", form, "--size", 32, 32, "--quiet", "--out", "net.bin")
    refused = mtl(*command)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert Path("net.bin").read_bytes() == b"mine"
    assert mtl(*command, "--force").code == 0
    assert is_ours(Path("net.bin"))


def test_counts_and_plots_replace_their_like_only(home: Path) -> None:
    for folder in ("pred", "gt"):
        Path(folder).mkdir()
        Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(f"{folder}/a.png")

    def run(name: str, **more: bool) -> None:
        option = {"counts": Path(name)} if name.endswith("csv") else {"plot": Path(name)}
        run_boundary(Path("pred"), Path("gt"), workers=1, quiet=True, **option, **more)  # type: ignore[arg-type]

    for name in ("c.csv", "p.png"):
        Path(name).write_text("mine")
        with pytest.raises(InputError, match="--force"):
            run(name)
        assert Path(name).read_text() == "mine"
        run(name, force=True)
        run(name)


def test_predictions_are_not_saved_over_labels(home: Path, base: Path, mtl: Callable) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "val")
    label = picture(f"labels/depth/{reader.ids[2]}.png")
    before = label.read_bytes()
    refused = mtl("eval", base, "--save-predictions", "labels", "--workers", 0, "--quiet")
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert str(label) in refused.err
    assert label.read_bytes() == before


def test_a_folder_with_the_record_of_a_run_is_not_packed_into(
    home: Path, network: Path, mtl: Callable
) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "run.json").write_text("mine")
    network.with_name("run.json").write_text("{}")
    refused = mtl("pack", network, "--out", "mine")
    assert refused.code == 2
    assert (home / "mine" / "run.json").read_text() == "mine"
