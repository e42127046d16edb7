"""Files on Google Drive: the real gdown asks a server here that answers as Drive does."""

import hashlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from mtlcli import files
from mtlcli.data.download import Downloader, DownloadError
from mtlcli.data.progress import Bars
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import RunError
from tests.hosts import Host, hasty, serving

DATA = b"\x1f\x8b" + np.random.default_rng(0).bytes(3_000_000)  # some of gdown's pieces
SHA256 = hashlib.sha256(DATA).hexdigest()

ATTACHED = (("Content-Disposition", 'attachment; filename="theirs.tar.gz"'),)
QUOTA = (
    b'<html><body><p class="uc-error-caption">Sorry, you can\'t view or download this file at this '
    b'time.</p>\n<p class="uc-error-subcaption">Too many users have viewed or downloaded this file '
    b"recently. Please try accessing the file again later.</p></body></html>"
)
SIGN_IN = b"<html><body>Sign in to continue to Google Drive</body></html>"


@pytest.fixture
def downloader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Downloader:
    monkeypatch.setenv("HOME", str(tmp_path))  # gdown keeps cookies there
    return hasty(tmp_path)


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """How Drive behaves; every address of it leads to a server here."""
    host = Host(data=DATA, more=ATTACHED, total=len(DATA))
    get = requests.Session.get
    with serving(uc=host) as base:
        monkeypatch.setattr(
            requests.Session, "get", lambda self, url, **how: get(self, f"{base}/uc", **how)
        )
        yield host


def on_drive(**known: Any) -> Remote:
    return Remote(file="x.tar.gz", urls=("gdrive:abc",), **known)


def leftovers(downloader: Downloader) -> list[str]:
    return sorted(p.name for p in downloader.folder.iterdir())


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_file_arrives_under_its_own_name(
    downloader: Downloader, drive: Host, sha256: str | None
) -> None:
    assert downloader.fetch(on_drive(sha256=sha256)).read_bytes() == DATA
    assert leftovers(downloader) == ["x.tar.gz"]


def test_a_cut_download_goes_on_where_it_stopped(downloader: Downloader, drive: Host) -> None:
    drive.cuts = 4
    assert downloader.fetch(on_drive()).read_bytes() == DATA
    starts = [int(s.removeprefix("bytes=").rstrip("-")) for s, _ in drive.asked if s]
    assert starts == sorted(starts)
    assert starts[0] >= len(DATA) // 4


def leave(downloader: Downloader, *parts: bytes) -> None:
    """What killed runs of gdown leave."""
    scratch = downloader.folder / "x.tar.gz.part.drive"
    scratch.mkdir(parents=True)
    for number, data in enumerate(parts):
        (scratch / f"x.tar.gz{number:08d}.part").write_bytes(data)


@pytest.mark.parametrize(
    ("left", "begins"),
    [
        ((DATA[:200_000],), 200_000),
        ((DATA[:1000], DATA[:2000]), 0),  # gdown would refuse to choose
        ((DATA,), 0),  # nothing more to ask for
        ((b"",), 0),
    ],
)
def test_what_a_killed_run_left_is_used_or_goes(
    downloader: Downloader, drive: Host, left: tuple[bytes, ...], begins: int
) -> None:
    leave(downloader, *left)
    assert downloader.fetch(on_drive()).read_bytes() == DATA
    assert drive.asked[-1][0] == (f"bytes={begins}-" if begins else None)
    assert leftovers(downloader) == ["x.tar.gz"]


def test_a_wrong_rest_is_fetched_anew(downloader: Downloader, drive: Host) -> None:
    leave(downloader, b"\x1f\x8b".ljust(1000))
    assert downloader.fetch(on_drive(sha256=SHA256)).read_bytes() == DATA


def test_bytes_of_another_mirror_are_not_taken_for_the_whole(
    downloader: Downloader, drive: Host
) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(DATA[:1000])
    assert downloader.fetch(on_drive()).read_bytes() == DATA


def test_a_part_that_came_whole_is_not_fetched_again(downloader: Downloader, drive: Host) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(DATA)
    note = {"url": "gdrive:abc", "total": len(DATA)}
    files.write_json(downloader.folder / "x.tar.gz.part.json", note)
    assert downloader.fetch(on_drive()).read_bytes() == DATA
    assert drive.asked == []


REFUSALS: dict[str, dict[str, Any]] = {
    "its quota for today is used up": {"data": QUOTA, "kind": "text/html", "more": ()},
    "shows no link to the file": {"data": SIGN_IN, "kind": "text/html", "more": ()},
    "fetched too often": {"status": 404},
    "sends a web page instead of the file": {"data": SIGN_IN},
    "no .gz file": {"data": b"PK\3\4" * 1000},
    "its sha256 is": {"data": b"\x1f\x8b" * 1000},
    "timed out": {"trickle": 5.0},
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_is_told_in_a_few_words_and_leaves_nothing(
    downloader: Downloader, drive: Host, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in REFUSALS[reason].items():
        setattr(drive, name, value)
    with pytest.raises(DownloadError, match=f"Google Drive: .*{reason}") as told:
        downloader.fetch(on_drive(sha256=SHA256))
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 260
    assert leftovers(downloader) == []
    assert capfd.readouterr().out == ""


def test_no_network_is_told_quickly(
    downloader: Downloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = requests.Session.get
    monkeypatch.setattr(
        requests.Session, "get", lambda self, url, **how: get(self, "http://127.0.0.1:9/", **how)
    )
    with pytest.raises(DownloadError, match=r"Google Drive: cannot be reached\)"):
        downloader.fetch(on_drive())


def test_what_came_is_kept_where_the_rest_does_not(downloader: Downloader, drive: Host) -> None:
    leave(downloader, DATA[:200_000])
    drive.data, drive.kind, drive.more = QUOTA, "text/html", ()
    with pytest.raises(DownloadError, match="quota"):
        downloader.fetch(on_drive())
    drive.data, drive.more = DATA, ATTACHED
    downloader.fetch(on_drive())
    assert drive.asked[-1][0] == "bytes=200000-"


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_goes_to_stderr_unless_quiet(
    tmp_path: Path, drive: Host, quiet: bool, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    made = hasty(tmp_path)
    downloader = Downloader(
        folder=made.folder, ledger=made.ledger, bars=Bars(quiet), patience=made.patience
    )
    downloader.fetch(on_drive())
    printed = capfd.readouterr()
    assert printed.out == ""
    assert ("Downloading x.tar.gz" in printed.err) is not quiet
    assert "From" not in printed.err  # gdown's own words


def test_space_is_asked_for_before(
    downloader: Downloader, drive: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    with pytest.raises(RunError, match="are needed"):
        downloader.fetch(on_drive())
    drive.asked.clear()
    with pytest.raises(RunError, match="are needed"):
        downloader.fetch(on_drive(size=len(DATA), sha256=SHA256))
    assert drive.asked == []
