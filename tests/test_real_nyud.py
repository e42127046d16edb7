"""The main job on real pictures, as the README's four commands have it, in small."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from mtlcli.data.reader import Reader

COUNTS = {"train": 3, "val": 2}
SMALL = ("--steps", 1, "--width", 32, "--position-channels", 8, "--points", 2,
         "--feedforward", 32, "--query", "pixel")  # fmt: skip
ON_CPU = ("--device", "cpu", "--workers", 0, "--quiet")


@pytest.fixture
def archive(real_data: Path, tmp_path: Path) -> Path:
    """Some real pictures as the archive that ATRC's users download."""
    tool = real_data.parent / "tools" / "make_nyud_tree.py"
    counts = [f"--{split}={count}" for split, count in COUNTS.items()]
    made = [sys.executable, tool, tmp_path / "made", "--tar", *counts]
    subprocess.run(made, check=True, capture_output=True)
    return tmp_path / "made" / "NYUDv2.tar.gz"


def test_four_commands_lead_from_the_archive_to_a_sheet(
    real_data: Path, archive: Path, tmp_path: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("MTL_HOME", str(home))
    weights = tmp_path / "model.safetensors"
    save_file(timm.create_model("hrnet_w18_small_v2").state_dict(), weights)

    answer = mtl("prepare", "nyud", "--archive", archive, "--quiet")
    assert answer.code == 0, answer.err
    for split, count in COUNTS.items():
        assert len(Reader(home / "datasets" / "nyud.h5", split)) == count

    answer = mtl("train", "--backbone", "hrnet18", "--init", weights, "--size", 96, 128,
                 "--iterations", 2, "--batch-size", 2, *SMALL, *ON_CPU)  # fmt: skip
    assert answer.code == 0, answer.err
    run = home / "weights" / "nyud_hrnet18_demt_itsa"
    init = json.loads((run / "run.json").read_text())["init"]
    assert init["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (init["source"], init["fresh"]) == (str(weights), [])

    answer = mtl("eval", run, *ON_CPU)
    assert answer.code == 0, answer.err
    main = json.loads((run / "results.json").read_text())["main"]
    assert set(main) == {"semseg", "depth", "normals", "edge"}
    assert all(math.isfinite(value) for value in main.values())

    picture = sorted((real_data / "nyud" / "images").glob("*.jpg"))[0]
    answer = mtl("visualize", picture, "--checkpoint", run, "--out", home, "--device", "cpu")
    assert answer.code == 0, answer.err
    (drawn,) = home.glob("*.png")
    with Image.open(drawn) as sheet:
        assert min(sheet.size) > 100
