"""Whatever reaches the page's port, nothing leaks, hangs or fills up."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mtlcli.errors import InputError
from mtlcli.page import guard
from mtlcli.page import uploads as bounds
from mtlcli.page.hosts import Hosts
from mtlcli.page.samples import ROOMS
from mtlcli.page.uploads import Uploads
from tests.served import SHOW, Visitor, free_port, served_page, small_network

TITLE = "Depth"
META = {"meta": {"_type": "gradio.FileData"}}
TURN = 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The page, its folder, and a way to ask it."""
    folder = tmp_path_factory.mktemp("uploads")
    with served_page(small_network(), folder) as (page, port):
        yield SimpleNamespace(page=page, folder=folder, port=port, visitor=Visitor(port))


@pytest.fixture
def visitor(served: SimpleNamespace) -> Visitor:
    return served.visitor


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture of the user's, which nobody uploaded."""
    path = tmp_path / "passport.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path


def png() -> bytes:
    with tempfile.TemporaryFile() as file:
        Image.new("RGB", (50, 40), "blue").save(file, "PNG")
        file.seek(0)
        return file.read()


# ---- files of the computer ----


@pytest.mark.parametrize("meta", [{}, META, {"meta": 3}, META | {"is_stream": True}])
@pytest.mark.parametrize("kind", ["file", "absent", "folder", "fifo", "device", "link", "url"])
def test_no_file_but_an_upload_is_read(
    served: SimpleNamespace, secret: Path, meta: dict, kind: str, capfd: Any
) -> None:
    fifo = secret.with_name("fifo")
    os.mkfifo(fifo)
    link = served.folder / f"link{time.monotonic_ns()}.png"
    link.symlink_to(secret)
    path = {
        "file": secret,
        "absent": secret.with_name("none.png"),
        "folder": served.folder,
        "fifo": fifo,
        "device": "/dev/zero",
        "link": link,
        "url": f"http://127.0.0.1:{served.port}/",
    }[kind]
    before = sorted(p for p in served.folder.rglob("*"))
    answer = served.visitor.join([{"path": str(path), **meta}, TITLE])
    assert answer == served.visitor.join([{"path": "/nowhere", **meta}, TITLE])
    assert answer[0] == 400
    assert sorted(served.folder.rglob("*")) == before
    link.unlink()
    assert "Traceback" not in capfd.readouterr().err


FORGED: dict[str, Any] = {
    "nothing": {},
    "no data": {"data": None},
    "too much": {"data": [None, TITLE, {"path": "/etc/hostname"}]},
    "a list": {"data": [[{"path": "/etc/hostname"}], TITLE]},
    "text": {"data": ["/etc/hostname", TITLE]},
    "no path": {"data": [{"url": "file:///etc/hostname"}, TITLE]},
    "odd path": {"data": [{"path": "\0"}, TITLE]},
    "long path": {"data": [{"path": "/a" * 20_000}, TITLE]},
    "no title": {"data": [None, {"path": "/etc/hostname"}]},
    "other title": {"data": [None, "Smell"]},
    "other function": {"fn_index": 2},
    "nothing for a function": {"fn_index": 2, "data": [None]},
    "a file for a function": {"fn_index": 2, "data": [{"path": "/etc/hostname"}]},
    "something for a function of nothing": {"fn_index": 3, "data": [{"path": "/etc/hostname"}]},
    "something for a room": {"fn_index": 4, "data": ["/etc/hostname"]},
    "no function": {"fn_index": 99, "data": []},
    "true": {"fn_index": True},
    "negative": {"fn_index": -1},
    "named": {"fn_index": "show"},
    "session": {"session_hash": "../x"},
    "long session": {"session_hash": "x" * 65},
    "no session": {"session_hash": None},
    "trigger": {"trigger_id": {"path": "/etc/hostname"}},
    "empty trigger": {"trigger_id": {}},
    "false trigger": {"trigger_id": False},
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_request_is_refused_in_a_word(visitor: Visitor, case: str, capfd: Any) -> None:
    whole = {"data": [None, TITLE], "fn_index": SHOW, "session_hash": "x", "trigger_id": 4}
    asked = whole | FORGED[case] if FORGED[case] else {}
    status, said, _ = visitor.ask("POST", "/gradio_api/queue/join", json.dumps(asked))
    assert status in (400, 413)
    assert b"hostname" not in said
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_no_json_is_refused(visitor: Visitor, capfd: Any) -> None:
    for body in (b"", b"[", b"\xff", b"[" * 60_000, b"3"):
        assert visitor.ask("POST", "/gradio_api/queue/join", body)[0] == 400
    assert "Traceback" not in capfd.readouterr().err


def test_the_state_of_a_visitor_is_nothing_to_send(visitor: Visitor, secret: Path) -> None:
    """The page's function that turns to another map takes no picture, and gets none."""
    assert visitor.join([{"path": str(secret)}, TITLE], "turner", fn_index=TURN)[0] == 200
    assert visitor.shown("turner")["output"]["data"] == [None]


def test_an_upload_is_shown_with_and_without_meta(visitor: Visitor) -> None:
    (path,) = json.loads(visitor.upload(png())[1])
    for session, meta in (("bare", {}), ("full", META)):
        assert visitor.join([{"path": path, **meta}, TITLE], session)[0] == 200
        done = visitor.shown(session)
        assert done["success"]
        assert done["output"]["data"][2].count("<figure") == 8


def test_only_uploads_are_given_out(served: SimpleNamespace, secret: Path) -> None:
    ask = served.visitor.ask
    (path,) = json.loads(served.visitor.upload(png())[1])
    assert ask("GET", f"/gradio_api/file={path}")[0] == 200
    for other in (secret, "/etc/hostname", served.folder, f"{served.folder}/../passport.png"):
        assert ask("GET", f"/gradio_api/file={other}")[0] == 404


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/run/show", "/gradio_api/api/show", "/gradio_api/call/show", "/monitoring",
     "/gradio_api/call/predict", "/gradio_api/openapi.json", "/gradio_api/proxy=http://example.com/",
     "/gradio_api/process_recording", "/gradio_api/vibe-edit", "/gradio_api/runs", "/login",
     "/docs", "//", "/gradio_api/heartbeat/a.b", "/gradio_api/queue/data?session_hash=nobody"],
)  # fmt: skip
def test_what_the_page_does_not_use_is_not_there(visitor: Visitor, path: str, capfd: Any) -> None:
    assert visitor.ask("GET", path)[0] == 404
    assert visitor.ask("POST", path, b"{}")[0] == 404
    assert "Traceback" not in capfd.readouterr().err


def test_programs_are_told_of_two_functions_and_reach_no_other(visitor: Visitor) -> None:
    status, said, _ = visitor.ask("GET", "/gradio_api/info")
    assert status == 200
    assert set(json.loads(said)["named_endpoints"]) == {"/predict", "/network"}
    assert not json.loads(said)["unnamed_endpoints"]
    assert visitor.ask("POST", "/gradio_api/info", b"{}")[0] == 404
    functions = json.loads(visitor.ask("GET", "/config")[1])["dependencies"]
    named = {f["id"]: f["api_name"] for f in functions if f["api_visibility"] == "public"}
    assert named == {guard.PREDICT: "predict", guard.NETWORK: "network"}
    assert len(functions) == guard.NETWORK + 1 + len(ROOMS)


def test_a_room_to_try_is_brought_and_can_be_shown(visitor: Visitor) -> None:
    for place in range(len(ROOMS)):
        assert visitor.join([], fn_index=guard.NETWORK + 1 + place)[0] == 200
        (picture,) = visitor.shown()["output"]["data"]
        assert visitor.join([picture, TITLE])[0] == 200
        assert visitor.shown()["success"]


def test_a_folder_knows_its_own_files(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.png").write_bytes(b"x")
    (folder / "round.png").symlink_to(folder / "a" / "b.png")
    (tmp_path / "own.png").write_bytes(b"x")
    (tmp_path / "door").symlink_to(folder)
    own = Uploads(tmp_path / "door").own
    assert own(folder / "a" / "b.png") == own(folder / "round.png") == folder / "a" / "b.png"
    said = set()
    for wrong in (tmp_path / "own.png", folder, folder / "a", f"{folder}/a/../../own.png", None, 3):
        with pytest.raises(InputError) as refused:
            own(wrong)
        said.add(str(refused.value))
    assert len(said) == 1


# ---- other hosts, other pages ----


def test_only_the_names_it_is_served_under_are_answered(visitor: Visitor) -> None:
    port = visitor.port
    for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST."):
        assert visitor.ask("GET", "/config", headers={"Host": f"{host}:{port}"})[0] == 200
    foreign = ("evil.example", "localhost.evil.example", "10.0.0.1", "@", "")
    odd = ("evil.example", "localhost", f"localhost:{port + 1}", "", ":")
    for host in (*(f"{name}:{port}" for name in foreign), *odd):
        for path in ("/", "/config", "/gradio_api/queue/data?session_hash=x"):
            assert visitor.ask("GET", path, headers={"Host": host})[0] == 421


def test_a_page_for_others_is_served_under_numbers_and_its_own_names() -> None:
    own = socket.gethostname()
    for host in ("0.0.0.0", "::", "192.168.1.5"):
        hosts = Hosts(host, 7860)
        for name in ("192.168.1.5", "[fe80::1]", "localhost", own, own.upper()):
            assert hosts.serves(f"{name}:7860"), name
        for name in ("evil.example", f"{own}.evil.example", "0x7f.evil.example", ""):
            assert not hosts.serves(f"{name}:7860"), name
    assert Hosts("box.lan", 80).serves("box.lan")


def test_other_pages_cannot_upload_or_ask(served: SimpleNamespace) -> None:
    before = sorted(served.folder.rglob("*"))
    origins = ("http://evil.example", "null", "http://localhost:3000")
    for foreign in (*({"Origin": o} for o in origins), {"Sec-Fetch-Site": "cross-site"}):
        assert served.visitor.upload(png(), headers=foreign)[0] == 403
        assert served.visitor.ask("GET", "/config", headers=foreign)[0] == 403
    assert sorted(served.folder.rglob("*")) == before
    own = {"Origin": f"http://127.0.0.1:{served.port}", "Sec-Fetch-Site": "same-origin"}
    assert served.visitor.upload(png(), headers=own)[0] == 200
    link = {"Sec-Fetch-Site": "cross-site"}  # one follows a link to the page
    assert served.visitor.ask("GET", "/", headers=link)[0] == 200


def test_every_answer_forbids_frames_and_guessing(visitor: Visitor) -> None:
    for path in ("/", "/nothing", "/theme.css"):
        headers = visitor.ask("GET", path)[2]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"


# ---- bounds ----


def test_visitors_are_forgotten_in_turn(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtlcli.page import layout

    monkeypatch.setattr(served.page.state_holder, "capacity", 5)
    monkeypatch.setattr(served.page._queue.pending_messages_per_session, "max_size", 5)
    assert served.page.state_session_capacity == layout.SESSIONS <= 100
    (path,) = json.loads(served.visitor.upload(png())[1])
    for i in range(20):
        assert served.visitor.join([{"path": path}, TITLE], f"s{i}")[0] == 200
        assert served.visitor.shown(f"s{i}")["success"]
    assert len(served.page.state_holder.session_data) <= 6
    assert len(served.page._queue.pending_messages_per_session) <= 5


def test_uploads_end_where_the_folder_is_full(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_STORED", Uploads(served.folder).stored() + 200_000)
    said = [served.visitor.upload(os.urandom(30_000))[0] for _ in range(12)]
    assert said[0] == 200
    assert said[-1] == 507
    assert Uploads(served.folder).stored() <= bounds.MOST_STORED + 2 * bounds.PER_FILE
    monkeypatch.setattr(bounds, "MOST_STORED", 0)
    assert served.visitor.join([None, TITLE])[0] == 507  # its pictures would lie there, too
    monkeypatch.undo()
    assert served.visitor.upload(png())[0] == 200


def test_empty_files_fill_the_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STORED", 10 * bounds.PER_FILE)
    for i in range(11):
        (tmp_path / str(i)).touch()
    with pytest.raises(bounds.Refused), Uploads(tmp_path).room_for(0):
        pass


def test_files_of_one_request_count_together(served: SimpleNamespace) -> None:
    before = sorted(served.folder.rglob("*"))
    half = b"0" * (13 * 2**20)
    assert served.visitor.upload(half, half)[0] == 413
    assert sorted(served.folder.rglob("*")) == before


def test_uploads_under_way_count_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STORED", 100_000)
    uploads = Uploads(tmp_path)
    with uploads.room_for(60_000):
        with pytest.raises(bounds.Refused), uploads.room_for(60_000):
            pass
        with uploads.room_for(30_000):
            pass
    with uploads.room_for(60_000):
        pass


def test_a_request_of_unknown_length_is_refused(visitor: Visitor) -> None:
    chunks = iter([b"--b\r\n"] * 3)
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Transfer-Encoding": "chunked"}
    assert visitor.ask("POST", "/gradio_api/upload", chunks, headers)[0] == 411


def test_old_files_go_whoever_left_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sha").mkdir()
    for name in ("tmp123", "sha/a.png"):
        (tmp_path / name).write_bytes(b"x")
    uploads = Uploads(tmp_path)
    uploads.sweep()
    assert len(list(uploads.files())) == 2
    monkeypatch.setattr(bounds, "FORGET", -1)
    uploads.sweep()
    assert not list(uploads.files())


# ---- the command ----

needs_gradio = pytest.mark.skipif(
    find_spec("gradio") is None, reason="gradio is not installed: pip install mtlcli[web]"
)


@needs_gradio
@pytest.mark.parametrize("host", ["nosuch.invalid", "", "192.0.2.1", "a" * 300])
def test_a_host_that_is_not_here_is_said_before_the_network_is_loaded(
    mtl: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlcli.runs.checkpoint.load", lambda *_: pytest.fail("the work began"))
    answer = mtl("serve", "--host", host)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--host" in answer.err


@needs_gradio
def test_a_port_that_is_taken_is_said(mtl: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = mtl("serve", "--port", port)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port}" in answer.err


@needs_gradio
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_page_ends_cleanly_and_leaves_nothing(
    home: Path, save_network: Any, end: signal.Signals
) -> None:
    network, port = save_network(home / "net" / "last.pt"), free_port()
    command = ["serve", str(network), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mtlcli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(home)},
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("Page: " in line for line in lines)
        (folder,) = home.glob("mtl-serve-*")
        visitor = Visitor(port)
        assert visitor.upload(png())[0] == 200
        for path in (folder, home, "/dev/zero"):
            for meta in ({}, META):
                assert visitor.join([{"path": str(path), **meta}, TITLE])[0] == 400
        process.send_signal(end)
        rest = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert "Error" not in rest
    assert not folder.exists()
