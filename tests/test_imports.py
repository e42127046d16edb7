"""Imports run down only, and the rim that starts fast imports no torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mtlcli

PACKAGE = Path(mtlcli.__file__).parent
MODULES = {
    ".".join(("mtlcli", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in PACKAGE.rglob("*.py")
}
# From the top down: a room may import from rows below its own and, in its row, from its right.
ROWS = [
    ["__main__", "cli"],
    ["commands"],
    ["experiments", "report", "page"],
    ["training", "drawing", "formats", "scoring"],
    ["runs"],
    ["recipes", "systems", "backbones"],
    ["data", "tasks"],
    ["models", "datasets", "maps"],
    ["ops", "boundary"],
    ["home", "lookup", "files", "errors", "__init__"],
]
PLACES = {room: (row, i) for row, rooms in enumerate(ROWS) for i, room in enumerate(rooms)}
FRONT_DOOR = ("drawing", "training", "scoring")  # opened lazily: mtlcli.load, train, evaluate


def imported(path: Path) -> set[str]:
    """Rooms of mtlcli that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "mtlcli" and len(parts) > 1:
                found.add(parts[1] if f"mtlcli.{parts[1]}" in ROOMS else "__init__")
    return found


ROOMS = {f"mtlcli.{name.split('.')[1]}" for name in MODULES if "." in name}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_down_only(module: str) -> None:
    room = module.split(".")[1]
    assert room in PLACES, f"mtlcli.{room} has no row: is it a room of its own?"
    for other in imported(MODULES[module]):
        above = PLACES[other] < PLACES[room]
        is_door = room == "__init__" and other in FRONT_DOOR
        assert not above or is_door, f"{module} imports mtlcli.{other}"


@pytest.mark.parametrize("folder", ["models", "systems"])
def test_networks_name_no_task_and_no_dataset(folder: str) -> None:
    names = {p.stem for f in ("tasks", "datasets") for p in (PACKAGE / f).glob("[!_]*.py")}
    for path in (PACKAGE / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{path.name} names '{node.value}'"


@pytest.mark.parametrize(
    "start",
    [
        "import mtlcli.data.prepare",
        "import mtlcli.boundary",
        "import mtlcli.data.reader, mtlcli.data.hdf5",
        "import mtlcli.runs.run, mtlcli.runs.comparison, mtlcli.runs.health",
        "from mtlcli.commands import _completion as c; c.runs(), c.recipes(), c.systems()",
        "import mtlcli.datasets.nyud, mtlcli.datasets.rooms",
        "import mtlcli; assert 'numpy' not in __import__('sys').modules",
        "from mtlcli.cli import app; app(['--help'], standalone_mode=False)",
        "from mtlcli.cli import app; app(['train', '--help'], standalone_mode=False)",
    ],
)
def test_the_rim_imports_no_torch(start: str) -> None:
    code = f"{start}\nimport sys; assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, env=os.environ, timeout=60
    )
