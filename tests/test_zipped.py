"""A mirror may have the file inside a zip: what comes out is the right file, or nothing."""

import hashlib
import io
import json
import types
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mtlcli import files
from mtlcli.data.download import Downloader, DownloadError
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import RunError
from tests.hosts import DATA, Host, hasty, known, serving

ZIP = "application/zip"


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


GOOD = packed(("readme.txt", b"hello"), ("folder/x.tar.gz", DATA))


@pytest.fixture
def downloader(tmp_path: Path) -> Downloader:
    return hasty(tmp_path)


def zipped(base: str, path: str = "a", **facts: Any) -> Remote:
    return Remote(file="x.tar.gz", urls=(f"zip:{base}/{path}",), **(facts or known()))


def leftovers(downloader: Downloader) -> list[str]:
    return sorted(p.name for p in downloader.folder.iterdir())


def test_the_file_is_taken_out_and_the_zip_goes(downloader: Downloader) -> None:
    with serving(a=Host(data=GOOD, kind=ZIP)) as base:
        assert downloader.fetch(zipped(base)).read_bytes() == DATA
        url = json.loads(downloader.ledger.read_text())["x.tar.gz"]["url"]
        assert url == f"zip:{base}/a"
    assert leftovers(downloader) == ["x.tar.gz"]


def test_a_cut_zip_goes_on_where_it_stopped(downloader: Downloader) -> None:
    host = Host(data=GOOD, kind=ZIP, cuts=3)
    with serving(a=host) as base:
        assert downloader.fetch(zipped(base)).read_bytes() == DATA
    starts = [int(span.removeprefix("bytes=").rstrip("-")) for span, _ in host.asked[1:]]
    assert starts == sorted(starts)
    assert starts[0] >= len(GOOD) // 4


def test_a_zip_that_is_there_is_not_fetched_again(downloader: Downloader) -> None:
    host = Host(data=GOOD, kind=ZIP)
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.zip.part").write_bytes(GOOD)
    with serving(a=host) as base:
        note = {"url": f"{base}/a", "validator": None, "total": len(GOOD)}
        files.write_json(downloader.folder / "x.tar.gz.zip.part.json", note)
        assert downloader.fetch(zipped(base)).read_bytes() == DATA
    assert host.asked == []


def test_a_zip_that_was_left_and_is_wrong_is_fetched_anew(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.zip.part").write_bytes(b"PK" + bytes(len(GOOD) // 2))
    with serving(a=Host(data=GOOD, kind=ZIP)) as base:
        assert downloader.fetch(zipped(base)).read_bytes() == DATA
    assert leftovers(downloader) == ["x.tar.gz"]


def damaged(data: bytes) -> bytes:
    at = data.index(b"x.tar.gz") + 1000
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def said_to_hold(data: bytes, size: int) -> bytes:
    """The central directory tells another size."""
    plain = len(DATA).to_bytes(4, "little")
    at = data.rindex(plain)
    return data[:at] + size.to_bytes(4, "little") + data[at + 4 :]


def locked(data: bytes) -> bytes:
    """Both headers of the first member ask for a password."""
    at = data.index(b"PK\1\2")
    for place in (6, at + 8):
        data = data[:place] + bytes([data[place] | 1]) + data[place + 1 :]
    return data


BAD_ZIPS = {
    "is damaged": GOOD[: len(GOOD) // 2],
    "no files x.tar.gz": packed(("y.tar.gz", DATA)),
    "2 files x.tar.gz": packed(("a/x.tar.gz", DATA), ("b/x.tar.gz", DATA)),
    "holds 5 bytes of x.tar.gz, expected": packed(("x.tar.gz", b"12345")),
    "holds 4000000000 bytes": said_to_hold(packed(("x.tar.gz", DATA)), 4_000_000_000),
    "is damaged .*CRC": damaged(packed(("x.tar.gz", DATA), method=zipfile.ZIP_STORED)),
    "is damaged .*encrypted": locked(packed(("x.tar.gz", DATA))),
    "is damaged .*data stream": damaged(packed(("x.tar.gz", DATA), method=zipfile.ZIP_BZIP2)),
    "its sha256 is": packed(("x.tar.gz", DATA[:-1] + b"!")),
    "sends something that is no .zip file": DATA,
}


@pytest.mark.parametrize("reason", BAD_ZIPS)
def test_a_bad_zip_is_told_and_leaves_nothing(downloader: Downloader, reason: str) -> None:
    bad = Host(data=BAD_ZIPS[reason], kind=ZIP)
    with serving(a=bad, good=Host(data=GOOD, kind=ZIP)) as base:
        with pytest.raises(DownloadError, match=reason):
            downloader.fetch(zipped(base))
        assert leftovers(downloader) == []
        both = Remote(file="x.tar.gz", urls=(f"zip:{base}/a", f"zip:{base}/good"), **known())
        assert downloader.fetch(both).read_bytes() == DATA


@pytest.mark.parametrize("place", ["../", "{tmp}/", "..\\..\\"])
def test_no_path_of_the_zip_is_used(downloader: Downloader, tmp_path: Path, place: str) -> None:
    name = place.format(tmp=tmp_path) + "x.tar.gz"
    host = Host(data=packed((name, DATA)), kind=ZIP)
    with serving(a=host) as base, suppress(DownloadError):  # the last one is no path here
        downloader.fetch(zipped(base))
    assert set(leftovers(downloader)) <= {"x.tar.gz"}
    assert {p.name for p in tmp_path.iterdir()} <= {"downloads", "sources.json"}


def test_what_a_killed_run_took_out_goes(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part.draft").write_bytes(DATA[:1000])
    with serving(a=Host()) as base:
        urls = (f"{base}/a", f"zip:{base}/a")
        downloader.fetch(Remote(file="x.tar.gz", urls=urls, **known()))
    assert leftovers(downloader) == ["x.tar.gz"]


def test_a_bomb_meets_the_free_space_first(
    downloader: Downloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = packed(("x.tar.gz", bytes(50_000_000)))
    usage = types.SimpleNamespace(free=10_000_000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage)
    with serving(a=Host(data=bomb, kind=ZIP)) as base, pytest.raises(RunError, match="are needed"):
        downloader.fetch(zipped(base, sha256=hashlib.sha256(DATA).hexdigest()))
    assert not (downloader.folder / "x.tar.gz.part").exists()
