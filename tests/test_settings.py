"""Words of the command line become the settings of a system."""

import pytest

from mtlcli import lookup, settings
from mtlcli.errors import InputError


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
