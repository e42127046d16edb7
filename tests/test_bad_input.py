"""Whatever the user gets wrong: one line that names it and the remedy, and exit code 2."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli.errors import InputError, RunError
from mtlcli.runs import checkpoint, names
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import make_run_folder
from tests.made_runs import write_run

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu",
         "--iterations", 1, "--workers", 0)  # fmt: skip

WRONG = {
    "unknown system": ((*TRAIN, "--system", "demt_isa"), "demt_itsa"),
    "unknown backbone": ((*TRAIN, "--backbone", "hrnet"), "hrnet18"),
    "unknown task": ((*TRAIN, "--task", "dept"), "depth"),
    "dataset that is not prepared": (("train", "--dataset", "nyud"), "mtl prepare nyud"),
    "mistyped dataset": (("train", "--dataset", "roms"), "Did you mean"),
    "unknown dataset": (("prepare", "nyu"), "nyud"),
    "unknown option": ((*TRAIN, "--gradient-scal", 3), "--gradient-scale"),
    "word without option": ((*TRAIN, "lambda=3"), "lambda=3"),
    "setting of another type": ((*TRAIN, "--steps", "many"), "--steps many"),
    "setting without sense": ((*TRAIN, "--query", "everything"), "everything"),
    "heads that do not divide": ((*TRAIN, "--heads", 7), "7"),
    "no iterations": ((*TRAIN, "--iterations", 0), "--iterations"),
    "empty batch": ((*TRAIN, "--batch-size", 0), "--batch-size"),
    "negative learning rate": ((*TRAIN, "--lr", -1), "--lr"),
    "infinite learning rate": ((*TRAIN, "--lr", "inf"), "--lr"),
    "not a learning rate": ((*TRAIN, "--lr", "nan"), "--lr"),
    "negative workers": ((*TRAIN, "--workers", -1), "--workers"),
    "tiny size": ((*TRAIN, "--size", 3, 4), "32"),
    "unknown device": ((*TRAIN, "--device", "tpu"), "tpu"),
    "missing checkpoint": (("eval", "weights/none/last.pt"), "weights/none/last.pt"),
    "missing picture": (("visualize", "nothing.png"), "nothing.png"),
    "missing archive": (("prepare", "nyud", "--archive", "gone.tar.gz"), "gone.tar.gz"),
    "missing predictions": (("boundary", "none", "none"), "none"),
    "unknown init": ((*TRAIN, "--init", "imagnet"), "imagnet"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_clear_line(case: str, home: Path, mtl) -> None:
    Image.new("RGB", (40, 30)).save(home / "picture.png")
    arguments, named = WRONG[case]
    answer = mtl(*arguments)
    assert answer.code == 2
    assert named in answer.err
    assert "Traceback" not in answer.err
    assert not list(home.glob("weights/*/*"))


def test_without_any_network_one_line_says_how_to_get_one(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(names, "find_shipped", lambda: None)
    Image.new("RGB", (40, 30)).save(home / "picture.png")
    answer = mtl("visualize", "picture.png")
    assert answer.code == 2
    assert "mtl train" in answer.err


def test_a_missing_device_is_said_before_work_begins(home: Path, mtl) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "--device auto" in mtl(*TRAIN, "--device", "cuda").err


@pytest.mark.parametrize(
    ("option", "value"), [("--edge-protocol", "sism"), ("--edge-gt-as", "lines")]
)
def test_an_unknown_way_to_score_boundaries(home: Path, mtl, option: str, value: str) -> None:
    small = ("--width", 32, "--position-channels", 8, "--points", 1, "--query", "pixel")
    assert mtl(*TRAIN, *small, "--out", "run").code == 0
    answer = mtl("eval", "run", option, value, "--workers", 0)
    assert answer.code == 2
    assert value in answer.err


NO_CHECKPOINTS = {b"": "empty", b"garbage": "text file", b"PK\x03\x04truncated": "cut short"}


@pytest.mark.parametrize("content", NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint(home: Path, mtl, content: bytes) -> None:
    (home / "x.pt").write_bytes(content)
    answer = mtl("eval", "x.pt")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "x.pt is " in answer.err
    assert NO_CHECKPOINTS[content] in answer.err
    assert "`mtl doctor`" in answer.err
    assert len(answer.err) < 140


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_run_that_is_cut_short_is_begun_again(
    home: Path, mtl, save_network: Callable, share: float
) -> None:
    path = save_network(home / "weights" / "run" / "last.pt")
    path.with_name("run.json").write_text("{}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    answer = mtl("export", "weights/run")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "weights/run/last.pt is cut short or damaged" in answer.err
    assert "remove it, and `mtl train --resume weights/run` begins it again" in answer.err
    assert "newest" not in answer.err


def test_bytes_changed_within_a_checkpoint_are_damage(home: Path, save_network: Callable) -> None:
    path = save_network(home / "last.pt")
    content = path.read_bytes()
    start = content.index(b"data.pkl")
    noise = np.random.default_rng(0)
    for _ in range(20):
        at = start + int(noise.integers(40, 2000))
        path.write_bytes(content[:at] + noise.bytes(64) + content[at + 64 :])
        with pytest.raises(InputError, match=r"last\.pt is"):
            checkpoint.read(path)


def test_a_damaged_run_that_nobody_named_is_said_to_be_the_newest(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch, save_network: Callable
) -> None:
    whole, broken = (
        write_run(home / "weights" / name, iterations=40) / "last.pt"
        for name in ("whole", "broken")
    )
    save_network(whole)
    os.utime(whole, (1e9, 1e9))
    broken.write_bytes(whole.read_bytes()[:5000])
    Image.new("RGB", (40, 30)).save(home / "picture.png")
    answer = mtl("visualize", "picture.png")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"{broken} is cut short or damaged" in answer.err
    assert "chosen as the newest run; `--checkpoint nyud_small` takes another" in answer.err
    monkeypatch.setattr(names, "find_shipped", lambda: None)
    assert f"`--checkpoint {whole.parent}`" in mtl("visualize", "picture.png").err


def test_a_checkpoint_of_another_version(home: Path, mtl) -> None:
    torch.save({"format": 99}, home / "new.pt")
    answer = mtl("eval", "new.pt")
    assert answer.code == 2
    assert "99" in answer.err
    torch.save({"weights": torch.zeros(3)}, home / "foreign.pt")
    assert mtl("eval", "foreign.pt").code == 2


def test_a_run_folder_is_never_written_over(home: Path) -> None:
    taken = home / "weights" / "taken"
    taken.mkdir(parents=True)
    (taken / "last.pt").write_bytes(b"precious")
    with pytest.raises(InputError, match="taken"):
        make_run_folder(taken, fixed=True)
    assert make_run_folder(taken, fixed=False) == taken.with_name("taken_2")
    assert (taken / "last.pt").read_bytes() == b"precious"


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, iteration=1)

    def no_space(content: object, file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(RunError, match="No space left"):
        checkpoint.save(path, iteration=2)
    assert checkpoint.read(path)["iteration"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_diverged_loss_names_task_and_images(home: Path, mtl) -> None:
    answer = mtl(*TRAIN[:-4], "--workers", 0, "--iterations", 60, "--batch-size", 2, "--lr", 1e6,
                 "--system", "multi_task", "--quiet")  # fmt: skip
    assert answer.code == 1
    assert "00" in answer.err
    assert "Lower --lr" in answer.err


def test_a_record_of_a_run_survives_json() -> None:
    config = RunConfig(tasks=("a", "b"), size=(40, 50), settings={"steps": 1})
    assert RunConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--resume", "weights/base", "--iterations", 9, "--dry-run"), "--like weights/base"),
        (("--resume", "weights/base", "--jobs", 2), "is one run"),
        (("--optimizer", "adamw", "--momentum", 0.3), "--momentum 0.3"),
        (("--gradient-scale", 0), "positive"),
        (("--gradient-scale", -100), "positive"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(base: Path, mtl, words, said) -> None:
    before = {p: p.read_bytes() for p in base.iterdir()}
    answer = mtl("train", *(words if "--resume" in words else (*TRAIN[1:], *words)))
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert said in answer.err
    assert {p: p.read_bytes() for p in base.iterdir()} == before
