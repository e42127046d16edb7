"""Published weights: the first source that gives the right file, and a reason for each other."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from mtlcli import lookup
from mtlcli.backbones import _pretrained as pretrained
from mtlcli.backbones import hrnet18
from mtlcli.backbones._weights import HubFile, UrlFile
from mtlcli.data import hub as data_hub
from mtlcli.errors import InputError, RunError
from tests.fake_hub import COMMIT, serving

FIRST = HubFile(repo="ours/first", path="model.safetensors", licence="MIT")
SECOND = HubFile(
    repo="ours/second", path="model.safetensors", revision="refs/pr/1", licence="Apache-2.0"
)
AT_FIRST, AT_SECOND = "ours/first@main/model.safetensors", "ours/second@refs/pr/1/model.safetensors"
TRAIN = ("train", "--dataset", "rooms", "--system", "multi_task", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--iterations", 1, "--task", "depth", "--quiet")  # fmt: skip


@pytest.fixture(scope="module")
def weights():
    """HRNet18 with random numbers, and another; as safetensors."""
    torch.manual_seed(1)
    return [save(hrnet18.build().state_dict()) for _ in range(2)]


@pytest.fixture
def hub(home, monkeypatch):
    """A hub that the library asks instead of the real one, with an empty cache."""
    with serving() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(data_hub, "PAUSES", (0.0, 0.0))
        monkeypatch.setitem(hrnet18.WEIGHTS, "imagenet", (FIRST, SECOND))
        yield server


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def start():
    return pretrained.start("hrnet18", "imagenet", quiet=True)[1]


def whole_files(home):
    """Content of what stands in the hub's cache and in weights/ as a whole file."""
    blobs = (home / "cache").glob("*/blobs/*")
    files = [p for p in (*blobs, *(home / "weights").glob("*")) if p.is_file()]
    return [p.read_bytes() for p in files if p.suffix != ".incomplete"]


def test_the_first_source_gives_the_weights_and_is_recorded(home, hub, mtl, weights):
    hub.files = {AT_FIRST: weights[0], AT_SECOND: weights[1]}
    answer = mtl(*TRAIN)
    assert answer.code == 0, answer.err
    assert answer.err == ""
    record = json.loads((home / "weights" / "rooms_hrnet18_multi_task" / "run.json").read_text())
    said = {key: record["init"][key] for key in ("source", "revision", "sha256", "licence", "file")}
    assert said == {"source": "ours/first", "revision": COMMIT, "sha256": sha256(weights[0]),
                    "licence": "MIT", "file": "first.safetensors"}  # fmt: skip
    assert "licence" not in answer.out.lower()


def refuse(status, code):
    return lambda hub, content: hub.refusals.update({"ours/first": (status, code)})


def send(cut):
    return lambda hub, content: hub.sends.update({AT_FIRST: cut(content)})


FAULTS = {
    "gated": (refuse(403, "GatedRepo"), "HF_TOKEN"),
    "forbidden": (refuse(403, ""), "HTTP 403"),
    "private or missing": (refuse(401, "RepoNotFound"), "no such repository"),
    "missing": (refuse(404, "RepoNotFound"), "no such repository"),
    "no such revision": (refuse(404, "RevisionNotFound"), "no such revision"),
    "no such file": (lambda hub, content: hub.files.pop(AT_FIRST), "no such file"),
    "broken down": (refuse(500, ""), "HTTP 500"),
    "half a file": (send(lambda content: content[: len(content) // 2]), "size"),
    "wrong checksum": (send(lambda content: content[:-1] + b"!"), "sha256"),
    "another network": (
        lambda hub, content: hub.files.update({AT_FIRST: save({"a": torch.zeros(1)})}), "layout"),
    "no tensors": (lambda hub, content: hub.files.update({AT_FIRST: b"?" * 99}), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_fails_is_passed_over_and_named_if_all_do(home, hub, weights, fault):
    spoil, reason = FAULTS[fault]
    hub.files = {AT_FIRST: weights[0]}
    spoil(hub, weights[0])
    with pytest.raises(RunError) as error:
        start()
    _, first, second, remedy = str(error.value).splitlines()
    assert "ours/first" in first
    assert reason in first
    assert "ours/second" in second
    assert "no such file" in second
    assert all(name in remedy for name in ("first.safetensors", "second.safetensors", "random"))
    assert str(home / "weights") in remedy
    partial = [c for c in whole_files(home) if c != hub.files.get(AT_FIRST)]
    assert partial == []
    hub.files[AT_SECOND] = weights[1]
    begun = start()
    assert (begun.source, begun.sha256) == ("ours/second", sha256(weights[1]))
    assert begun.licence == "Apache-2.0"


def test_an_endpoint_that_answers_with_a_page_is_no_hub(home, hub, weights):
    hub.page = b"<!doctype html><p>Sign in to this network</p>"
    with pytest.raises(RunError) as error:
        start()
    assert str(error.value).count("no Hugging Face hub") == 2
    assert whole_files(home) == []


def test_a_busy_hub_is_asked_again(hub, weights, monkeypatch):
    hub.files, hub.refusals = {AT_FIRST: weights[0]}, {"ours/first": (503, "")}
    monkeypatch.setattr(data_hub.time, "sleep", lambda pause: hub.refusals.clear())
    assert start().source == "ours/first"


def test_offline_the_cache_is_used_and_its_lack_is_told(home, hub, mtl, monkeypatch, weights):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    answer = mtl(*TRAIN)
    assert answer.code == 1
    assert answer.err.count("HF_HUB_OFFLINE") == 2
    assert len(answer.err.splitlines()) == 4
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.files = {AT_FIRST: weights[0]}
    online = start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert start() == online
    hub.refusals = {"ours/first": (500, "")}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert start() == online


def test_a_cached_file_that_has_rotted_is_not_used(home, hub, weights):
    hub.files = {AT_FIRST: weights[0]}
    start()
    (blob,) = [p for p in (home / "cache").rglob("blobs/*") if p.is_file()]
    blob.write_bytes(weights[0][:-1] + b"!")
    with pytest.raises(RunError, match=r"ours/first.*sha256"):
        start()
    assert whole_files(home) == []
    assert start().sha256 == sha256(weights[0])


@pytest.mark.parametrize("source", [FIRST, SECOND])
def test_a_file_put_into_weights_by_hand_goes_before_all_sources(home, hub, weights, source):
    hub.files = {AT_FIRST: weights[0], AT_SECOND: weights[0]}
    (home / "weights").mkdir()
    (home / "weights" / source.file).write_bytes(weights[1])
    begun = start()
    assert (begun.sha256, begun.licence) == (sha256(weights[1]), source.licence)
    assert begun.source == str(home / "weights" / source.file)
    assert hub.asked == []
    (home / "weights" / source.file).write_bytes(weights[1][:5000])
    with pytest.raises(InputError, match=source.file):
        start()


def test_an_address_is_tried_after_the_hub(home, hub, monkeypatch, weights):
    address = f"{hub.address}/ours/plain/resolve/main/hrnet.safetensors"
    hub.files = {"ours/plain@main/hrnet.safetensors": weights[0]}
    plain = UrlFile(url=address, sha256=sha256(weights[0])[:8], licence="MIT")
    monkeypatch.setitem(hrnet18.WEIGHTS, "imagenet", (FIRST, plain))
    begun = start()
    assert (begun.source, begun.url, begun.revision) == (address, address, None)
    assert (home / "weights" / "hrnet.safetensors").read_bytes() == weights[0]


def test_the_hubs_own_variables_decide(home, hub, weights):
    """In a process of its own: the library reads them when it is imported."""
    hub.files = {"timm/hrnet_w18_small_v2.ms_in1k@main/model.safetensors": weights[0]}
    code = (
        "from mtlcli.backbones import _pretrained as p; "
        "print(p.start('hrnet18', 'imagenet')[1].source)"
    )
    variables = os.environ | {"HF_HOME": str(home / "hf"), "HF_ENDPOINT": hub.address,
                              "HF_TOKEN": "hf_secret", "MTL_HOME": str(home)}  # fmt: skip
    variables.pop("HF_HUB_CACHE", None)
    for more in ({}, {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        ended = subprocess.run(
            [sys.executable, "-c", code], env=variables | more, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert ended.stdout == "timm/hrnet_w18_small_v2.ms_in1k\n", ended.stderr
    tokens = {token for _, path, token in hub.asked if "/resolve/" in path}
    assert tokens == {"Bearer hf_secret"}
    assert (home / "hf" / "hub" / "models--timm--hrnet_w18_small_v2.ms_in1k").is_dir()


def test_doctor_knows_weights_of_the_hub(home, hub, mtl, weights):
    hub.files = {AT_FIRST: weights[0]}
    start()
    (home / "weights").mkdir()
    (home / "weights" / SECOND.file).write_bytes(weights[1])
    said = mtl("doctor").out
    assert "cached from hub ours/first" in said
    assert f"{SECOND.file}: whole" in said


def every_source():
    for backbone in lookup.names("backbones"):
        for init, sources in lookup.load("backbones", backbone).BACKBONE.weights.items():
            yield from ((backbone, init, source) for source in sources)


def test_no_two_sources_share_a_place_in_weights():
    files = [source.file for _, _, source in every_source()]
    assert len(set(files)) == len(files)
    assert not {Path(file).stem for file in files} & {"model", "pytorch_model"}


def test_published_weights_have_the_sources_of_their_publishers():
    repos = {
        (backbone, init): source.repo
        for backbone, init, source in every_source() if isinstance(source, HubFile)
    }  # fmt: skip
    timm = "timm/swin_{}_patch4_window7_224"
    assert repos == {
        ("hrnet18", "imagenet"): "timm/hrnet_w18_small_v2.ms_in1k",
        ("swin_s", "ade20k"): "openmmlab/upernet-swin-small",
        ("swin_s", "imagenet"): timm.format("small") + ".ms_in1k",
        ("swin_s", "imagenet22k"): timm.format("small") + ".ms_in22k",
        ("swin_t", "ade20k"): "openmmlab/upernet-swin-tiny",
        ("swin_t", "imagenet"): timm.format("tiny") + ".ms_in1k",
        ("swin_t", "imagenet22k"): timm.format("tiny") + ".ms_in22k",
    }
