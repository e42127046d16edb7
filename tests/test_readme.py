"""Every command on the pages can be typed, every program on them is run by a test, every room and
every file they name exists.
"""

import re
import shlex
from pathlib import Path

import pytest
import typer

from mtlcli.cli import app, spread_sizes
from mtlcli.systems import _settings as settings
from tests.pages import PAGES, ROOT, blocks

HOUSE = ROOT / "docs" / "house.md"
FENCED = re.compile(r"```\w*\n.*?```", re.S)
INLINE = re.compile(r"`(mtl [^`]+)`")
WRITTEN_BY_A_SCRIPT = re.compile(r"<!-- \w+ -->.*?<!-- / -->", re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def shown() -> list[str]:
    """The lines that begin with `mtl`, in blocks and in sentences."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    typed = [part.strip() for line in lines for part in line.split("&&")]
    sentences = [FENCED.sub("", page.read_text()) for page in PAGES]
    inline = [line for text in sentences for line in INLINE.findall(text)]
    return sorted({x for x in typed if x.startswith("mtl ")} | set(inline))


@pytest.mark.parametrize("line", shown())
def test_a_command_shown_can_be_typed(line: str) -> None:
    words = spread_sizes(shlex.split(line, comments=True)[1:])
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    if words and not hasattr(command, "commands"):  # a bare name only has to exist
        settings.parse(command.make_context("mtl", words).args)


def test_there_are_commands_to_check() -> None:
    assert len(shown()) > 50


def test_every_program_shown_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    marks = re.findall(r"\bexample\(\"([^\"]+)\"", tests)
    for language in ("python", "yaml"):
        for block in blocks(language):
            assert any(mark in block for mark in marks), f"no test runs this:\n{block}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_exists(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, place = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        heads = re.findall(r"^#+ (.+)$", file.read_text(), re.M) if place else []
        assert not place or place in [
            re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads
        ], target


def test_every_page_is_reached_from_the_readme_which_stays_short() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 200
    for page in (ROOT / "docs").iterdir():
        assert f"](docs/{page.name})" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_text_fit_a_screen(page: Path) -> None:
    own = WRITTEN_BY_A_SCRIPT.sub("", page.read_text())
    for line in own.splitlines():
        assert len(line) <= 180 or line.startswith("|"), line


def test_the_tree_names_what_is_there() -> None:
    tree = re.search(r"```\nmtlcli/\n(.*?)```", HOUSE.read_text(), re.S)
    assert tree is not None
    first_words = [line.split("  ")[1].strip() for line in tree[1].splitlines() if line.strip()]
    for names in first_words:
        for name in names.split():
            assert (ROOT / "mtlcli" / name).exists(), name


def test_every_room_is_in_the_tree() -> None:
    text = HOUSE.read_text()
    rooms = [p.name for p in (ROOT / "mtlcli").iterdir() if (p / "__init__.py").exists()]
    missing = [room for room in rooms if f"{room}/" not in text]
    assert not missing


@pytest.mark.parametrize(("command", "one"), [((), "train"), (("bench",), "attention")])
def test_what_the_commands_do_is_not_cut_short(command: tuple[str, ...], one: str, mtl) -> None:
    listed = mtl(*command, "--help").out.partition("Commands:")[2]
    assert one in listed
    assert "..." not in listed
