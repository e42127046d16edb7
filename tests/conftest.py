"""What the tests share: a home folder with a small rooms dataset, and the command line in-process."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOMS_SIZE = (48, 64)


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def rooms_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared rooms.h5 of 8 training and 3 validation pictures of 48x64."""
    from mtlcli.prepare import prepare

    path = tmp_path_factory.mktemp("rooms") / "rooms.h5"
    return prepare("rooms", size=ROOMS_SIZE, train=8, val=3, out=path, workers=1, quiet=True)


@pytest.fixture
def home(tmp_path: Path, rooms_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, $MTL_HOME, in which rooms is prepared."""
    (tmp_path / "datasets").mkdir()
    os.link(rooms_file, tmp_path / "datasets" / "rooms.h5")
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mtl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run a command line as `mtl(...)` would, in this process."""
    from mtlcli import cli

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["mtl", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else int(bool(code)), *printed)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real NYUD and PASCAL samples that $MTL_REAL_DATA names."""
    folder = os.environ.get("MTL_REAL_DATA")
    if not folder:
        pytest.skip("MTL_REAL_DATA is not set")
    return Path(folder).resolve()
