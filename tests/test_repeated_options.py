"""--like RUN and --config FILE.json: options that are repeated, and what goes before what."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from mtlcli.errors import InputError
from mtlcli.recipes._recipe import recipe
from mtlcli.runs.config import AUTO, RunConfig
from mtlcli.runs.options import gather

NONE = {"settings": {}}


def write(content: object) -> Path:
    path = Path("options.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_like_and_its_run_json_repeat_every_option(base: Path) -> None:
    own = RunConfig.from_json(json.loads((base / "run.json").read_text())["config"])
    for repeated in (
        gather(NONE, like=Path("base"))[0],
        gather(NONE, like=base / "last.pt")[0],
        gather(NONE, file=base / "run.json")[0],
        gather(NONE, file=write(own.to_json()))[0],
    ):
        for field in fields(RunConfig):
            assert getattr(repeated, field.name) == getattr(own, field.name), field.name


def test_typed_options_go_before_and_settings_one_by_one(base: Path) -> None:
    said = {"system": "demt_itsa", "steps": 1, "settings": {"width": 16}, "lr": 1, "task": ["edge"]}
    config, _ = gather({"lr": 0.5, "settings": {"width": "32"}}, file=write(said))
    assert (config.lr, config.tasks) == (0.5, ("edge",))
    assert config.settings == {"steps": 1, "width": "32"}
    config, _ = gather({"system": "demt", "settings": {}}, file=write(said))
    assert config.settings == {}
    config, _ = gather({"seed": 7, "settings": {}}, like=Path("base"))
    assert (config.seed, config.iterations) == (7, 4)


def test_a_file_may_name_a_recipe_and_a_run_to_begin_with(base: Path) -> None:
    its = recipe("nyud/hrnet18/demt")
    config, _ = gather(NONE, file=write({"recipe": its.name, "lr": 0.5}))
    assert (config.system, config.lr, config.iterations) == ("demt", 0.5, its.iterations)
    config, _ = gather(NONE, file=write({"from": "base"}))
    assert (config.from_run, config.system, config.init) == ("base", "multi_task", "from")
    config, _ = gather(NONE, file=write(config.to_json()))
    assert (config.from_run, config.init) == ("base", "from")


def test_how_a_run_is_carried_out_may_stand_there_too(home: Path) -> None:
    _, conduct = gather(NONE, file=write({"checkpoint-every": 5, "workers": 0, "device": "cpu"}))
    assert conduct == {"checkpoint_every": 5, "workers": 0, "device": "cpu"}


def test_a_file_may_leave_the_batch_to_the_memory(home: Path) -> None:
    config, _ = gather(NONE, file=write({"batch_size": "auto"}))
    assert config.batch_size == AUTO


def test_integers_for_fractions_are_what_the_command_line_makes_of_them(base: Path, mtl) -> None:
    said = {"lr": 1, "clip": 10, "ema": None, "mean": [0, 0, 1], "size": [64, 96]}
    config, _ = gather(NONE, like=None, file=write(said))
    assert [repr(getattr(config, name)) for name in said] == [
        "1.0", "10.0", "None", "(0.0, 0.0, 1.0)", "(64, 96)"
    ]  # fmt: skip
    answer = mtl("train", "--like", "base", "--config", "options.json")
    assert answer.code == 2
    record = json.loads((base / "run.json").read_text())
    record["config"] |= {"clip": 10}  # as an older version may have written it
    (base / "run.json").write_text(json.dumps(record))
    for typed, code in (("10", 0), ("9", 2)):
        answer = mtl("train", "--resume", "base", "--clip", typed, "--workers", 0, "--quiet")
        assert answer.code == code, answer.err


@pytest.mark.parametrize("how", ["like", "file"])
def test_what_a_backbone_brought_does_not_go_to_another(base: Path, how: str) -> None:
    record = json.loads((base / "run.json").read_text())
    half = [0.5, 0.5, 0.5]
    others = {"backbone": "timm:tf_efficientnet_lite0", "init": "pretrained", "mean": half}
    record["config"] |= others | {"deviation": half}
    (base / "run.json").write_text(json.dumps(record))
    given = {"like": base} if how == "like" else {"file": base / "run.json"}
    kept, _ = gather({"backbone": others["backbone"], "settings": {}}, **given)
    assert (kept.init, kept.mean, kept.deviation) == ("pretrained", (0.5,) * 3, (0.5,) * 3)
    moved, _ = gather({"backbone": "resnet18_half", "settings": {}}, **given)
    assert (moved.init, moved.mean, moved.deviation) == (None, None, None)
    record["config"] |= {"init": "random", "mean": [0.4, 0.5, 0.6], "backbone": "hrnet18"}
    (base / "run.json").write_text(json.dumps(record))
    chosen, _ = gather({"backbone": "resnet18_half", "settings": {}}, **given)
    assert (chosen.init, chosen.mean) == ("random", (0.4, 0.5, 0.6))


BAD = {
    "unknown": ({"itertions": 5}, "Did you mean 'iterations'?"),
    "unknown, a setting's": ({"stepz": 5}, "Did you mean 'steps'?"),
    "text for a number": ({"lr": "fast"}, "'lr' is \"fast\""),
    "fraction for an integer": ({"iterations": 1.5}, "an integer"),
    "truth for a number": ({"iterations": True}, "an integer"),
    "a truth for a batch": ({"batch_size": True}, "or auto"),
    "a fraction for a batch": ({"batch_size": 8.5}, "or auto"),
    "a number that stands for auto": ({"batch_size": AUTO}, "must be positive"),
    "a seed beyond torch's": ({"seed": 2**64}, "--seed"),
    "beyond all fractions": ({"lr": 10**400}, "a number"),
    "one side": ({"size": [64]}, "two integers"),
    "two colours": ({"mean": [0.5, 0.5]}, "three numbers"),
    "texts": ({"tasks": "depth"}, "a list of texts"),
    "no such choice": ({"optimizer": "adam"}, "sgd, adamw"),
    "no object of settings": ({"settings": [1]}, "an object"),
    "a path": ({"dataset": "../x"}, "--dataset"),
    "a path for a task": ({"tasks": ["/etc"]}, "--task"),
    "a list": ([1], "an object"),
    "no JSON": ("{", "no JSON"),
    "deep": ("[" * 100_000, "JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_file_says_wrong_is_one_line(home: Path, mtl, case: str) -> None:
    content, named = BAD[case]
    answer = mtl("train", "--config", write(content))
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert named in answer.err


@pytest.mark.parametrize(
    "options",
    [
        ("--like", "base", "--recipe", "nyud/hrnet18/demt"),
        ("--like", "base", "--config", "options.json"),
        ("--config", "options.json", "--recipe", "nyud/hrnet18/demt"),
        ("--resume", "base", "--like", "base"),
        ("--resume", "base", "--config", "options.json"),
        ("--config", "nowhere.json"),
        ("--config", "datasets"),
        ("--like", "bsae"),
    ],
)
def test_contradictions_and_what_is_not_there_are_one_line(base: Path, mtl, options) -> None:
    write({})
    answer = mtl("train", *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert options[0] in answer.err


def test_a_run_that_began_with_one_that_is_gone_can_be_begun_with(home: Path, mtl) -> None:
    refused = mtl("train", "--like", "nyud_small")  # it ships; what it began with does not
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--from nyud_small" in refused.err
    config, _ = gather({"from_run": "nyud_small", "settings": {}}, like=Path("nyud_small"))
    assert config.zoom == (0.7, 1.4)


def test_settings_of_another_type_are_refused(base: Path, mtl) -> None:
    for wrong in ({"width": 1.5}, {"width": [1]}, {"query": 3}, {"width": None}):
        answer = mtl("train", "--config", write({"dataset": "rooms", "settings": wrong}))
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert next(iter(wrong)) in answer.err
    for wrong in ("NaN", "Infinity"):
        said = f'{{"dataset": "rooms", "backbone": "resnet18_half", "gradient_scale": {wrong}}}'
        for more in ((), ("--dry-run", "--device", "cpu")):
            answer = mtl("train", "--config", write(said), *more)
            assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
            assert "--gradient-scale" in answer.err
    with pytest.raises(InputError):
        gather({"from_run": "nowhere", "settings": {}})
