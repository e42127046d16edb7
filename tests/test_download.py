"""Downloads: whatever a host does, the file is whole and right or there is none."""

import json
import types
from dataclasses import replace
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from mtlcli import files
from mtlcli.data import mirror
from mtlcli.data.download import Downloader, DownloadError
from mtlcli.errors import RunError
from mtlcli.files import NoSpace
from tests.hosts import DATA, MD5, SHA256, Host, hasty, known, remote, serving


@pytest.fixture
def downloader(tmp_path: Path) -> Downloader:
    return hasty(tmp_path)


def test_a_file_arrives_whole_and_is_not_fetched_twice(downloader: Downloader) -> None:
    host = Host()
    with serving(a=host) as base:
        path = downloader.fetch(remote(base, "a", **known()))
        downloader.fetch(remote(base, "a", **known()))
    assert path.read_bytes() == DATA
    assert len(host.asked) == 1
    assert [p.name for p in downloader.folder.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("published", [True, False])
def test_a_cut_download_goes_on_where_it_stopped(downloader: Downloader, published: bool) -> None:
    host = Host(cuts=5)
    with serving(a=host) as base:
        path = downloader.fetch(remote(base, "a", **(known() if published else {})))
    assert path.read_bytes() == DATA
    assert host.asked[0] == (None, None)
    starts = [int(span.removeprefix("bytes=").rstrip("-")) for span, _ in host.asked[1:]]
    assert starts == sorted(starts)
    assert starts[0] >= len(DATA) // 4
    assert {condition for _, condition in host.asked[1:]} == {'"one"'}


def test_a_later_run_goes_on_too(downloader: Downloader) -> None:
    with serving(a=Host(cuts=99, data=DATA[:1000])) as base, pytest.raises(DownloadError):
        downloader.fetch(remote(base, "a"))  # a host that always cuts: the part stays
    part = downloader.folder / "x.tar.gz.part"
    part.write_bytes(DATA[:200_000])
    host = Host()
    with serving(a=host) as base:
        url = f"{base}/a"
        note = {"url": url, "validator": '"one"', "total": len(DATA)}
        files.write_json(downloader.folder / "x.tar.gz.part.json", note)
        path = downloader.fetch(remote(base, "a"))
    assert path.read_bytes() == DATA
    assert host.asked == [("bytes=200000-", '"one"')]


def test_a_file_that_changed_meanwhile_starts_anew(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b old" * 100)
    host = Host()
    with serving(a=host) as base:
        note = {"url": f"{base}/a", "validator": '"old"', "total": 99_999}
        files.write_json(downloader.folder / "x.tar.gz.part.json", note)
        path = downloader.fetch(remote(base, "a"))
    assert path.read_bytes() == DATA
    assert host.asked == [("bytes=600-", '"old"')]


def test_a_part_nothing_is_known_about_starts_anew(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b what is this?")
    host = Host(etag=None)
    with serving(a=host) as base:
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA
    assert host.asked == [(None, None)]


def test_a_server_that_ignores_ranges_starts_anew(downloader: Downloader) -> None:
    host = Host(cuts=1, ranges=False)
    with serving(a=host) as base:
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA
    assert host.asked[1][0] is not None


def test_a_complete_part_is_not_fetched_again(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(DATA)
    host = Host()
    with serving(a=host) as base:
        assert downloader.fetch(remote(base, "a", **known())).read_bytes() == DATA
    assert host.asked == []


def test_a_part_of_another_file_does_not_spoil_the_download(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b" + bytes(100_000))
    with serving(a=Host()) as base:
        assert downloader.fetch(remote(base, "a", **known())).read_bytes() == DATA


BAD_HOSTS = {
    "HTTP 404": Host(status=404),
    "Service Unavailable": Host(status=503),
    "sends a web page": Host(kind="text/html", data=b"<html>Sign in</html>" * 20_000),
    "sends a web page instead": Host(data=b"  <!DOCTYPE html>".ljust(len(DATA))),
    "no .gz file": Host(data=b"PK\3\4".ljust(len(DATA))),
    "offers 300001 bytes, expected 300002": Host(data=DATA[:-1]),
    "its sha256 is": Host(data=DATA[:-1] + b"!"),
    "IncompleteRead": Host(cuts=99, ranges=False),
    "slower than 100000 bytes a second": Host(trickle=0.02),
    "timed out": Host(trickle=5.0),
}


@pytest.mark.parametrize("reason", BAD_HOSTS)
def test_a_bad_mirror_is_named_and_the_next_one_used(downloader: Downloader, reason: str) -> None:
    bad = replace(BAD_HOSTS[reason], asked=[])
    with serving(bad=bad) as base, pytest.raises(DownloadError, match=reason):
        downloader.fetch(remote(base, "bad", **known()))
    assert not (downloader.folder / "x.tar.gz").exists()
    with serving(bad=bad, good=Host()) as base:
        path = downloader.fetch(remote(base, "bad", "good", **known()))
    assert path.read_bytes() == DATA
    assert json.loads(downloader.ledger.read_text())["x.tar.gz"]["sha256"] == SHA256


HEAD = b"HTTP/1.0 200 OK\r\n"
NONSENSE = {
    "less than nothing": Host(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n"),
    "a length of 5000 digits": Host(raw=HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
    "round and round": Host(leads_to="/a"),
    "no words": Host(raw=b""),
    "no status": Host(raw=b"HTTP/1.0 fine\r\n\r\n"),
    "no end of a head": Host(raw=HEAD + b"X: " + b"x" * 70_000),
}


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense_is_one_line_and_the_next_mirror_is_asked(
    downloader: Downloader, said: str
) -> None:
    with serving(a=NONSENSE[said], b=Host()) as base:
        with pytest.raises(DownloadError) as told:
            downloader.fetch(remote(base, "a"))
        assert "\n" not in str(told.value)
        assert downloader.fetch(remote(base, "a", "b")).read_bytes() == DATA


def test_no_network_is_told_quickly(downloader: Downloader) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9: .*refused"):
        downloader.fetch(remote("http://127.0.0.1:9", "a"))


def test_md5_is_checked_where_that_is_all_there_is(downloader: Downloader) -> None:
    with serving(a=Host()) as base:
        with pytest.raises(DownloadError, match=f"its md5 is {MD5}, expected 00"):
            downloader.fetch(remote(base, "a", md5="00"))
        assert downloader.fetch(remote(base, "a", md5=MD5)).read_bytes() == DATA


def test_the_first_digits_of_a_hash_are_checked_where_no_more_is_published(
    downloader: Downloader,
) -> None:
    with serving(a=Host()) as base:
        with pytest.raises(DownloadError, match=f"its sha256 is {SHA256}, expected 0123abcd"):
            downloader.fetch(remote(base, "a", sha256="0123abcd"))
        assert downloader.fetch(remote(base, "a", sha256=SHA256[:8])).read_bytes() == DATA


def test_what_was_used_first_is_demanded_ever_after(downloader: Downloader) -> None:
    with serving(a=Host()) as base:
        downloader.fetch(remote(base, "a")).unlink()
    entry = json.loads(downloader.ledger.read_text())["x.tar.gz"]
    assert (entry["sha256"], entry["size"]) == (SHA256, len(DATA))
    with serving(a=Host(data=DATA[:-1])) as base:
        with pytest.raises(DownloadError, match=r"first used on .*sources\.json"):
            downloader.fetch(remote(base, "a"))
        downloader.forget(remote(base, "a"))
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA[:-1]


def test_an_end_that_cannot_be_recognised_is_not_trusted(downloader: Downloader) -> None:
    with serving(a=Host(length=False)) as base:
        with pytest.raises(DownloadError, match="does not say how long"):
            downloader.fetch(remote(base, "a"))
        assert downloader.fetch(remote(base, "a", sha256=SHA256)).read_bytes() == DATA


def test_a_file_that_was_tampered_with_is_refused(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz").write_bytes(DATA[:-1])
    with pytest.raises(DownloadError, match=r"not the right file.*delete it"):
        downloader.fetch(remote("http://127.0.0.1:9", "a", **known()))


def test_space_is_asked_for_before(downloader: Downloader, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage)
    host = Host()
    with serving(a=host) as base:
        with pytest.raises(RunError, match=r"0\.3 MB are needed"):
            downloader.fetch(remote(base, "a", **known()))
        assert host.asked == []
        with pytest.raises(RunError, match=r"0\.3 MB are needed"):
            downloader.fetch(remote(base, "a"))


def test_a_host_that_says_more_than_the_disk_holds_is_passed_over(downloader: Downloader) -> None:
    boast = Host(raw=HEAD + b"Content-Length: %d\r\n\r\n" % 10**14)
    with serving(a=boast, b=Host()) as base:
        assert downloader.fetch(remote(base, "a", "b")).read_bytes() == DATA
    with serving(a=boast, b=boast) as base, pytest.raises(NoSpace, match="free some"):
        downloader.fetch(replace(remote(base, "a", "b"), file="y.tar.gz"))


@pytest.mark.parametrize("total", [None, len(DATA)])
@pytest.mark.parametrize("published", [True, False])
def test_less_of_the_rest_than_asked_for_is_not_the_end(
    downloader: Downloader, published: bool, total: int | None
) -> None:
    host = Host(cuts=1, shorter=3, total=total)
    with serving(a=host) as base:
        path = downloader.fetch(remote(base, "a", **(known() if published else {})))
    assert path.read_bytes() == DATA
    assert len(host.asked) == 5


def test_a_rest_of_unknown_end_is_not_trusted(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(DATA[:1000])
    with serving(a=Host(shorter=9)) as base:
        note = {"url": f"{base}/a", "validator": '"one"', "total": None}
        files.write_json(downloader.folder / "x.tar.gz.part.json", note)
        with pytest.raises(DownloadError, match="does not say how long"):
            downloader.fetch(remote(base, "a"))


def test_a_file_that_is_said_to_be_longer_now_starts_anew(downloader: Downloader) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f\x8b".ljust(1000))
    host = Host(total=len(DATA))
    with serving(a=host) as base:
        note = {"url": f"{base}/a", "validator": '"one"', "total": 2000}
        files.write_json(downloader.folder / "x.tar.gz.part.json", note)
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA
    assert [span for span, _ in host.asked] == ["bytes=1000-", None]


CONTRADICTIONS = {
    "contradicts itself: lengths": Host(more=(("Content-Length", "1000"),)),
    "offers 5 bytes": Host(data=DATA[:5]),
    "leads to an address that is none": Host(leads_to="http://[bad"),
    "leads to ftp:": Host(leads_to="ftp://127.0.0.1:9/a"),
    "an address that is none .*control characters": Host(leads_to="http://a b/\x01"),
}


@pytest.mark.parametrize("reason", CONTRADICTIONS)
def test_answers_that_contradict_themselves_are_refused(
    downloader: Downloader, reason: str
) -> None:
    bad = replace(CONTRADICTIONS[reason], asked=[])
    with serving(bad=bad, good=Host()) as base:
        with pytest.raises(DownloadError, match=reason):
            downloader.fetch(remote(base, "bad", **known()))
        assert downloader.fetch(remote(base, "bad", "good", **known())).read_bytes() == DATA


def test_two_lengths_are_refused_without_a_checksum_too(downloader: Downloader) -> None:
    half = str(len(DATA) // 2)
    bad = Host(length=False, more=(("Content-Length", half), ("Content-Length", str(len(DATA)))))
    with serving(a=bad) as base, pytest.raises(DownloadError, match="contradicts itself"):
        downloader.fetch(remote(base, "a"))
    assert list(downloader.folder.iterdir()) == []


@pytest.mark.parametrize("checked", [True, False])
def test_leaving_https_needs_a_published_checksum(checked: bool) -> None:
    follow = mirror._Redirects(checked).redirect_request
    ask = Request("https://example.org/a")
    answer = (BytesIO(), 302, "Found", Message())
    kept = follow(ask, *answer, "https://example.net/a")
    assert kept is not None
    assert kept.full_url == "https://example.net/a"
    if checked:
        left = follow(ask, *answer, "http://example.net/a")
        assert left is not None
        assert left.full_url == "http://example.net/a"
    else:
        with pytest.raises(mirror.MirrorError, match="from https to http"):
            follow(ask, *answer, "http://example.net/a")


@pytest.mark.parametrize(
    "note",
    [
        {"validator": '"one"\r\nX: y', "total": len(DATA)},
        {"validator": 7, "total": "many"},
        {"validator": "\u2603", "total": -1},
        {"total": True},
        [],
    ],
)
def test_a_damaged_note_is_no_note(downloader: Downloader, note: Any) -> None:
    downloader.folder.mkdir()
    (downloader.folder / "x.tar.gz.part").write_bytes(b"\x1f")  # one byte: `true` would be whole
    with serving(a=Host()) as base:
        said = {"url": f"{base}/a", **note} if isinstance(note, dict) else note
        (downloader.folder / "x.tar.gz.part.json").write_text(json.dumps(said))
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA


@pytest.mark.parametrize("entry", [7, "abc", [], {}, {"sha256": 5}, {"sha256": "00"}, None])
def test_a_damaged_entry_of_the_ledger_is_replaced(downloader: Downloader, entry: Any) -> None:
    downloader.ledger.write_text(json.dumps({"x.tar.gz": entry, "y": 1}))
    with serving(a=Host()) as base:
        assert downloader.fetch(remote(base, "a")).read_bytes() == DATA
    ledger = json.loads(downloader.ledger.read_text())
    assert (ledger["x.tar.gz"]["sha256"], ledger["x.tar.gz"]["size"]) == (SHA256, len(DATA))
    assert ledger["y"] == 1


def test_an_entry_without_a_date_still_counts(downloader: Downloader) -> None:
    entry = {"sha256": "0" * 64, "size": 5}
    downloader.ledger.write_text(json.dumps({"x.tar.gz": entry}))
    with serving(a=Host()) as base, pytest.raises(DownloadError, match="first used on"):
        downloader.fetch(remote(base, "a"))
