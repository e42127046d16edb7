"""Runs on the hub: taken by name everywhere, refused in one line, never executed, never changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

import mtlcli
from mtlcli.data import hub as data_hub
from mtlcli.errors import InputError
from mtlcli.runs import checkpoint, hub_run
from mtlcli.runs.names import pin, resolve
from tests.fake_hub import COMMIT, Hub, serving

NAME, PINNED = "hf:ours/small.v1", f"hf:ours/small.v1@{COMMIT}"
FILES = ("model.safetensors", "config.json", "results.json", "README.md")
EVAL = ("--device", "cpu", "--quiet")


@pytest.fixture(scope="session")
def packed(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run as `mtl pack` leaves it."""
    from mtlcli.runs.pack import pack

    return pack(trained_run, tmp_path_factory.mktemp("packed") / "small").path.parent


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch):
    """A hub that the library asks instead of the real one, with an empty cache."""
    with serving() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(data_hub, "PAUSES", (0.0, 0.0))
        yield server


def upload(hub: Hub, folder: Path, name: str = "ours/small.v1@main", files=FILES) -> None:
    for file in files:
        if (folder / file).exists():
            hub.files[f"{name}/{file}"] = (folder / file).read_bytes()


def cached(home: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in (home / "cache").rglob("*") if p.is_file()}


def test_every_command_takes_it_and_the_cached_copy_stays_as_it_was(
    home: Path, hub: Hub, packed: Path, mtl
) -> None:
    upload(hub, packed)
    scored = mtl("eval", NAME, *EVAL, "--json")
    assert scored.code == 0, scored.err
    before = cached(home)
    record = json.loads((home / "weights" / "ours--small.v1" / "results.json").read_text())
    assert record == json.loads(scored.out)
    assert record["hub"] == PINNED
    Image.new("RGB", (40, 30)).save("x.png")
    shown = mtl("visualize", "x.png", "--checkpoint", NAME, *EVAL)
    assert shown.code == 0, shown.err
    assert shown.err == f"Network: {PINNED}\n"
    assert mtl("visualize", "x.png", "--compare", NAME, PINNED, *EVAL).code == 0
    table = mtl("report", NAME, "--reference", NAME, "--markdown")
    assert table.code == 0, table.err
    assert "ours/small.v1" in table.out
    assert mtl("pack", NAME, "--out", "again").code == 0
    assert load_file("again/model.safetensors").keys() == load_file(packed / FILES[0]).keys()
    net = mtlcli.load(NAME, device="cpu")
    assert PINNED in repr(net)
    assert set(net.predict(np.zeros((40, 50, 3), np.uint8))) == {"depth", "semseg"}
    assert cached(home) == before
    assert not any(path.endswith(".pt") for _, path, _ in hub.asked)
    assert [p.name for p in (home / "weights").iterdir()] == ["ours--small.v1"]


def test_a_run_begins_with_it_and_with_its_options(home: Path, hub: Hub, packed, mtl) -> None:
    upload(hub, packed)
    alike = mtl("train", "--like", NAME, "--iterations", 1, "--workers", 0, *EVAL, "--out", "a")
    assert alike.code == 0, alike.err
    assert not any(path.endswith(".safetensors") for _, path, _ in hub.asked)
    begun = mtl("train", "--from", NAME, "--batch-size", 2, "--iterations", 1, "--workers", 0,
                *EVAL, "--out", "b")  # fmt: skip
    assert begun.code == 0, begun.err
    record = json.loads(Path("b/run.json").read_text())
    assert record["config"]["from_run"] == record["taken"]["run"] == PINNED
    resumed = mtl("train", "--resume", NAME)
    assert (resumed.code, resumed.err.count("\n")) == (2, 1)
    assert "--from" in resumed.err


def test_an_exported_file_lies_in_the_working_folder(hub: Hub, packed: Path) -> None:
    from mtlcli.formats.export import default_path

    upload(hub, packed)
    assert default_path(Path(NAME), ".onnx") == Path("ours--small.v1.onnx")


def test_a_commit_that_is_cached_asks_nobody(home: Path, hub: Hub, packed: Path) -> None:
    upload(hub, packed, files=FILES[:2])
    assert str(pin(Path(NAME))) == PINNED
    hub.asked.clear()
    assert resolve(Path(PINNED)) == resolve(Path(PINNED))
    assert hub.asked == []


def test_revisions_are_apart_and_so_are_their_scores(
    home: Path, hub: Hub, packed: Path, mtl
) -> None:
    upload(hub, packed)
    upload(hub, packed, "ours/small.v1@refs/pr/1", files=FILES[:2])
    other = "f" * 40
    hub.commits["ours/small.v1@refs/pr/1"] = other
    first, second = resolve(Path(NAME)), resolve(Path(f"{NAME}@refs/pr/1"))
    assert (first.name, second.name) == (COMMIT, other)
    assert mtl("eval", f"{NAME}@refs/pr/1", *EVAL).code == 0
    record = json.loads((home / "weights/ours--small.v1/refs--pr--1/results.json").read_text())
    assert record["hub"] == f"{NAME}@{other}"
    assert hub_run.folder_name(first) == Path("ours--small.v1")


def test_a_repository_that_changes_meanwhile_is_not_mixed(hub: Hub, packed: Path) -> None:
    upload(hub, packed)
    answer = hub_run.obtain

    def change(its, file, *rest, **options):
        found = answer(its, file, *rest, **options)
        hub.commits["ours/small.v1@main"] = "e" * 40
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_run, "obtain", change)
        with pytest.raises(Exception, match="was changed while"):
            resolve(Path(NAME))


def test_without_a_network_the_cached_run_is_taken(
    home: Path, hub: Hub, packed: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    missing = mtl("eval", NAME, *EVAL)
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert "HF_HUB_OFFLINE" in missing.err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    upload(hub, packed)
    assert mtl("eval", NAME, *EVAL).code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert mtl("eval", NAME, *EVAL).code == 0


def refuse(status: int, code: str):
    return lambda hub: hub.refusals.update({"ours/small.v1": (status, code)})


def send(file: str, cut):
    key = f"ours/small.v1@main/{file}"
    return lambda hub: hub.sends.update({key: cut(hub.files[key])})


def put(file: str, content: bytes):
    return lambda hub: hub.files.update({f"ours/small.v1@main/{file}": content})


def drop(file: str):
    return lambda hub: hub.files.pop(f"ours/small.v1@main/{file}")


FAULTS = {
    "gated": (refuse(403, "GatedRepo"), 2, "HF_TOKEN"),
    "forbidden": (refuse(403, ""), 2, "HF_TOKEN"),
    "wrong token": (refuse(401, ""), 2, "HF_TOKEN"),
    "private or missing": (refuse(401, "RepoNotFound"), 2, "no such repository"),
    "missing": (refuse(404, "RepoNotFound"), 2, "no such repository"),
    "no such revision": (refuse(404, "RevisionNotFound"), 2, "no such revision"),
    "broken down": (refuse(500, ""), 1, "HTTP 500"),
    "no record": (drop("config.json"), 2, "is no run of mtl"),
    "no network": (drop("model.safetensors"), 2, "is no run of mtl"),
    "another program's": (put("config.json", b'{"architectures": ["X"]}'), 2, "is no run of mtl"),
    "no JSON": (put("config.json", b"<html>"), 2, "is no run of mtl"),
    "a list": (put("config.json", b"[1]"), 2, "is no run of mtl"),
    "another's tensors": (
        put("model.safetensors", save({"a": torch.zeros(1)})), 2, "is no run of mtl"
    ),
    "no tensors": (put("model.safetensors", b"?" * 99), 2, "is no run of mtl"),
    "half a file": (send("model.safetensors", lambda b: b[: len(b) // 2]), 1, "size"),
    "wrong checksum": (send("model.safetensors", lambda b: b[:-1] + b"!"), 1, "sha256"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_hub_does_not_give_is_one_line(hub: Hub, packed: Path, mtl, fault: str) -> None:
    spoil, code, reason = FAULTS[fault]
    upload(hub, packed)
    spoil(hub)
    answer = mtl("eval", NAME, *EVAL)
    assert (answer.code, answer.err.count("\n")) == (code, 1), answer.err
    assert reason in answer.err
    assert "ours/small.v1" in answer.err
    assert not Path("weights").exists()


def test_a_pickle_is_not_even_fetched(home: Path, hub: Hub, trained_run: Path, mtl) -> None:
    upload(hub, trained_run, files=("run.json", "last.pt", "results.json"))
    answer = mtl("eval", NAME, *EVAL)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert not any(path.endswith((".pt", "run.json")) for _, path, _ in hub.asked)


HOSTILE = {
    "dataset": "../../etc/passwd",
    "system": "../systems/demt",
    "backbone": "/tmp/evil",
    "tasks": ["/tmp/evil"],
    "settings": {"hidden": "__import__('os').system('touch executed')"},
    "size": ["a", "b"],
    "iterations": "many",
    "surplus": 1,
    "tasks ": [],
}


@pytest.mark.parametrize("option", HOSTILE)
def test_a_strangers_options_lead_nowhere(
    home: Path, hub: Hub, packed: Path, mtl, option: str
) -> None:
    with safe_open(packed / "model.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["mtl"])
    facts["config"][option] = HOSTILE[option]
    facts["dataset"]["kinds"] = {"/tmp/evil": "depth"}
    config = json.loads((packed / "config.json").read_text())
    config["config"] = facts["config"]
    tensors = load_file(packed / "model.safetensors")
    upload(hub, packed)
    metadata = {"format": "pt", "mtl": json.dumps(facts)}
    put("model.safetensors", save(tensors, metadata))(hub)
    put("config.json", json.dumps(config).encode())(hub)
    for command in (("eval", NAME, *EVAL), ("train", "--from", NAME), ("train", "--like", NAME),
                    ("pack", NAME, "--out", "out")):  # fmt: skip
        answer = mtl(*command)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert sorted(p.name for p in home.iterdir()) == ["cache", "datasets"]


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:gpt2", "hf:a/b/c", "hf:../x", "hf:a/..", "hf:a/b@", "hf:a/b@../x", "hf:a/b@x y"],
)
def test_a_name_of_another_form_is_refused(home: Path, name: str) -> None:
    with pytest.raises(InputError, match="hf:USER/REPO"):
        resolve(Path(name))


def test_the_forms_of_a_name() -> None:
    for text, revision in (("hf:a/b", "main"), ("hf://a/b@v1", "v1"), ("hf:a/b@refs/pr/1",) * 2):
        its = hub_run.parse(Path(text))
        assert (its.repo, its.revision) == ("a/b", revision.rpartition("@")[2])


def test_variables_of_the_hub_are_heeded(home: Path, packed: Path) -> None:
    with serving() as server:
        upload(server, packed)
        environment = os.environ | {
            "HF_ENDPOINT": server.address, "HF_HOME": str(home / "hf"), "HF_TOKEN": "hf_secret",
        }  # fmt: skip
        code = "import pathlib, mtlcli.runs.names as n; print(n.pin(pathlib.Path({!r})))"
        done = subprocess.run(
            [sys.executable, "-c", code.format(NAME)],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.stdout.strip() == PINNED, done.stderr
    assert (home / "hf" / "hub").is_dir()
    tokens = {token for _, path, token in server.asked if "/resolve/" in path}
    assert tokens == {"Bearer hf_secret"}


def test_a_folder_that_is_downloaded_by_hand_is_a_run_too(home: Path, packed: Path, mtl) -> None:
    shutil.copytree(packed, home / "weights" / "mine")
    assert mtl("eval", "mine", *EVAL).code == 0
    assert mtl("eval", "weights/mine/model.safetensors", *EVAL).code == 0
    (home / "weights" / "other").mkdir()
    (home / "weights" / "other" / "config.json").write_text('{"architectures": []}')
    (home / "weights" / "other" / "model.safetensors").write_bytes(save({"a": torch.zeros(1)}))
    told = json.loads(mtl("doctor", "--json").out)
    assert [run["name"] for run in told["runs"]] == [str(home / "weights" / "mine")]
    whole = (home / "weights" / "mine" / "model.safetensors").read_bytes()
    (home / "weights" / "mine" / "model.safetensors").write_bytes(whole[:-8])
    assert [r["state"] for r in json.loads(mtl("doctor", "--json").out)["runs"]] == ["damaged"]
    assert checkpoint.read(packed)["iteration"] == 4
