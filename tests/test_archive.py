"""Archives: read member by member, whatever their kind; damage and escapes are refused."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mtlcli import files
from mtlcli.data import archive, members
from mtlcli.data.archive import identify, open_archive
from mtlcli.datasets._dataset import Files
from mtlcli.errors import InputError, RunError

MEMBERS = {
    "set/a/1.bin": np.random.default_rng(1).bytes(70_000),
    "set/a/2.bin": b"",
    "set/b/3.txt": b"hello",
}


def make_tar(path: Path, mode: str, members: dict[str, bytes] = MEMBERS) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in MEMBERS.items():
            file.writestr(name, data)
    return path


def make_folder(path: Path) -> Path:
    for name, data in MEMBERS.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


MAKERS = {
    "folder": lambda p: make_folder(p / "folder"),
    "tar": lambda p: make_tar(p / "x.tar", "w"),
    "tgz": lambda p: make_tar(p / "x.tgz", "w:gz"),
    "dotted": lambda p: make_tar(
        p / "x.tar", "w", {f"./{name}": data for name, data in MEMBERS.items()}
    ),
    "zip": lambda p: make_zip(p / "x.zip"),
    "misnamed": lambda p: make_zip(p / "x.tar.gz"),
    "folder of archives": lambda p: make_tar(p / "some" / "x.tgz", "w:gz").parent,
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "some").mkdir()
    return tmp_path / "work"


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_gives_the_same_members(tmp_path: Path, work: Path, kind: str) -> None:
    files: Files = open_archive(MAKERS[kind](tmp_path), work)
    files = pickle.loads(pickle.dumps(files))  # as a spawned worker gets it
    assert set(MEMBERS) <= set(files.names())
    assert {name: files.read(name) for name in MEMBERS} == MEMBERS


@pytest.mark.parametrize("kind", MAKERS)
def test_a_missing_member_is_named(tmp_path: Path, work: Path, kind: str) -> None:
    files = open_archive(MAKERS[kind](tmp_path), work)
    with pytest.raises(InputError, match=r"lacks set/a/9\.bin"):
        files.read("set/a/9.bin")


def test_links_inside_are_followed(tmp_path: Path, work: Path) -> None:
    path = make_tar(tmp_path / "x.tar", "w")
    with tarfile.open(path, "a") as tar:
        for name, kind, target in (
            ("set/soft", tarfile.SYMTYPE, "b/3.txt"),
            ("set/hard", tarfile.LNKTYPE, "set/b/3.txt"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
    files = open_archive(path, work)
    assert files.read("set/soft") == files.read("set/hard") == b"hello"


def test_links_to_folders_and_to_what_comes_later_are_followed(tmp_path: Path, work: Path) -> None:
    links = {
        "set/early": "b/3.txt", "set/twice": "early", "set/through": "../masks/3.txt",
        "masks": "set/b", "deep": "set/c", "set/c/down": "../b",
        "set/up": "..", "set/self": "self", "set/b/loop": ".", "set/gone": "nowhere",
        "x": "y", "y": "x",
    }  # fmt: skip
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        member = tarfile.TarInfo("set/b/3.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    files = open_archive(tmp_path / "x.tar", work)
    assert set(files.names()) == {
        "set/b/3.txt", "set/early", "set/twice", "set/through", "masks/3.txt", "deep/down/3.txt",
        "set/c/down/3.txt",
    }  # fmt: skip
    assert {files.read(name) for name in files.names()} == {b"hello"}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_member_can_be_had_as_a_file(tmp_path: Path, work: Path, kind: str) -> None:
    files = open_archive(MAKERS[kind](tmp_path), work)
    path = files.located("set/a/1.bin")
    assert path.read_bytes() == MEMBERS["set/a/1.bin"]
    before = path.stat().st_mtime_ns
    assert files.located("set/a/1.bin").stat().st_mtime_ns == before  # copied once


def test_nothing_is_unpacked_but_one_tar(tmp_path: Path, work: Path) -> None:
    path = make_tar(tmp_path / "x.tgz", "w:gz")
    open_archive(path, work)
    (inflated,) = work.iterdir()
    before = inflated.stat().st_mtime_ns
    open_archive(path, work)
    assert inflated.stat().st_mtime_ns == before  # and only once


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside", "..\\outside"])
@pytest.mark.parametrize("packed", ["tar", "zip"])
def test_a_member_that_points_outside_is_refused(
    tmp_path: Path, work: Path, name: str, packed: str
) -> None:
    path = tmp_path / f"x.{packed}"
    if packed == "tar":
        make_tar(path, "w", {name: b"!"})
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, b"!")
    with pytest.raises(InputError, match="points outside the archive"):
        open_archive(path, work).names()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_leads_outside_is_refused(tmp_path: Path, work: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("set/link")
        link.type, link.linkname = kind, "../../outside"
        tar.addfile(link)
    with pytest.raises(InputError, match="'set/link' links outside"):
        open_archive(tmp_path / "x.tar", work)


def read_all(path: Path, work: Path) -> None:
    files = open_archive(path, work)
    for name in files.names():
        files.read(name)


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def spoil(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 40):
        data[place] ^= 0x5A
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda p: cut(make_tar(p / "x.tgz", "w:gz"), 0.6), r"x\.tgz is cut short"),
        (lambda p: spoil(make_tar(p / "x.tgz", "w:gz")), r"x\.tgz is corrupt"),
        (lambda p: cut(make_tar(p / "x.tar", "w"), 0.3), r"x\.tar.* cut short"),
        (lambda p: cut(make_zip(p / "x.zip"), 0.6), r"x\.zip is damaged"),
        (lambda p: spoil(make_zip(p / "x.zip")), r"set/a/1\.bin is damaged"),
        (lambda p: cut(make_tar(p / "x.tar", "w"), 0), "is empty"),
        (lambda p: p / "nothing.tar", "is not there"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, work: Path, damaged: Callable[[Path], Path], said: str
) -> None:
    path = damaged(tmp_path)
    with pytest.raises(InputError, match=said):
        read_all(path, work)
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<html><body>Sign in", "is a web page"), (b"what is this", "is of an unknown kind")],
)
def test_what_is_no_archive_is_told(tmp_path: Path, work: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.tgz").write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_archive(tmp_path / "x.tgz", work)


def test_gzipped_things_that_are_no_tar_are_told(tmp_path: Path, work: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(gzip.compress(b"not a tar at all" * 100))
    with pytest.raises(InputError, match=r"x\.tgz is damaged"):
        open_archive(tmp_path / "x.tgz", work)


def test_the_hash_of_a_folder_tells_another_content(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    before = identify(folder)
    (folder / "set/b/3.txt").write_bytes(b"hello!")
    assert identify(folder)["listing_sha256"] != before["listing_sha256"]


def packed_tar(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("a.bin")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("failure", ["cut short", "full disk", "no tar", "bomb", "interrupted"])
def test_an_archive_that_cannot_be_inflated_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    path = packed_tar(tmp_path / "a.tar.gz", os.urandom(3 << 20) + bytes(9 << 20))
    (tmp_path / "work").mkdir()
    expected: type[BaseException] = InputError
    if failure == "cut short":
        path.write_bytes(path.read_bytes()[:-2000])
    elif failure == "full disk":
        expected, left = RunError, iter([1 << 40, 0])
        room = lambda _: SimpleNamespace(free=next(left))  # noqa: E731
        monkeypatch.setattr(files.shutil, "disk_usage", room)
        monkeypatch.setattr(files, "RESERVE", 1 << 20)
    elif failure == "no tar":
        path.write_bytes(gzip.compress(bytes(5 << 20)))
    elif failure == "bomb":
        monkeypatch.setattr(archive, "MOST_INFLATED", 2)
    else:
        expected = KeyboardInterrupt

    def report(done: int) -> None:
        if failure == "interrupted":
            raise KeyboardInterrupt

    with pytest.raises(expected):
        archive.open_archive(path, tmp_path / "work", report)
    assert not list((tmp_path / "work").iterdir())


def test_folders_whose_links_lead_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.png").touch()
    (tmp_path / "a/loop").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    found = archive.open_archive(tmp_path, tmp_path).names()
    assert "a/b/x.png" in found
    assert "gone.png" not in found
    assert len(found) < 10
    assert archive.identify(tmp_path)["bytes"] == 0


def test_members_larger_than_any_picture_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.bin", bytes(5000))
    packed_tar(tmp_path / "a.tar.gz", bytes(5000))
    monkeypatch.setattr(members, "LARGEST", 4999)
    for name in ("a.zip", "a.tar.gz"):
        with pytest.raises(InputError, match=r"a\.bin has .* more than any picture"):
            archive.open_archive(tmp_path / name, tmp_path).read("a.bin")


@pytest.mark.parametrize(("at", "value"), [(6, 1), (8, 97)])
def test_zips_with_a_password_or_of_an_unknown_method_are_named(
    tmp_path: Path, at: int, value: int
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.bin", b"abc")
    content = bytearray(path.read_bytes())
    content[at] = value
    content[content.index(b"PK\1\2") + at + 2] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.bin cannot be unpacked"):
        archive.open_archive(path, tmp_path).read("a.bin")


def test_what_finder_and_windows_leave_is_no_member(tmp_path: Path) -> None:
    names = ["images/1.png", "images/.DS_Store", "images/._1.png", "__MACOSX/images/._1.png",
             "Thumbs.db", "images/desktop.ini"]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for name in names:
            made.writestr(name, b"x")
    assert archive.open_archive(tmp_path / "a.zip", tmp_path).names() == ("images/1.png",)


@pytest.mark.parametrize("kind", ["0", "x", "L"])
@pytest.mark.parametrize("size", [-1024, 2**40, 2**62, 2**90])
def test_sizes_that_cannot_be_are_damage(tmp_path: Path, work: Path, kind: str, size: int) -> None:
    head = bytearray(tarfile.TarInfo("a.bin").tobuf(tarfile.GNU_FORMAT))
    head[156:157] = kind.encode()
    head[124:136] = (size % 2**96 | (0 if size < 0 else 2**95)).to_bytes(12, "big")
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    (tmp_path / "x.tar").write_bytes(bytes(head) + b"a" * 512 + bytes(1024))
    with pytest.raises(InputError, match=r"damaged|cut short"):
        open_archive(tmp_path / "x.tar", work).read("a.bin")


def test_what_leads_nowhere_in_a_zip_is_damage(tmp_path: Path, work: Path) -> None:
    content = bytearray(make_zip(tmp_path / "x.zip").read_bytes())
    end = content.rfind(b"PK\5\6")
    content[end + 16 : end + 20] = b"\xff" * 4
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_all(tmp_path / "x.zip", work)


def test_a_sparse_member_is_refused_by_name(tmp_path: Path, work: Path) -> None:
    member = tarfile.TarInfo("a.bin")
    member.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": "900"}
    member.size = 3
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(InputError, match=r"a\.bin is sparse"):
        open_archive(tmp_path / "x.tar", work)


def test_a_pipe_is_not_waited_for(tmp_path: Path, work: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(InputError, match="no regular file"):
        open_archive(tmp_path / "x.tar", work)
