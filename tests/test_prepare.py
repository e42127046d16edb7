"""`mtl prepare`: complete or not at all, the same bytes every time, whatever happened before."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlcli import files
from mtlcli.data import convert
from mtlcli.data.hdf5 import read_info
from mtlcli.data.inspect import check
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.datasets import nyud
from mtlcli.datasets._dataset import Remote, Source
from mtlcli.errors import InputError, RunError

Bundle = Callable[..., Path]
KILLS = int(os.environ.get("MTL_KILLS", "5"))


def tarred(root: Path) -> Path:
    return Path(shutil.make_archive(str(root), "gztar", root.parent, root.name))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.setenv("MTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("layout", ["atrc", "mti"])
def test_bytes_do_not_depend_on_workers_or_on_the_day(
    make_bundle: Bundle, home: Path, tmp_path: Path, layout: str, packed: bool
) -> None:
    root = make_bundle(tmp_path, layout, train=9, val=4)
    archive = tarred(root) if packed else root
    one = prepare("nyud", archive=archive, workers=1, quiet=True).read_bytes()
    two = prepare("nyud", archive=archive, workers=2, force=True, quiet=True).read_bytes()
    assert one == two
    assert leftovers(home / "datasets") == ["nyud.h5"]


def test_what_is_complete_is_not_made_again(
    make_bundle: Bundle, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_bundle(tmp_path)
    made = prepare("nyud", archive=root, quiet=True)
    monkeypatch.setattr(convert, "in_order", None)  # nothing may be converted from here on
    shutil.rmtree(root)
    assert prepare("nyud", archive=root, quiet=True) == made
    assert prepare("nyud", quiet=True) == made


def test_other_options_need_force(make_bundle: Bundle, home: Path, tmp_path: Path) -> None:
    root = make_bundle(tmp_path)
    prepare("nyud", archive=root, limit=1, quiet=True)
    with pytest.raises(InputError, match=r"made with .*--limit 1; pass --force"):
        prepare("nyud", archive=root, quiet=True)
    made = prepare("nyud", archive=root, force=True, quiet=True)
    assert len(Reader(made, "train")) == 3


def test_what_was_made_is_told_as_json(home: Path, mtl) -> None:
    answer = mtl("prepare", "rooms", "--size", "24x32", "--train", 1, "--val", 1, "--workers", 1,
                 "--quiet", "--json")  # fmt: skip
    record = json.loads(answer.out)
    assert record["bytes"] == Path(record["file"]).stat().st_size


def test_a_default_that_is_typed_out_is_no_other_request(home: Path) -> None:
    small = {"size": (24, 32), "limit": 1, "workers": 1, "quiet": True}
    made = prepare("rooms", **small)
    stamp = made.stat().st_mtime_ns
    assert prepare("rooms", **small, train=400, val=100, seed=0).stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="was made with"):
        prepare("rooms", **small, seed=1)
    with pytest.raises(InputError, match="was made with"):
        prepare("rooms", **small | {"size": (120, 160)})


def test_limit_keeps_the_first_of_each_split(
    make_bundle: Bundle, home: Path, tmp_path: Path
) -> None:
    made = prepare("nyud", archive=make_bundle(tmp_path), limit=2, quiet=True)
    assert Reader(made, "train").ids == ("0000", "0001")
    assert Reader(made, "val").ids == ("1000", "1001")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "--limit must be 1"),
        ({"size": (48, 64)}, "--size does not apply"),
        ({"source": "elsewhere"}, "no source 'elsewhere'; it has atrc, mti, official"),
        ({"source": "mti"}, "give one of them"),
        ({"archive": Path("nowhere.tar")}, "--archive nowhere.tar is not there"),
        ({"geometry": "1x1"}, "'1x1' is not one of 425x560, 480x640"),
    ],
)
def test_options_that_make_no_sense_are_told(
    make_bundle: Bundle, home: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        prepare("nyud", **{"archive": make_bundle(tmp_path), "quiet": True} | options)
    assert not (home / "datasets" / "nyud.h5").exists()


def test_unknown_datasets_are_told(home: Path) -> None:
    with pytest.raises(InputError, match=r"no dataset 'nyu'. Did you mean 'nyud'"):
        prepare("nyu", quiet=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_sample_stops_all_and_leaves_nothing(
    make_bundle: Bundle, home: Path, tmp_path: Path, workers: int
) -> None:
    root = make_bundle(tmp_path, train=12)
    bad = root / "segmentation/0009.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"segmentation/0009\.png"):
        prepare("nyud", archive=root, workers=workers, quiet=True)
    assert leftovers(home / "datasets") == []


@pytest.mark.parametrize(
    ("member", "shape", "said"),
    [
        ("edge/0001.png", (12, 16), r"train sample '0001': edge is 12x16, its image is 24x32"),
        ("images/0001.png", (30, 30, 3), r"'0001': image is 30x30, this dataset's are 24x32"),
    ],
)
def test_sizes_that_differ_are_told(
    make_bundle: Bundle, home: Path, tmp_path: Path, member: str, shape: tuple[int], said: str
) -> None:
    root = make_bundle(tmp_path)
    Image.fromarray(np.zeros(shape, np.uint8)).save(root / member)
    with pytest.raises(InputError, match=said):
        prepare("nyud", archive=root, workers=1, quiet=True)


def test_a_full_disk_is_told_and_harms_nothing(
    make_bundle: Bundle, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_bundle(tmp_path, train=12)
    expected = prepare("nyud", archive=root, workers=1, quiet=True).read_bytes()
    (home / "datasets/nyud.h5").unlink()
    read, calls = nyud.Bundle.read, iter(range(10**6))

    def fill_up(self: nyud.Bundle, *place: Any) -> Any:
        if next(calls) == 7:
            raise OSError(28, "No space left on device")
        return read(self, *place)

    with monkeypatch.context() as patch:
        patch.setattr(nyud.Bundle, "read", fill_up)
        with pytest.raises(RunError, match="No space left on the disk of"):
            prepare("nyud", archive=root, workers=1, quiet=True)
    assert not (home / "datasets/nyud.h5").exists()
    assert prepare("nyud", archive=root, workers=1, quiet=True).read_bytes() == expected
    assert leftovers(home / "datasets") == ["nyud.h5"]


def test_too_little_space_is_told_before(
    make_bundle: Bundle, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(RunError, match=r"0\.0 MB free, 0\.0 MB are needed"):
        prepare("nyud", archive=make_bundle(tmp_path), quiet=True)


def test_two_at_once_are_told(make_bundle: Bundle, home: Path, tmp_path: Path) -> None:
    import fcntl

    work = home / "datasets" / "nyud.h5.work"
    work.mkdir(parents=True)
    with open(work / "mtl-prepare.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"Another `mtl prepare` is at work"):
            prepare("nyud", archive=make_bundle(tmp_path), quiet=True)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address and the folder of a server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def point_at(monkeypatch: pytest.MonkeyPatch, base: str, **files: str) -> None:
    """Let the sources of NYUD be files of the server."""
    sources = {
        name: Source(title=name, files=(Remote(file=file, urls=(f"{base}/{file}",)),))
        for name, file in files.items()
    }
    monkeypatch.setattr(nyud, "DATASET", dataclasses.replace(nyud.DATASET, sources=sources))


def test_sources_are_tried_in_order_and_downloads_go_away(
    make_bundle: Bundle,
    home: Path,
    tmp_path: Path,
    served: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, folder = served
    archive = tarred(make_bundle(tmp_path))
    whole = archive.read_bytes()
    (folder / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.tar.gz").write_bytes(whole)
    point_at(monkeypatch, base, atrc="absent.tar.gz", mti="cut.tar.gz", official="whole.tar.gz")
    made = prepare("nyud", workers=1, quiet=True)
    info = read_info(made)
    assert [a["name"] for a in info.archives] == ["whole.tar.gz"]
    assert leftovers(home / "datasets") == ["downloads", "nyud.h5", "sources.json"]
    assert leftovers(home / "datasets" / "downloads") == []
    assert "cut.tar.gz" not in files.read_json(home / "datasets" / "sources.json")
    prepare("nyud", source="official", keep=True, force=True, workers=1, quiet=True)
    assert leftovers(home / "datasets" / "downloads") == ["whole.tar.gz"]


def test_without_any_source_the_user_learns_what_to_do(
    home: Path,
    served: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    mtl: Callable[..., Any],
) -> None:
    base, _ = served
    point_at(monkeypatch, base, atrc="a.tar.gz", mti="b.tar.gz")
    answer = mtl("prepare", "nyud", "--quiet")
    assert (answer.code, answer.out) == (1, "")
    lines = answer.err.splitlines()
    assert lines[0].startswith("mtl: ")
    for file in ("a.tar.gz", "b.tar.gz"):
        assert sum(file in line and "HTTP 404" in line for line in lines) == 1
        assert sum(line.endswith(f"{file} from {base}/{file}") for line in lines) == 1
    assert lines[-1].endswith("mtl prepare nyud --archive PATH")
    assert len(lines) == 7


def test_a_source_that_failed_is_told_once(
    make_bundle: Bundle,
    home: Path,
    tmp_path: Path,
    served: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    mtl: Callable[..., Any],
) -> None:
    base, folder = served
    shutil.move(tarred(make_bundle(tmp_path)), folder / "whole.tar.gz")
    point_at(monkeypatch, base, atrc="absent.tar.gz", mti="whole.tar.gz")
    answer = mtl("prepare", "nyud", "--workers", 1)
    assert answer.code == 0
    assert answer.err.count("absent.tar.gz") == answer.err.count("HTTP 404") == 1
    assert "absent.tar.gz" not in answer.out


DRIVER = """
import dataclasses, sys
from pathlib import Path
from mtlcli.data.progress import Bars
from mtlcli.datasets import nyud, pascal
from mtlcli.datasets._dataset import Remote, Source
from mtlcli.data.prepare import prepare

if __name__ == "__main__":
    url, file = sys.argv[1:]
    remote = Remote(file=file, urls=(url,))
    nyud.DATASET = dataclasses.replace(
        nyud.DATASET, sources={"atrc": Source(title="", files=(remote,))}
    )
    print("ready", flush=True)
    prepare("nyud", workers=2, keep=True, quiet=True)
"""


class Slow(Quiet):
    """Serves in small pieces with pauses, and honours Range, so that a kill meets a download."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        span = self.headers["Range"]
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        try:
            for at in range(start, len(data), 1 << 19):
                self.wfile.write(data[at : at + (1 << 19)])
                time.sleep(0.02)
        except OSError:
            return


@pytest.mark.timeout(600 + 60 * KILLS)
def test_kill_at_any_moment_then_go_on_gives_the_same_bytes(
    make_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tarred(make_bundle(tmp_path, train=40, val=20, shape=(120, 160)))
    handler = partial(Slow, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    address = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    command = [sys.executable, str(script), address, archive.name]

    def run(home: Path, kill_after: float | None = None) -> float | None:
        """Run prepare; the seconds it took, None if it was killed."""
        environment = os.environ | {"MTL_HOME": str(home)}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, cwd=tmp_path
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            began = time.monotonic()
            try:
                assert process.wait(kill_after) == 0
                return time.monotonic() - began
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        return None

    try:
        whole = run(tmp_path / "undisturbed")
        assert whole is not None
        expected = (tmp_path / "undisturbed/datasets/nyud.h5").read_bytes()
        moments = np.random.default_rng(0).uniform(0, whole, KILLS)
        home, kills = tmp_path / "home", 0
        for moment in moments:
            if run(home, float(moment)) is not None:
                shutil.rmtree(home)  # came through: start over
            else:
                kills += 1
                file = home / "datasets/nyud.h5"
                assert not file.exists() or file.read_bytes() == expected
        assert run(home) is not None
        assert kills > KILLS // 3
        assert (home / "datasets/nyud.h5").read_bytes() == expected
        assert leftovers(home / "datasets") == ["downloads", "nyud.h5", "sources.json"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_prepared_file_passes_its_own_check(
    make_bundle: Bundle, home: Path, tmp_path: Path
) -> None:
    assert "5 samples" in check(prepare("nyud", archive=make_bundle(tmp_path), quiet=True))
