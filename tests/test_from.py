"""A run that begins with another's weights: what fits is taken, the rest is as without."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlcli.errors import InputError
from mtlcli.recipes._recipe import recipe
from mtlcli.runs import checkpoint
from mtlcli.runs.comparison import Comparison
from mtlcli.runs.config import RunConfig
from mtlcli.runs.options import gather
from mtlcli.runs.record import find_departures
from mtlcli.training import beginning
from mtlcli.training.beginning import begin
from mtlcli.training.loop import complete

ONE = ("--iterations", 1, "--batch-size", 2, "--workers", 0, "--device", "cpu", "--quiet")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run)["network"]


def begun(config: RunConfig):
    reader, config = complete(config, torch.device("cpu"))
    reader.close()
    return begin(config, reader.info, quiet=True)


OTHERS = {
    "other tasks": {"tasks": ("depth", "edge", "normals")},
    "other system": {"system": "demt", "settings": {"width": 16, "heads": 2}},
    "other settings": {"settings": {"hidden": 24}},
    "the same": {},
}


@pytest.mark.parametrize(
    ("case", "packed"), [*((case, False) for case in OTHERS), ("other tasks", True)]
)
def test_all_that_fits_by_name_and_shape_is_taken_and_nothing_else_changes(
    base: Path, mtl, case: str, packed: bool
) -> None:
    if packed:
        assert mtl("pack", base, "--out", "weights/packed").code == 0
    theirs = weights(Path("packed" if packed else "base"))
    common = {"dataset": "rooms", "backbone": "resnet18_half", "tasks": ("depth", "semseg"),
              "system": "multi_task"} | OTHERS[case]  # fmt: skip
    plain = begun(RunConfig(init="random", **common)).network.state_dict()
    found = begun(RunConfig(init="from", from_run="packed" if packed else "base", **common))
    own = found.network.state_dict()
    assert own.keys() == plain.keys()
    fits = {n for n in own if n in theirs and tuple(theirs[n].shape) == tuple(own[n].shape)}
    for name, tensor in own.items():
        assert torch.equal(tensor, theirs[name].float() if name in fits else plain[name].float())
    assert found.taken is not None
    assert found.taken.taken == len(fits)
    assert set(found.taken.fresh) == own.keys() - fits
    assert set(found.taken.unused) == theirs.keys() - fits
    assert bool(found.taken.fresh) == (case != "the same")


def test_it_goes_on_with_the_runs_network_and_tells_what_was_taken(base: Path, mtl) -> None:
    answer = mtl(
        "train", "--from", "base", "--task", "depth", "--task", "edge", *ONE, "--out", "on"
    )
    assert answer.code == 0, answer.err
    assert answer.err.count("\n") == 2
    record = json.loads(Path("on/run.json").read_text())
    assert record["config"]["from_run"] == "base"
    for name in ("dataset", "system", "backbone", "settings", "size"):
        assert record["config"][name] == json.loads((base / "run.json").read_text())["config"][name]
    taken = record["taken"]
    assert f"{taken['taken']} of {taken['taken'] + len(taken['fresh'])} tensors" in answer.err
    assert taken["fresh"][0] in answer.err
    assert all(name.startswith("heads.edge") for name in taken["fresh"])
    assert taken["unused"][0] in answer.err
    assert taken["iteration"] == 4
    table = mtl("eval", "on", "--device", "cpu", "--quiet")
    assert "the weights of base" in table.out


def test_what_the_run_brings_along_gives_way_to_what_is_typed(base: Path, save_network) -> None:
    config, _ = gather({"from_run": "base", "settings": {}})
    assert (config.dataset, config.tasks, config.size) == ("rooms", ("depth", "semseg"), (48, 64))
    assert (config.system, config.backbone) == ("multi_task", "resnet18_half")
    assert (config.init, config.iterations, config.lr) == ("from", 40_000, 1e-3)
    typed = {"dataset": "nyud", "settings": {"hidden": 8}}
    config, _ = gather({"from_run": "base"} | typed)
    assert (config.dataset, config.tasks, config.size) == ("nyud", (), None)
    assert config.settings == {"hidden": 8}
    config, _ = gather({"from_run": "base", "system": "demt", "settings": {}, "backbone": "swin_t"})
    assert (config.system, config.settings, config.init) == ("demt", {}, None)
    config, _ = gather({"from_run": "base", "recipe": "nyud/hrnet18/demt", "settings": {}})
    assert (config.system, config.backbone, config.init) == ("demt", "hrnet18", "imagenet")


def test_a_recipe_is_not_changed_by_the_run_it_begins_with(home: Path, save_network) -> None:
    path = save_network(home / "weights" / "mine" / "last.pt", backbone="hrnet18")
    content = checkpoint.read(path)
    content["config"] |= {"dataset": "nyud", "tasks": ["depth"], "size": [64, 96]}
    checkpoint.save(path, **{k: v for k, v in content.items() if k != "format"})
    its = recipe("nyud/hrnet18/multi_task")
    config, _ = gather({"from_run": "mine", "recipe": its.name, "settings": {}})
    departures = find_departures(config, its)
    assert set(departures) == {"from_run", "init"}
    assert gather({"from_run": "mine", "settings": {}})[0].tasks == ("depth",)


def test_the_same_backbone_by_another_name_is_taken_whole_with_its_moments(base: Path) -> None:
    path = base / "last.pt"
    content = checkpoint.read(path)
    moments = {"mean": [0.1, 0.2, 0.3], "deviation": [0.4, 0.5, 0.6]}
    content["config"] |= {"backbone": "of_another_version", **moments}
    checkpoint.save(path, **{k: v for k, v in content.items() if k != "format"})
    config, _ = gather({"from_run": "base", "backbone": "resnet18_half", "settings": {}})
    reader, whole = complete(config, torch.device("cpu"))
    reader.close()
    assert (whole.init, whole.mean, whole.deviation) == ("from", *map(tuple, moments.values()))
    assert begin(whole, reader.info, quiet=True).taken.fresh == ()
    with pytest.raises(InputError, match="--init random"):
        begun(replace(config, init="random"))


def test_published_weights_are_not_fetched_where_the_whole_backbone_is_taken(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = beginning.start
    monkeypatch.setattr(
        beginning, "start", lambda name, init, **k: asked.append(init) or real(name, init, **k)
    )
    begun(gather({"from_run": "base", "settings": {}})[0])
    assert set(asked) == {"random"}


def test_the_licence_of_the_backbone_goes_along(base: Path) -> None:
    record = json.loads((base / "run.json").read_text())
    record["init"] |= {"init": "imagenet", "licence": "MIT"}
    (base / "run.json").write_text(json.dumps(record))
    assert begun(gather({"from_run": "base", "settings": {}})[0]).init["licence"] == "MIT"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--from", "base", "--system", "single_task"), "nothing of it fits single_task"),
        (("--from", "base", "--init", "random"), "--init random"),
        (("--from", "base", "--init", "imagenet"), "--init imagenet"),
        (("--from", "bsae"), "Did you mean base?"),
        (("--from", "datasets/rooms.h5"), "rooms.h5"),
        (("--resume", "base", "--from", "base"), "leave --from away"),
        (("--init", "from"), "--from"),
        (("--from", "hf:nobody"), "hf:USER/REPO"),
        (("--from", "hf:a/b@../../c"), "hf:USER/REPO"),
    ],
)
def test_what_cannot_begin_is_one_line(base: Path, mtl, options: tuple, named: str) -> None:
    rooms = ("--dataset", "rooms", "--backbone", "resnet18_half")
    answer = mtl("train", *options, *(() if "--resume" in options else (*rooms, *ONE)))
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert named in answer.err
    assert sorted(p.name for p in (base.parent).iterdir()) == ["base"]


def test_killed_before_its_first_checkpoint_it_begins_with_the_same_weights(
    base: Path, mtl
) -> None:
    assert mtl("train", "--from", "base", "--task", "depth", *ONE, "--out", "a").code == 0
    shutil.copytree("a", "b")
    Path("b/last.pt").unlink()
    resumed = mtl("train", "--resume", "b", "--workers", 0, "--quiet")
    assert resumed.code == 0, resumed.err
    whole, again = weights(Path("a")), weights(Path("b"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    Path("b/last.pt").unlink()
    content = checkpoint.read(base)
    next(iter(content["network"].values()))[0] += 1
    checkpoint.save(base / "last.pt", **{k: v for k, v in content.items() if k != "format"})
    changed = mtl("train", "--resume", "b", "--workers", 0, "--quiet")
    assert (changed.code, changed.err.count("\n")) == (2, 1)
    assert "has changed since" in changed.err


def test_it_is_a_departure_from_a_recipe(base: Path) -> None:
    its = recipe("nyud/hrnet18/demt")
    plain = RunConfig(**its.options())
    assert "from_run" not in find_departures(plain, its)
    found = find_departures(replace(plain, from_run="base"), its)
    assert found["from_run"] == ("base", "")
    note = Comparison(recipe=its, departures=found, reference=None, gain=None, tasks=()).notes()[-1]
    assert note.endswith("from base (recipe: none).")


def test_counters_alone_are_nothing_in_common(home: Path, save_network) -> None:
    path = save_network(home / "weights" / "counts" / "last.pt")
    content = checkpoint.read(path)
    content["network"] = {k: v for k, v in content["network"].items() if "num_batches" in k}
    checkpoint.save(path, **{k: v for k, v in content.items() if k != "format"})
    config = RunConfig(dataset="rooms", system="multi_task", backbone="resnet18_half",
                       init="random", from_run="counts")  # fmt: skip
    with pytest.raises(InputError, match="nothing of it fits"):
        begun(config)
