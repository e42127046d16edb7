"""`mtl visualize` on videos and cameras: frames in, frames out, a whole file whatever happens."""

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mtlcli.drawing import encode, video
from mtlcli.drawing.threads import Writer, ahead
from mtlcli.drawing.video import open_video
from mtlcli.errors import InputError, RunError


def film(path: Path, frames: int = 12, size: tuple[int, int] = (64, 48), rate: float = 10) -> Path:
    """Frames that grow brighter."""
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    for i in range(frames):
        file.write(np.full((size[1], size[0], 3), min(20 + 15 * i, 250), np.uint8))
    file.release()
    return path


def contents(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    capture.release()
    return frames


def image_brightness(sheet: np.ndarray) -> float:
    """Of the first tile, which is the picture itself."""
    return float(sheet[80:200, 60:200].mean())


class Camera:
    """A camera of grey frames, as OpenCV opens it."""

    def __init__(self, frames: int = 10**6, interrupt_after: int | None = None) -> None:
        self.left, self.interrupt_after, self.released = frames, interrupt_after, False

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), 90, np.uint8) if self.left >= 0 else None

    def get(self, what: int) -> float:
        return 0.0 if what == cv2.CAP_PROP_FPS else -1.0

    def release(self) -> None:
        self.released = True


def test_a_video_becomes_a_video_of_sheets(folder: Path, network: Path, mtl) -> None:
    film(folder / "a.mp4")
    answer = mtl("visualize", "a.mp4", "--checkpoint", network, "--quiet")
    assert answer.code == 0
    assert "visualized/a.mp4 (12 frames, " in answer.out
    assert answer.out.rstrip().endswith(" frames/s)")
    shown = contents(folder / "visualized" / "a.mp4")
    assert len(shown) == 12
    brightness = [image_brightness(sheet) for sheet in shown]
    assert all(a < b for a, b in pairwise(brightness))
    capture = cv2.VideoCapture(str(folder / "visualized" / "a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_only_the_first_frames_and_some_tasks(folder: Path, network: Path, mtl) -> None:
    film(folder / "a.mp4")
    answer = mtl("visualize", "a.mp4", "--frames", 3, "--tasks", "depth", "--checkpoint", network,
                 "--quiet")  # fmt: skip
    assert "(3 frames, " in answer.out
    assert len(contents(folder / "visualized" / "a.mp4")) == 3


def test_two_networks_are_shown_in_rows(folder: Path, network: Path, save_network, mtl) -> None:
    other = save_network(folder / "b" / "last.pt", seed=5)
    film(folder / "a.mp4", 3)
    assert mtl("visualize", "a.mp4", "--compare", network, other, "--quiet").code == 0
    assert len(contents(folder / "visualized" / "a.mp4")) == 3


def test_progress_says_frames_per_second(folder: Path, network: Path, mtl, monkeypatch) -> None:
    from mtlcli.drawing import stream

    bars = []

    def bar(**options: Any) -> Any:
        bars.append(options)
        return real(**{**options, "disable": False})

    real = stream.tqdm
    monkeypatch.setattr(stream, "tqdm", bar)
    answer = mtl("visualize", film(folder / "a.mp4", 4), "--checkpoint", network)
    assert bars[0]["total"] == 4
    assert "frame/s" in answer.err or "s/frame" in answer.err


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0\0\0\x18ftypmp42"])
def test_what_is_no_video_is_one_line(folder: Path, network: Path, mtl, content) -> None:
    (folder / "a.mp4").write_bytes(content)
    answer = mtl("visualize", "a.mp4", "--checkpoint", network)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "a.mp4" in answer.err


def test_a_video_without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "capture_of", lambda source: Camera(frames=0))
    with pytest.raises(InputError, match=r"a\.mp4 gives no frames"), open_video(Path("a.mp4")):
        pass


def test_a_camera_that_does_not_exist(folder: Path, network: Path, mtl) -> None:
    answer = mtl("visualize", 97, "--checkpoint", network)
    assert answer.code == 2
    assert answer.err == "mtl: There is no camera 97; the first is 0.\n"


def test_a_camera_stops_after_so_many_frames(
    folder: Path, network: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera()
    monkeypatch.setattr(video, "capture_of", lambda source: camera)
    answer = mtl("visualize", 0, "--frames", 5, "--checkpoint", network, "--quiet")
    assert answer.code == 0
    assert "visualized/camera0.mp4 (5 frames, " in answer.out
    assert contents(folder / "visualized" / "camera0.mp4")
    assert camera.released


def test_a_slow_network_s_frames_of_a_camera_are_shown_for_as_long_as_they_took(
    folder: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtlcli.drawing import stream
    from mtlcli.drawing.networks import load_networks

    drawn = []

    def slow(*arguments: Any) -> Any:
        time.sleep(0.25)
        return real(*arguments)

    def counted(painter: Any, shot: Any) -> np.ndarray:
        drawn.append(1)
        return paint(painter, shot)

    real, paint = stream.all_logits, stream.Painter.__call__
    monkeypatch.setattr(stream, "all_logits", slow)
    monkeypatch.setattr(stream.Painter, "__call__", counted)
    monkeypatch.setattr(video, "capture_of", lambda source: Camera())
    target = folder / "out.mp4"
    played = stream.play(load_networks([network], (), "cpu"), 0, target, frames=4, quiet=True)
    assert played.frames == len(drawn) == 4
    with av.open(str(target)) as file:
        assert file.streams.video[0].frames == 4
        assert file.duration / av.time_base >= 1


def test_frames_together_give_the_maps_of_each_alone(network: Path) -> None:
    from mtlcli.drawing.networks import all_logits, inputs, load_networks, one_by_one

    networks = load_networks([network], (), "cpu")
    images = list(np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8))
    together = list(one_by_one(all_logits(networks, inputs(networks, images))))
    assert len(together) == 3
    for image, logits in zip(images, together):
        ((name, alone),) = all_logits(networks, inputs(networks, [image])).items()
        assert list(alone) == list(logits[name])
        for task, wanted in alone.items():
            assert logits[name][task].shape == wanted.shape
            np.testing.assert_allclose(logits[name][task], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("source", "code", "frames"), [(0, 0, 3), ("a.mp4", 130, 12)])
def test_ctrl_c_leaves_a_whole_file(
    folder: Path,
    network: Path,
    mtl,
    monkeypatch: pytest.MonkeyPatch,
    source,
    code: int,
    frames: int,
) -> None:
    from mtlcli.drawing import stream

    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    real = stream.all_logits
    monkeypatch.setattr(stream, "all_logits", interrupted)
    if source == 0:
        monkeypatch.setattr(video, "capture_of", lambda source: Camera())
    else:
        film(folder / source, 20)
    answer = mtl("visualize", source, "--checkpoint", network, "--quiet")
    assert answer.code == code
    assert f"({frames} frames, " in answer.out
    (written,) = (folder / "visualized").glob("*.mp4")
    assert contents(written)


def test_a_folder_with_a_bad_video_finishes_the_others(folder: Path, network: Path, mtl) -> None:
    (folder / "in").mkdir()
    film(folder / "in" / "b.mp4", 2)
    (folder / "in" / "a.mp4").write_bytes(b"junk")
    answer = mtl("visualize", "in", "--checkpoint", network, "--quiet")
    assert answer.code == 1
    assert "in/a.mp4" in answer.err
    assert "visualized/b.mp4" in answer.out


def test_separate_files_of_a_video_are_those_of_each_frame(
    folder: Path, network: Path, mtl
) -> None:
    film(folder / "a.mp4", 3)
    answer = mtl("visualize", "a.mp4", "--separate", "--checkpoint", network, "--frames", 2)
    assert answer.code == 0
    out = folder / "visualized"
    frames = ["000001", "000002"]
    assert sorted(p.stem for p in (out / "depth" / "a").iterdir()) == frames
    assert sorted(p.stem for p in (out / "a").glob("*.npz")) == frames


@pytest.mark.parametrize(("layout", "width"), [("picture,depth", 128), ("normals", 64)])
def test_panels_stand_side_by_side_at_the_size_of_the_video(
    folder: Path, network: Path, mtl, layout: str, width: int
) -> None:
    film(folder / "a.mp4", 3)
    answer = mtl("visualize", "a.mp4", "--layout", layout, "--checkpoint", network, "--quiet")
    assert answer.code == 0
    shown = contents(folder / "visualized" / "a.mp4")
    assert [frame.shape for frame in shown] == [(48, width, 3)] * 3
    if width == 128:
        given = [float(frame.mean()) for frame in contents(folder / "a.mp4")]
        assert [float(f[:, 8:56].mean()) for f in shown] == pytest.approx(given, abs=4)


def with_sound(path: Path, times: list[int]) -> Path:
    """Grey frames shown at these milliseconds, and a second of a tone, as Matroska."""
    with av.open(str(path), "w") as file:
        seen, heard = file.add_stream("mpeg4", rate=25), file.add_stream("pcm_s16le", rate=8000)
        seen.width, seen.height, seen.pix_fmt = 64, 48, "yuv420p"
        seen.codec_context.time_base = Fraction(1, 1000)
        for time_ms in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(seen.encode(frame))
        file.mux(seen.encode(None))
        tone = (9000 * np.sin(np.arange(8000) / 3)).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.rate, sound.pts, sound.time_base = 8000, 0, Fraction(1, 8000)
        file.mux(heard.encode(sound))
        file.mux(heard.encode(None))
    return path


def test_what_comes_out_plays_in_browsers_with_the_sound_and_the_times_of_what_went_in(
    folder: Path, network: Path, mtl
) -> None:
    times = [0, 40, 200, 240, 640, 960]
    with_sound(folder / "a.mkv", times)
    answer = mtl("visualize", "a.mkv", "--checkpoint", network, "--quiet")
    assert answer.code == 0, answer.err
    with av.open(str(folder / "visualized" / "a.mp4")) as file:
        seen, heard = file.streams.video[0], file.streams.audio[0]
        assert (seen.codec_context.name, seen.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(seen.duration * seen.time_base) == pytest.approx(1, abs=0.01)
        assert heard.codec_context.name == "aac"
        packets = list(file.demux())
        shown = sorted(
            p.pts * p.time_base for p in packets if p.pts is not None and p.stream == seen
        )
        assert [float(t) for t in shown] == pytest.approx([t / 1000 for t in times], abs=1e-3)
        length = sum(
            p.duration * p.time_base for p in packets if p.pts is not None and p.stream == heard
        )
        assert float(length) == pytest.approx(1, abs=0.2)


def pcm_film(path: Path, rate: int) -> Path:
    """Ten frames in a second, and as long a tone of this many samples a second, as QuickTime."""
    with av.open(str(path), "w") as file:
        seen = file.add_stream("mpeg4", rate=10)
        heard = file.add_stream("pcm_s16le", rate=rate, layout="mono")
        seen.width, seen.height, seen.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            grey = np.full((48, 64, 3), 99, np.uint8)
            file.mux(seen.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(seen.encode(None))
        tone = (9000 * np.sin(np.arange(rate) / 9)).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.rate, sound.pts = rate, 0
        file.mux(heard.encode(sound))
        file.mux(heard.encode(None))
    return path


@pytest.mark.parametrize(("rate", "kept"), [(22000, 22050), (192_000, 48_000), (44_100, 44_100)])
def test_sound_of_any_rate_is_kept(folder: Path, network: Path, mtl, rate: int, kept: int) -> None:
    pcm_film(folder / "a.mov", rate)
    answer = mtl("visualize", "a.mov", "--layout", "depth", "--checkpoint", network, "--quiet")
    assert answer.code == 0, answer.err
    with av.open(str(folder / "visualized" / "a.mp4")) as file:
        heard = file.streams.audio[0]
        assert (heard.codec_context.name, heard.rate) == ("aac", kept)
        assert float(heard.duration * heard.time_base) == pytest.approx(1, abs=0.1)


def test_a_film_whose_sound_cannot_be_kept_is_drawn_without_and_says_so(
    folder: Path, network: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "RATES", (22_000,))  # which AAC has not
    pcm_film(folder / "a.mov", 22_000)
    answer = mtl("visualize", "a.mov", "--layout", "depth", "--checkpoint", network, "--quiet")
    assert answer.code == 0, answer.err
    assert "lacks sound" in answer.err
    assert len(contents(folder / "visualized" / "a.mp4")) == 10


@pytest.mark.parametrize(("aspect", "size"), [((2, 1), (96, 48)), ((1, 2), (48, 96))])
def test_frames_of_pixels_that_are_not_square_come_out_as_they_are_seen(
    folder: Path, network: Path, mtl, aspect: tuple[int, int], size: tuple[int, int]
) -> None:
    with av.open(str(folder / "a.mp4"), "w") as file:
        seen = file.add_stream("libx264", rate=10)
        seen.width, seen.height, seen.pix_fmt = 48, 48, "yuv420p"
        seen.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for _ in range(3):
            grey = np.full((48, 48, 3), 99, np.uint8)
            file.mux(seen.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(seen.encode(None))
    answer = mtl("visualize", "a.mp4", "--layout", "depth", "--checkpoint", network, "--quiet")
    assert answer.code == 0, answer.err
    shown = contents(folder / "visualized" / "a.mp4")
    assert {frame.shape[1::-1] for frame in shown} == {size}


def test_a_file_that_cannot_be_written(folder: Path, network: Path, mtl) -> None:
    film(folder / "a.mp4", 30)
    (folder / "taken").write_text("a file")
    for out in ("taken", "taken/below"):
        answer = mtl("visualize", "a.mp4", "--checkpoint", network, "--out", out, "--quiet")
        assert answer.code == 2
        assert "taken is a file, no folder" in answer.err
    (folder / "there").mkdir()
    (folder / "there" / "a.mp4").symlink_to(folder / "nowhere" / "a.mp4")
    answer = mtl("visualize", "a.mp4", "--checkpoint", network, "--out", "there", "--quiet")
    assert answer.code == 1
    assert "Cannot write there/a.mp4" in answer.err


# ---- threads ----


def test_things_are_made_ahead_in_order_and_errors_come_out() -> None:
    made = []

    def things() -> Iterator[int]:
        for i in range(6):
            made.append(i)
            yield i
        raise InputError("the end is bad")

    with ahead(things()) as steps:
        assert next(steps) == 0
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(made) >= 4
        with pytest.raises(InputError, match="the end is bad"):
            list(steps)


def test_an_unfinished_reader_ends_its_thread() -> None:
    before = threading.active_count()
    with ahead(iter(range(10**9))) as steps:
        next(steps)
    assert threading.active_count() == before


def test_a_failing_writer_says_so(tmp_path: Path) -> None:
    def draw(thing: Any) -> np.ndarray:
        raise RunError("cannot draw")

    def write() -> None:
        with Writer(tmp_path / "a.mp4", 10, draw) as file:
            for _ in range(20):
                file.put(0)

    with pytest.raises(RunError, match="cannot draw"):
        write()


class Reel(Camera):
    """A file whose frames begin at these milliseconds and are as bright as their number; None is a
    frame that cannot be read.
    """

    def __init__(self, times: list[float | None], rate: float, count: int | None = None) -> None:
        super().__init__()
        self.times, self.rate, self.place = times, rate, -1
        self.count = len(times) if count is None else count

    def read(self) -> tuple[bool, Any]:
        self.place += 1
        if self.place >= len(self.times) or self.times[self.place] is None:
            return False, None
        return True, np.full((48, 64, 3), self.place, np.uint8)

    def grab(self) -> bool:
        return self.read()[0]

    def get(self, what: int) -> float:
        now = self.times[min(max(self.place, 0), len(self.times) - 1)]
        return {
            cv2.CAP_PROP_FPS: self.rate,
            cv2.CAP_PROP_FRAME_COUNT: float(self.count),
            cv2.CAP_PROP_POS_MSEC: now or 0.0,
        }.get(what, float(int.from_bytes(b"av01", "little")))


def played(monkeypatch: pytest.MonkeyPatch, *reel: Any) -> tuple[float, int, list[int]]:
    """Rate, lost frames, and the number of the frame that each shown one shows."""
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Reel(*reel))
    with open_video(Path("a.mp4")) as opened:
        shown = [int(frame[0, 0, 0]) for frame, times in opened.frames for _ in range(times)]
    return opened.rate, opened.frames.lost, shown


@pytest.mark.parametrize("rate", [0.5, 7.3, 10, 23.976, 29.97, 60, 300])
def test_a_steady_video_keeps_its_rate_and_every_frame(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    times = [round(1000 * i / rate, 1) for i in range(40)]
    assert played(monkeypatch, times, rate) == (rate, 0, list(range(40)))


@pytest.mark.parametrize("gaps", [[33, 100], [40, 500], [20, 45, 150], [1000, 100], [333, 35]])
def test_an_uneven_video_keeps_its_time(monkeypatch: pytest.MonkeyPatch, gaps: list[float]) -> None:
    times = np.cumsum([0, *np.repeat(gaps, 20)]).astype(float) + 80
    average = 1000 * (len(times) - 1) / (times[-1] - times[0])
    rate, lost, shown = played(monkeypatch, times.tolist(), average)
    assert lost == 0
    for place, frame in enumerate(shown):
        begins = times[frame] - times[0]
        ends = times[min(frame + 1, len(times) - 1)] - times[0]
        assert begins - 50 <= 1000 * place / rate <= max(begins, ends) + 50


@pytest.mark.parametrize("bad", [range(5, 8), range(1, 30), [3, 9, 10, 20]])
def test_a_bad_stretch_is_passed_over_and_counted(
    monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    times = [None if i in bad else 100.0 * i for i in range(40)]
    rate, lost, shown = played(monkeypatch, times, 10.0)
    assert (rate, lost) == (10, len(bad))
    assert set(shown) == set(range(40)) - set(bad)
    assert len(shown) == 40  # the frame before is shown meanwhile


def test_a_file_that_is_cut_short_has_lost_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert played(monkeypatch, [0.0, 100.0, 200.0], 10.0, 20)[1] == 17
    assert played(monkeypatch, [100.0 * i for i in range(98)], 10.0, 100)[1] == 0  # an estimate


def test_lost_frames_are_told_and_end_with_1(
    folder: Path, network: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(folder / "a.mp4", frames=6)
    whole = cv2.VideoCapture

    def damaged(name: Any) -> Any:
        return Reel([0.0, 100.0, None, None, 400.0], 10.0) if "a.mp4" in str(name) else whole(name)

    monkeypatch.setattr(video.cv2, "VideoCapture", damaged)
    answer = mtl("visualize", "a.mp4", "--checkpoint", network, "--quiet")
    assert answer.code == 1
    assert "a.mp4: 2 frames could not be read" in answer.err


def test_a_codec_that_cannot_be_decoded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Reel([None], 10.0))
    with (
        pytest.raises(InputError, match="gives no frames: its codec av01"),
        open_video(Path("a.mp4")),
    ):
        pass


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_a_still_picture_is_a_picture_and_an_animation_says_so(
    folder: Path, network: Path, mtl, ending: str
) -> None:
    from PIL import Image

    frames = [Image.new("RGB", (48, 40), (c, 90, 200)) for c in (0, 120, 240)]
    frames[0].save(folder / f"still{ending}")
    frames[0].save(folder / f"moving{ending}", save_all=True, append_images=frames[1:])
    options = ("--checkpoint", network, "--quiet")
    answer = mtl("visualize", f"still{ending}", *options)
    assert (answer.code, answer.out.strip()) == (0, "visualized/still.png")
    assert "animation" not in answer.err
    answer = mtl("visualize", f"moving{ending}", *options)
    assert answer.code == 0
    assert ("mp4" in answer.out) == (ending == ".gif")
    assert ("is an animation" in answer.err) == (ending != ".gif")
