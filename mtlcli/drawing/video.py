"""Frames of videos and cameras, read and written while others work."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import cv2
import numpy as np

from mtlcli.errors import InputError, RunError
from mtlcli.files import mark_video
from mtlcli.maps._picture import silence_opencv

T = TypeVar("T")
WAITING = 4  # frames between one thread and the next
USUAL_RATE = 25.0  # frames/s where a video does not say
SLOWEST, FASTEST = 0.01, 1000.0  # frames/s that are believed
FINE_RATE = 1000.0  # steps a second in which an uneven video keeps its time
LOOKED_AT = 500  # frames, to see whether it is uneven
UNEVEN = 2.0  # milliseconds that a frame may be shown too early or late
LONGEST = 36_000  # seconds that a frame is shown
TRIES = 1000  # frames in a row that may be unreadable
FEW, FEW_SHARE = 3, 0.05  # frames that a file may have less than it says


@dataclass(frozen=True, kw_only=True)
class Video:
    """An opened video or camera, at its first frame."""

    name: str
    rate: float  # frames/s, or the steps a second in which its frames are timed
    count: int | None  # frames, as far as the file says
    frames: "Frames"


@contextmanager
def open_video(source: Path | int) -> Iterator[Video]:
    """A video file, or the camera of that number.

    Raises:
        InputError: no such camera, not a video, or one without frames.
    """
    capture = capture_of(source)
    try:
        there, first = capture.read()
        if isinstance(source, int):
            if not there:
                raise InputError(f"Camera {source} gives no frames.")
            frames = Frames(capture, first, USUAL_RATE)
            yield Video(name=f"camera{source}", rate=USUAL_RATE, count=None, frames=frames)
            return
        if not there:
            raise InputError(f"{source} gives no frames{describe_codec(capture)}.")
        count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if SLOWEST <= rate <= FASTEST else USUAL_RATE
        if rate < FINE_RATE and is_uneven(source, rate):
            rate = FINE_RATE
        frames = Frames(capture, first, rate, count)
        yield Video(name=source.stem, rate=rate, count=count or None, frames=frames)
    finally:
        capture.release()


def capture_of(source: Path | int) -> Any:
    """OpenCV's reader, without what it would print.

    Raises:
        InputError: it cannot be opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    with silence_opencv():
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if capture.isOpened():
        return capture
    if isinstance(source, int):
        raise InputError(f"There is no camera {source}; the first is 0.")
    raise InputError(f"{source} is not a readable video.")


def describe_codec(capture: Any) -> str:
    """What to add of a video that cannot be decoded; "" if it does not say its codec."""
    number = max(0, int(capture.get(cv2.CAP_PROP_FOURCC)))
    name = number.to_bytes(8, "little")[:4].decode("latin-1").strip("\0 ")
    if not name.isprintable() or not name:
        return ""
    return f": its codec {name} cannot be decoded here; convert it to H.264 in an .mp4"


def is_uneven(source: Path, rate: float) -> bool:
    """Whether frames of a file begin far from every multiple of 1 / rate."""
    capture = capture_of(source)
    try:
        times = [capture.get(cv2.CAP_PROP_POS_MSEC) for _ in range(LOOKED_AT) if capture.grab()]
    finally:
        capture.release()
    places = (np.array(times) - times[0]) * rate / 1000 if times else np.zeros(0)
    off = np.abs(places - places.round()) * 1000 / rate
    return bool(off.max(initial=0) > UNEVEN)


class Frames:
    """The frames of an opened video, RGB (H, W, 3) uint8, each with for how many steps of 1 / rate
    it is shown, so that the file's time is kept. What cannot be read is passed over and counted.

    Args:
        capture: OpenCV's, which has given the first frame.
        first: that frame.
        rate: steps a second.
        count: frames, as far as the file says; None of a camera, whose frames come at once.
    """

    def __init__(
        self, capture: Any, first: np.ndarray, rate: float, count: int | None = None
    ) -> None:
        self.capture, self.first, self.rate, self.live = capture, first, rate, count is None
        self.count = count or 0
        self.lost = 0  # frames that could not be read, as far as known so far
        self.past = 0.0  # milliseconds from the first frame to the last that was read

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        if self.live:
            frames = chain([self.first], self._others())
            yield from ((cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), 1) for frame in frames)
            return
        shown, place = self.first, 0
        start = before = self._time()
        longest = max(1, round(LONGEST * self.rate))
        for frame in self._others():
            now = max(self._time(), before)
            if now <= before:  # the file does not say when
                now = before + 1000 / self.rate
            before, self.past = now, now - start
            then = round((now - start) / 1000 * self.rate)
            if then > place:
                yield cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), min(then - place, longest)
                place = then
            shown = frame
        last = round(FINE_RATE / USUAL_RATE) if self.rate == FINE_RATE else 1
        yield cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), last

    def _others(self) -> Iterator[np.ndarray]:
        given, failed = 1, 0  # failed: in a row
        while True:
            there, frame = self.capture.read()
            if there:
                self.lost += failed
                given, failed = given + 1, 0
                yield frame
                continue
            failed += 1
            if failed > TRIES or given + self.lost + failed > self.count:
                break
        # Of some files the count is their length times their rate, however few frames there are.
        passed = round(self.past / 1000 * self.capture.get(cv2.CAP_PROP_FPS)) + 1
        missing = self.count - max(given + self.lost, passed)
        if missing > max(FEW, FEW_SHARE * self.count):  # some files only estimate their count
            self.lost += missing

    def _time(self) -> float:
        """Milliseconds, of the frame that was read last."""
        return float(self.capture.get(cv2.CAP_PROP_POS_MSEC))


@contextmanager
def ahead(make: Iterable[T]) -> Iterator[Iterator[T]]:
    """The same things, made in a thread of their own some steps ahead; its error comes out here."""
    made: Queue[tuple[bool, Any]] = Queue(WAITING)
    stop = Event()

    def work() -> None:
        try:
            for thing in make:
                if not offer(made, (True, thing), stop):
                    return
            offer(made, (False, None), stop)
        except BaseException as error:
            offer(made, (False, error), stop)

    def taken() -> Iterator[T]:
        while (answer := made.get())[0]:
            yield answer[1]
        if answer[1] is not None:
            raise answer[1]

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()


def offer(queue: Queue, thing: Any, stop: Event) -> bool:
    """Put it there as soon as there is room; False if told to stop before."""
    while not stop.is_set():
        try:
            queue.put(thing, timeout=0.1)
        except Full:
            continue
        return True
    return False


class Writer:
    """A video file written by a thread of its own; use it in a `with`, which ends the file.

    Args:
        path: of the .mp4.
        rate: frames/s.
        draw: makes the RGB (H, W, 3) uint8 frame, H and W even, of what `put` is given; it runs in
            the writer's thread.
        source: video whose sound is kept.
    """

    def __init__(
        self,
        path: Path,
        rate: float,
        draw: Callable[[Any], np.ndarray],
        source: Path | None = None,
    ) -> None:
        self.path, self.rate, self.draw, self.source = path, rate, draw, source
        self.given = 0  # steps put
        self._queue: Queue[Any] = Queue(WAITING)
        self._end, self._failed = Event(), Event()
        self._error: BaseException | None = None
        self._file: Any = None
        self._thread = Thread(target=self._work, daemon=True)

    def put(self, thing: Any, times: int = 1) -> None:
        """Hand over what one frame is drawn of, and for how many steps of 1 / rate it is shown.

        Raises:
            RunError: the file cannot be written.
        """
        if times > 0 and not offer(self._queue, (thing, times), self._failed):
            self._complain()
        self.given += max(0, times)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._end.set()
        self._thread.join()
        if self._file is not None:
            try:
                self._file.close()
            except RunError as failed:  # the first error is the one to tell
                self._error = self._error or failed
            with suppress(OSError):  # a full disk: the film stands, but is not replaced unasked
                mark_video(self.path)
        if kind is None and self._error:
            self._complain()

    def _work(self) -> None:
        try:
            while not (self._end.is_set() and self._queue.empty()):
                try:
                    thing, times = self._queue.get(timeout=0.05)
                except Empty:
                    continue
                self._write(self.draw(thing), times)
        except BaseException as error:
            self._error = error
            self._failed.set()

    def _write(self, frame: np.ndarray, times: int) -> None:
        if self._file is None:
            self._file = new_file(self.path, self.rate, frame.shape[1::-1], self.source)
        self._file.write(frame, times)

    def _complain(self) -> None:
        assert self._error is not None
        raise self._error


def new_file(path: Path, rate: float, size: tuple[int, int], source: Path | None) -> Any:
    """The .mp4 that frames of this width and height go into.

    Raises:
        RunError: it cannot be opened.
    """
    from mtlcli.drawing.encode import Film

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error
    return Film(path, rate, size, source)
