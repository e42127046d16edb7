"""`mtl prepare` replaces what it made, and nothing else: neither a file nor a work folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mtlcli.data import convert, workplace
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, RunError

SMALL: dict[str, Any] = {"size": (24, 32), "train": 2, "val": 1, "workers": 1, "quiet": True}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTL_HOME", str(tmp_path / "home"))
    return tmp_path / "here" / "my.h5"


@pytest.fixture
def whole(out: Path) -> bytes:
    """What a dataset file holds; there is none at `out`."""
    data = prepare("rooms", out=out, **SMALL).read_bytes()
    out.unlink()
    return data


def write_text(path: Path) -> None:
    path.write_text("my thesis")


def write_nothing(path: Path) -> None:
    path.touch()


def write_theirs(path: Path) -> None:
    """A file of another program; it even has two attributes in common with ours."""
    with h5py.File(path, "w") as file:
        file["measured"] = np.arange(9)
        file.attrs["complete"], file.attrs["schema"] = True, 1


def write_their_cut(path: Path) -> None:
    write_theirs(path)
    path.write_bytes(path.read_bytes()[:1000])


OTHERS = [write_text, write_nothing, write_theirs, write_their_cut]


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("write", OTHERS)
def test_a_file_of_the_user_needs_force(
    out: Path, write: Callable[[Path], None], linked: bool
) -> None:
    out.parent.mkdir()
    file = out.with_name("theirs") if linked else out
    write(file)
    if linked:
        out.symlink_to("theirs")
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"is no dataset file of mtl; --force replaces it"):
        prepare("rooms", out=out, **SMALL)
    assert file.read_bytes() == before
    assert not list(out.parent.glob("*.work"))
    prepare("rooms", out=out, force=True, **SMALL)
    assert len(Reader(file, "train")) == 2
    assert out.is_symlink() is linked


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def incomplete(data: bytes) -> bytes:
    """What a version that wrote in place would have left."""
    path = Path("incomplete.h5")
    path.write_bytes(data)
    with h5py.File(path, "r+") as file:
        file.attrs.modify("complete", np.False_)
    return path.read_bytes()


def damaged(data: bytes) -> bytes:
    """A bit of the record flipped."""
    at = data.index(b'"rendered"')
    return data[:at] + b"!" + data[at + 1 :]


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("change", [cut, incomplete, damaged])
def test_an_unusable_file_of_ours_is_made_again(
    out: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes], linked: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    file = out.with_name("elsewhere.h5") if linked else out
    file.write_bytes(change(whole))
    if linked:
        out.symlink_to(file)
    prepare("rooms", out=out, **SMALL)
    assert file.read_bytes() == whole
    assert out.is_symlink() is linked


def test_a_link_to_a_dataset_counts_as_the_dataset(
    out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = out.with_name("elsewhere.h5")
    file.write_bytes(whole)
    out.symlink_to(file)
    with pytest.raises(InputError, match="was made with"):
        prepare("rooms", out=out, **SMALL | {"train": 1})
    monkeypatch.setattr(convert, "in_order", None)  # nothing may be converted from here on
    prepare("rooms", out=out, **SMALL)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkdir, "is a folder"),
        (os.mkfifo, "is no regular file"),
        (lambda path: path.symlink_to(path.parent), "is a folder"),
        (lambda path: path.symlink_to(path), "leads in a circle"),
    ],
)
def test_what_is_no_file_is_never_replaced(
    out: Path, make: Callable[[Path], None], said: str, force: bool
) -> None:
    out.parent.mkdir()
    make(out)
    with pytest.raises(InputError, match=said):
        prepare("rooms", out=out, force=force, **SMALL)
    assert os.path.lexists(out)
    assert not out.is_file()


@pytest.mark.parametrize("name", ["", "..", "/"])
def test_a_name_that_is_none_is_told(out: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no name of a file"):
        prepare("rooms", out=Path(name), **SMALL)


def test_a_name_that_is_too_long_is_told(out: Path) -> None:
    with pytest.raises(RunError, match="too long"):
        prepare("rooms", out=out.with_name("x" * 5000), **SMALL)


def test_the_record_stands_where_it_is_looked_for(whole: bytes) -> None:
    at = max(whole.index(name + b"\0") for name in workplace.RECORD)
    assert at * 20 < workplace.HEAD  # so that even long lists of classes leave it there


FOLDERS: dict[str, dict[str, bytes]] = {
    "notes": {"notes.txt": b"mine"},
    "like ours, without the mark": {"done": b"", "dataset.h5": b"mine", "info.json": b"{}"},
    "a lock with something in it": {"lock": b"mine", "done": b""},
    "an old lock and a note": {"lock": b"", "notes.txt": b"mine"},
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("held", FOLDERS)
def test_a_work_folder_that_is_not_ours_is_not_touched(
    out: Path, whole: bytes, held: str, force: bool
) -> None:
    work = out.with_name("my.h5.work")
    work.mkdir()
    for name, data in FOLDERS[held].items():
        (work / name).write_bytes(data)
    with pytest.raises(InputError, match=r"my\.h5\.work is no work folder of mtl"):
        prepare("rooms", out=out, force=force, **SMALL)
    assert not out.exists()
    out.write_bytes(whole)
    prepare("rooms", out=out, **SMALL)  # complete already
    assert {p.name: p.read_bytes() for p in work.iterdir()} == FOLDERS[held]


def test_a_file_in_place_of_the_work_folder_is_not_touched(out: Path) -> None:
    out.parent.mkdir()
    work = out.with_name("my.h5.work")
    work.write_text("mine")
    with pytest.raises(InputError, match="no work folder of mtl"):
        prepare("rooms", out=out, **SMALL)
    assert work.read_text() == "mine"


def test_a_file_put_into_our_work_folder_stays(
    out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = out.with_name("my.h5.work")
    interrupt(out, monkeypatch)
    (work / "notes.txt").write_text("mine")
    (work / "more").mkdir()
    prepare("rooms", out=out, **SMALL)
    assert out.read_bytes() == whole
    assert (work / "notes.txt").read_text() == "mine"
    assert (work / "more").is_dir()
    assert not (work / "dataset.h5").exists()


def interrupt(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a full disk leaves."""

    def fill_up(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(convert, "write_arrays", fill_up)
        with pytest.raises(RunError, match="No space"):
            prepare("rooms", out=out, **SMALL)


@pytest.mark.parametrize("marked", [True, False])
def test_a_work_folder_that_was_left_is_used_and_goes(
    out: Path, whole: bytes, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(out, monkeypatch)
    work = out.with_name("my.h5.work")
    assert (work / "dataset.h5").exists()
    if not marked:  # as versions before the mark left it
        (work / "mtl-prepare.lock").unlink()
        (work / "lock").touch()
    prepare("rooms", out=out, **SMALL)
    assert out.read_bytes() == whole
    assert sorted(p.name for p in out.parent.iterdir()) == ["my.h5"]


def test_a_leftover_beside_a_complete_file_goes(
    out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(out, monkeypatch)
    out.write_bytes(whole)
    prepare("rooms", out=out, **SMALL)
    assert sorted(p.name for p in out.parent.iterdir()) == ["my.h5"]


def test_a_file_that_may_not_be_read_is_told(
    out: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.write_bytes(whole)
    opened = open

    def refuse(path: Any, *how: Any) -> Any:
        if path == out:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *how)

    monkeypatch.setattr(workplace, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"my\.h5 cannot be read: Permission denied"):
        prepare("rooms", out=out, **SMALL)
    assert out.read_bytes() == whole
