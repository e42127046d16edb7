"""A packed run is small and predicts the same."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mtlcli.data.hdf5 import Info
from mtlcli.drawing.prediction import predict
from mtlcli.runs import checkpoint, names
from mtlcli.runs.card import describe
from mtlcli.runs.config import RunConfig
from mtlcli.runs.pack import halve, without_places
from mtlcli.runs.record import Record


@pytest.fixture
def run(base):
    """A trained run folder."""
    return base


def test_a_packed_run_predicts_the_same_and_is_a_fraction_of_the_size(run, home, mtl):
    packed = mtl("pack", run, "--out", "small")
    assert packed.code == 0, packed.err
    small = home / "small" / "model.safetensors"
    assert small.stat().st_size < 0.3 * (run / "last.pt").stat().st_size
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    maps = [predict(checkpoint.load(p, torch.device("cpu")), image) for p in (run, small)]
    np.testing.assert_allclose(maps[0]["depth"], maps[1]["depth"], atol=0.02)
    assert mtl("eval", "small", "--device", "cpu", "--quiet", "--limit", 1).code == 0


def test_every_byte_of_packed_tensors_counts(run, home, mtl):
    assert mtl("pack", run, "--out", "weights/small").code == 0
    file = home / "weights/small/model.safetensors"
    content = bytearray(file.read_bytes())
    assert mtl("doctor").code == 0
    for place in (-1, len(content) // 2):
        content[place] ^= 1
        file.write_bytes(content)
        answer = mtl("eval", "small", "--device", "cpu", "--quiet", "--limit", 1)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert "damaged" in answer.err
        assert "model.safetensors has bytes that were changed" in mtl("doctor").out
        content[place] ^= 1
    file.write_bytes(content)
    assert mtl("eval", "small", "--device", "cpu", "--quiet", "--limit", 1).code == 0


def test_what_was_packed_is_told_as_json(run, home, mtl):
    record = json.loads(mtl("pack", run, "--out", "small", "--json").out)
    assert record["checkpoint"] == "small/model.safetensors"
    assert record["bytes"] == (home / "small" / "model.safetensors").stat().st_size
    assert record["bytes_before"] == (run / "last.pt").stat().st_size


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "results.json", "README.md"])
def test_nothing_in_the_way_is_replaced(base, home, mtl, file):
    (home / "small").mkdir()
    (home / "small" / file).write_text("mine")
    (home / "small" / ".gitattributes").write_text("")  # of a clone
    refused = mtl("pack", base, "--out", "small")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"small/{file} is there already" in refused.err
    assert sorted(p.name for p in (home / "small").iterdir()) == [".gitattributes", file]
    (home / "small" / file).unlink()
    assert mtl("pack", base, "--out", "small").code == 0


def test_a_packed_run_cannot_be_resumed_and_says_so(run, mtl):
    mtl("pack", run, "--out", "small")
    resumed = mtl("train", "--resume", "small")
    assert resumed.code == 2
    assert "pack" in resumed.err


def test_the_shipped_network_goes_by_its_name_in_weights_too(run, home, monkeypatch):
    ours = home / "weights" / names.SHIPPED / "last.pt"
    ours.parent.mkdir()
    os.link(run / "last.pt", ours)
    monkeypatch.setattr(names, "find_shipped", lambda: ours)
    assert names.file_of(Path("nyud_small")) == ours


def card(folder):
    """The front matter and the text of a packed run's card."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_says_how_well_on_what_and_on_what_terms(base, home, mtl):
    change(base / "run.json", "init", init="imagenet", licence="cc-by-nc-4.0", source="a/b")
    change(base / "run.json", "dataset", terms="Cite | them.\n---\nAsk.", title="Rooms: <b>1</b>")
    assert mtl("pack", base, "--out", "small", "--license", "mit").code == 0
    front, text = card(home / "small")
    assert (front["license"], front["library_name"], front["datasets"]) == (
        "mit", "mtlcli", ["rooms"],
    )  # fmt: skip
    scores = json.loads((base / "results.json").read_text())["main"]
    told = {
        entry["dataset"]["config"]: entry["metrics"][0]["value"]
        for entry in front["model-index"][0]["results"]
    }
    assert told == scores
    rows = [line for line in text.splitlines() if line.startswith("| base")]
    assert [float(cell) for cell in rows[0].split("|")[2:-1]] == [
        round(s, 4) for s in scores.values()
    ]
    for words in ("3 images of val", "cc-by-nc-4.0 (a/b)", "Cite | them. --- Ask.", "8 pictures"):
        assert words in text
    assert "<b>" not in text
    assert json.loads((home / "small" / "config.json").read_text()) == json.loads(
        (base / "run.json").read_text()
    )
    assert card_of_no_licence(base, home, mtl)["license"] == "other"


def test_what_is_given_away_does_not_tell_where_files_lay(base, home, mtl):
    change(base / "run.json", "init", init="/home/somebody/w.pth", file="/home/somebody/w.pth")
    change(base / "run.json", "dataset", request={"archive": "/home/somebody/nyud.tgz"})
    content = json.loads((base / "run.json").read_text())
    words = ["train", "--init", "/home/somebody/w.pth", "--out=/home/somebody/run", "--lr", "1e-3"]
    later = {"command": words, "of a later version": ["/home/somebody"]}
    (base / "run.json").write_text(json.dumps(content | later))
    content = checkpoint.read(base)
    content["config"]["init"] = "/home/somebody/w.pth"
    checkpoint.save(base / "last.pt", **content)
    assert mtl("pack", base, "--out", "small").code == 0
    for file in (home / "small").iterdir():
        assert b"/home/" not in file.read_bytes(), file
    packed = json.loads((home / "small" / "config.json").read_text())
    words = ["train", "--init", ".../w.pth", "--out=.../run", "--lr", "1e-3"]
    assert packed["command"] == words
    assert packed["of a later version"] == [".../somebody"]
    assert mtl("eval", "small", "--device", "cpu", "--quiet", "--limit", 1).code == 0


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (r"C:\Users\somebody\w.pth", ".../w.pth"),
        ("--init=/a/w.pth", "--init=.../w.pth"),
        ("--scale=depth=/a/w.pth", "--scale=depth=.../w.pth"),
        ("/data/random", ".../random"),
        ("/", ".../"),
        ("~/w.pth", ".../w.pth"),
        ("../../client/w.pth", ".../w.pth"),
        ("", ""),
        ("weights/run", "weights/run"),
        ("hf:user/repo", "hf:user/repo"),
        ("https://host/w.pth", "https://host/w.pth"),
        ("https://host/?w=/b", "https://host/?w=/b"),
        ("semseg=/a", "semseg=.../a"),
        (("/a/b", {"c": "/d/e"}, 1, None), [".../b", {"c": ".../e"}, 1, None]),
    ],
)
def test_absolute_paths_become_names(said, left):
    assert without_places(said) == left


def card_of_no_licence(run, home, mtl):
    """The front matter where nobody named a licence."""
    assert mtl("pack", run, "--out", "other").code == 0
    return card(home / "other")[0]


def change(path, key, **values):
    """Alter an entry of a JSON file."""
    content = json.loads(path.read_text())
    content[key] |= values
    path.write_text(json.dumps(content))


def test_scores_of_another_checkpoint_are_not_given_along(base, home, mtl):
    content = json.loads((base / "results.json").read_text())
    (base / "results.json").write_text(json.dumps(content | {"iteration": 3}))
    assert mtl("pack", base, "--out", "small").code == 0
    assert not (home / "small" / "results.json").exists()
    assert "model-index" not in card(home / "small")[0]


def test_a_checkpoint_alone_can_be_packed_and_used(base, home, mtl):
    (home / "alone").mkdir()
    os.link(base / "last.pt", home / "alone" / "mine.pt")
    assert mtl("pack", "alone/mine.pt", "--out", "small").code == 0
    (home / "moved.safetensors").write_bytes((home / "small" / "model.safetensors").read_bytes())
    one, other = (
        checkpoint.load(p, "cpu").network.state_dict() for p in (base, home / "moved.safetensors")
    )
    assert all(torch.equal(one[n].half().float(), w.float()) or n.endswith("tracked")
               for n, w in other.items())  # fmt: skip


def test_the_folder_that_ships_and_its_form_are_still_read(base, home, mtl):
    old = home / "weights" / "old"
    old.mkdir()
    content = checkpoint.read(base)
    network = {n: w.half() if w.is_floating_point() else w for n, w in content["network"].items()}
    kept = {key: content[key] for key in ("config", "dataset", "iteration")}
    checkpoint.save(old / "last.pt", **kept, network=network)
    for name in ("run.json", "results.json"):
        (old / name).write_bytes((base / name).read_bytes())
    assert mtl("eval", "old", "--device", "cpu", "--quiet").code == 0
    assert mtl("pack", "old", "--out", "new").code == 0
    assert "rounded" not in card(home / "new")[1]


def test_what_half_precision_cannot_hold_stays_single():
    large = torch.tensor([1.0, 70_000.0, -1e6])
    for tensor, kind in (
        (large, torch.float32),
        (torch.tensor([1.0, 65_504.0]), torch.float16),
        (torch.tensor([1.0, torch.inf]), torch.float16),
        (torch.tensor([70_000]), torch.int64),
    ):
        assert halve(tensor).dtype == kind
        assert torch.equal(halve(tensor).to(tensor.dtype), tensor)
        assert halve(tensor).data_ptr() != tensor.data_ptr()


def test_the_card_says_that_held_out_pictures_taught_nothing():
    config = RunConfig(dataset="x", tasks=("depth",))
    told = [
        describe("r", Record(config=c, dataset=Info(title="X"), training_images=40), None, 9)
        for c in (config, replace(config, holdout=0.05), replace(config, holdout=0.025))
    ]
    assert ["held out" in card for card in told] == [False, True, True]
    assert "9 iterations on 40 pictures, 5% of which were held out" in told[1]
    assert "2.5% of which were held out" in told[2]
