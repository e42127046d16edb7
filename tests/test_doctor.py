"""`mtl doctor` finds what is whole, what is not, and what to do about it."""

import json
import re
import shlex
from pathlib import Path

import h5py
import torch
from huggingface_hub import constants
from safetensors.torch import save

from mtlcli.backbones._weights import HubFile
from mtlcli.runs import health as doctor
from mtlcli.runs import installation


def begin(run: Path, iterations: int, done: int) -> None:
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"config": {"tasks": ["depth"], "iterations": iterations}, "dataset": {}})
    )
    (run / "log.jsonl").write_text(f'{{"iteration": {done}}}\n{{"itera')
    torch.save({"weights": torch.zeros(1000)}, run / "last.pt")


def test_a_healthy_home_is_described(home: Path, mtl) -> None:
    begin(home / "weights" / "done", 5, 5)
    answer = mtl("doctor", "--json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    (dataset,) = record["datasets"]
    assert (dataset["state"], dataset["detail"]) == ("whole", "8 train, 3 val samples")
    (run,) = record["runs"]
    assert run["state"] == "whole"
    assert record["advice"] == [f"mtl eval {run['name']}"]
    assert record["machine"]["free_disk"] > 0
    assert "GB free" in mtl("doctor").out


def test_a_run_that_stopped_is_to_be_resumed(home: Path) -> None:
    run = home / "weights" / "series" / "seed1"
    begin(run, 5, 3)
    found = doctor.check_run(run)
    assert (found.state, found.detail) == ("unfinished", "iteration 3 of 5")
    assert found.next == f"mtl train --resume {run}"


def test_a_packed_run_is_whole_though_nothing_says_how_far_it_went(home: Path) -> None:
    run = home / "weights" / "packed"
    begin(run, 5, 3)
    (run / "log.jsonl").unlink()
    found = doctor.check_run(run)
    assert (found.state, found.next) == ("whole", None)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"fingerprint": "0", "device": "cpu"}))
    found = doctor.check_run(run)
    assert found.state == "unfinished", "it was trained here, and its log is lost"
    assert (found.detail, found.next) == ("iteration 0 of 5", f"mtl train --resume {run}")


def test_damaged_records_are_said_and_no_whole_checkpoint_is_to_be_removed(home: Path) -> None:
    run = home / "weights" / "run"
    begin(run, 5, 5)
    (run / "results.json").write_text("{")
    found = doctor.check_run(run)
    assert (found.state, found.next) == ("damaged", f"mtl eval {run}")
    (run / "run.json").write_text("{}")
    found = doctor.check_run(run)
    assert (found.state, found.next) == ("damaged", None)
    assert found.detail.startswith("run.json is not")
    (run / "last.pt").unlink()
    assert doctor.check_run(run).next == f"rm -r {run}"


def test_files_that_are_cut_short_are_damaged(home: Path, mtl) -> None:
    dataset, run = home / "datasets" / "rooms.h5", home / "weights" / "run"
    begin(run, 5, 5)
    for path in (dataset, run / "last.pt"):
        content = path.read_bytes()
        path.unlink()  # the dataset is a link to the one of all tests
        path.write_bytes(content[: len(content) // 2])
    answer = mtl("doctor")
    assert answer.code == 1
    assert "rooms.h5: damaged, is cut short" in answer.out
    assert "last.pt is cut short" in answer.out
    assert "mtl prepare rooms --force" in answer.out


def test_a_dataset_of_a_yaml_file_is_made_again_from_that(home: Path) -> None:
    path = home / "datasets" / "mine.h5"
    path.write_bytes(b"")
    assert doctor.check_dataset(path).next == "mtl prepare mine.yaml --force"


def test_a_sample_that_changed_is_damaged(home: Path) -> None:
    path = home / "datasets" / "rooms.h5"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        file["val/crc32/depth"][0] += 1
    found = doctor.check_dataset(path)
    assert found.state == "damaged"
    assert "(depth) is not as written" in found.detail


def test_an_empty_home_is_told_how_to_begin(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MTL_HOME", str(tmp_path / "nowhere"))
    health = doctor.examine()
    assert health.is_sound
    assert "mtl demo" in health.advice


def test_training_is_offered_with_a_way_to_begin_it() -> None:
    there = (doctor.Finding(name="datasets/rooms.h5", state="whole", detail=""),)
    assert doctor.advise(there, there, (), 1e12) == ["mtl train --dataset rooms"]
    (offer,) = doctor.advise(there, (), (), 1e12)
    assert offer.startswith("mtl train --dataset rooms ")
    assert "--init random" in offer


def test_extras_that_are_missing_are_said_with_the_command_that_installs_them(
    home: Path, mtl, monkeypatch
) -> None:
    monkeypatch.setattr(
        installation, "installed", lambda package: None if package == "gradio" else "1"
    )
    record = json.loads(mtl("doctor", "--json").out)
    assert record["extras"] == {"web": "pip install 'mtlcli[web]'"}
    assert "mtl serve: pip install 'mtlcli[web]'" in mtl("doctor").out


def test_every_extra_of_the_package_that_users_install_is_looked_for() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[project")[0]
    parts = re.split(r"^(\w+) = ", extras, flags=re.M)
    packages = dict(zip(parts[1::2], parts[2::2]))
    assert set(installation.OPTIONAL) == set(packages) - {"dev"}
    for extra, (package, _) in installation.OPTIONAL.items():
        assert f'"{package}' in packages[extra], f"{extra} does not install {package}"


def test_weights_of_timm_in_the_cache_of_the_hub_are_listed(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
    assert json.loads(mtl("doctor", "--json").out)["weights"] == []
    for repo in ("timm--resnet18.a1_in1k", "other--network"):
        commit = home / "cache" / f"models--{repo}" / "snapshots" / "0123"
        commit.mkdir(parents=True)
        (commit / "model.safetensors").write_bytes(b"weights")
    (found,) = json.loads(mtl("doctor", "--json").out)["weights"]
    assert found["detail"] == "cached from hub timm/resnet18.a1_in1k"


def test_the_network_that_ships_is_listed_and_checked(home: Path, mtl, monkeypatch) -> None:
    assert json.loads(mtl("doctor", "--json").out)["shipped"]["state"] == "whole"
    short = home / "nyud_small" / "model.safetensors"
    short.parent.mkdir()
    short.write_bytes(b"PK")
    monkeypatch.setattr(doctor, "find_shipped", lambda: short)
    answer = mtl("doctor")
    assert answer.code == 1
    assert "nyud_small: damaged" in answer.out
    monkeypatch.setattr(doctor, "find_shipped", lambda: None)
    assert json.loads(mtl("doctor", "--json").out)["shipped"] is None


def test_commands_to_copy_touch_no_other_folder_than_the_one_they_are_of(home: Path, mtl) -> None:
    broken = home / "weights" / "old run; echo"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("{")
    found = doctor.check_run(broken)
    assert shlex.split(found.next or "") == ["rm", "-r", str(broken)]


def test_weights_that_were_cut_short_by_hand_are_damaged(home: Path, monkeypatch) -> None:
    source = HubFile(repo="a/b", path="model.safetensors", licence="mit")
    monkeypatch.setattr(doctor.hub, "find_cached", lambda *_: None)
    path = home / "weights" / source.file
    path.parent.mkdir()
    for content, state in ((save({"x": torch.zeros(9)}), "whole"), (b"", "damaged")):
        path.write_bytes(content)
        assert [found.state for found in doctor.weights_of(source)] == [state]
