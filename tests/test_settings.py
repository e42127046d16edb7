"""Words of the command line become the settings of a system."""

import json
from types import SimpleNamespace

import pytest

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.runs.config import RunConfig, resolution
from mtlcli.systems import _settings as settings


@pytest.mark.parametrize("system", lookup.names("systems"))
def test_every_setting_survives_the_way_through_the_command_line(system: str) -> None:
    for name, default in settings.defaults(system).items():
        word = "7" if default is None else str(default)
        converted = settings.complete(system, {name: word})[name]
        assert converted == (7 if default is None else default)
        assert type(converted) is settings.kinds(system)[name]


def test_a_setting_that_may_be_none_takes_a_number() -> None:
    assert settings.complete("multi_task", settings.parse(["--hidden", "8"])) == {"hidden": 8}
    with pytest.raises(InputError, match="--hidden wide: needs a int"):
        settings.complete("multi_task", {"hidden": "wide"})


@pytest.mark.parametrize("system", lookup.names("systems"))
def test_every_setting_is_explained_with_its_default(system: str, mtl) -> None:
    answer = mtl("systems", system)
    assert answer.code == 0
    assert "Args:" not in answer.out
    assert "True" not in answer.out
    assert "None" not in answer.out
    text = " ".join(answer.out.split())
    for name in settings.defaults(system):
        meaning = settings.meanings(system)[name]
        assert meaning
        assert f"{settings.flag(name)} " in text
        assert meaning in text
    record = json.loads(mtl("systems", system, "--json").out)[system]
    assert {n: entry["default"] for n, entry in record["settings"].items()} == settings.defaults(
        system
    )


def test_the_meaning_of_a_setting_may_need_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(channels, backbone, *, width: int = 3, depth: int = 4, untold: int = 5):
        """A system.

        More of it.

        Args:
            channels: of the tasks.
            width: of the maps: the first
                of two lines.
            depth: of it.

        Raises:
            InputError: never.
        """

    monkeypatch.setattr(settings.lookup, "load", lambda *_: SimpleNamespace(build=build))
    assert settings.about("any") == "A system.\n\nMore of it."
    assert settings.meanings("any") == {
        "width": "of the maps: the first of two lines.",
        "depth": "of it.",
        "untold": "",
    }


@pytest.mark.parametrize(("optimizer", "lines"), [("adamw", 1), ("sgd", 0)])
def test_a_gradient_scale_that_adamw_makes_meaningless_is_told(home, mtl, optimizer, lines) -> None:
    chosen = ("--dataset", "rooms", "--backbone", "resnet18_half", "--init", "random", "--query",
              "pixel", "--optimizer", optimizer, "--gradient-scale", 50)  # fmt: skip
    answer = mtl("train", *chosen, "--dry-run", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert answer.err.count("--gradient-scale") == lines


def test_the_working_resolution_is_that_of_rows_and_then_of_columns() -> None:
    assert resolution(RunConfig(size=(96, 64)), (48, 128)) == (2, 0.5)


def test_a_training_sample_is_as_large_as_the_crop_or_else_as_the_size() -> None:
    assert RunConfig(size=(96, 64)).window == (96, 64)
    assert RunConfig(size=(96, 64), crop=(32, 40)).window == (32, 40)
