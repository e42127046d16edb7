"""Every command that README and results page show can be typed; every room they name exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from mtlcli.cli import app, spread_sizes
from mtlcli.systems import _settings as settings

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "results" / "README.md")
FENCED = re.compile(r"```sh\n(.*?)```", re.S)
INLINE = re.compile(r"`(mtl [^`]+)`")


def commands(page: Path) -> list[str]:
    """The lines that begin with `mtl`, in blocks and in sentences."""
    text = page.read_text()
    blocks = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
    lines = [part.strip() for line in blocks.splitlines() for part in line.split("&&")]
    inline = FENCED.sub("", text)
    return [x for x in lines if x.startswith("mtl ")] + INLINE.findall(inline)


def shown() -> list[str]:
    return sorted({line for page in PAGES if page.exists() for line in commands(page)})


@pytest.mark.parametrize("line", shown())
def test_a_command_shown_can_be_typed(line: str) -> None:
    words = spread_sizes(shlex.split(line, comments=True)[1:])
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    if words and not hasattr(command, "commands"):  # a bare name only has to exist
        settings.parse(command.make_context("mtl", words).args)


def test_there_are_commands_to_check() -> None:
    assert len(shown()) > 20


def test_the_tree_names_what_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    tree = re.search(r"```\nmtlcli/\n(.*?)```", text, re.S)
    assert tree is not None
    first_words = [line.split("  ")[1].strip() for line in tree[1].splitlines() if line.strip()]
    for names in first_words:
        for name in names.split():
            assert (ROOT / "mtlcli" / name).exists(), name


def test_every_room_is_in_the_tree() -> None:
    text = (ROOT / "README.md").read_text()
    rooms = [p.name for p in (ROOT / "mtlcli").iterdir() if (p / "__init__.py").exists()]
    missing = [room for room in rooms if f"{room}/" not in text]
    assert not missing


@pytest.mark.parametrize(("command", "one"), [((), "train"), (("bench",), "attention")])
def test_what_the_commands_do_is_not_cut_short(command: tuple[str, ...], one: str, mtl) -> None:
    listed = mtl(*command, "--help").out.partition("Commands:")[2]
    assert one in listed
    assert "..." not in listed
