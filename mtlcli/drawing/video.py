"""Frames of videos and cameras, and when each is shown."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mtlcli.errors import InputError
from mtlcli.maps._picture import silence_opencv

WIDEST_PIXEL = 4.0  # width over height of one that is believed
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


def aspect_of(capture: Any) -> float:
    """Width over height of a pixel of the frames; 1 where the file does not say, or absurdly."""
    across, down = (capture.get(p) for p in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
    if not (across > 0 and down > 0 and 1 / WIDEST_PIXEL <= across / down <= WIDEST_PIXEL):
        return 1.0
    lies = capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90  # frames come turned
    return float(down / across if lies else across / down)


class Frames:
    """The frames of an opened video, RGB (H, W, 3) uint8 of square pixels, each with for how many
    steps of 1 / rate it is shown, so that the file's time is kept. What cannot be read is passed
    over and counted.

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
        self.aspect = aspect_of(capture)

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        if self.live:
            frames = chain([self.first], self._others())
            yield from ((self._seen(frame), 1) for frame in frames)
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
                yield self._seen(shown), min(then - place, longest)
                place = then
            shown = frame
        last = round(FINE_RATE / USUAL_RATE) if self.rate == FINE_RATE else 1
        yield self._seen(shown), last

    def _seen(self, frame: np.ndarray) -> np.ndarray:
        """A frame as it is to be seen, no side shorter than it is stored."""
        colours = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if self.aspect == 1:
            return colours
        height, width = frame.shape[:2]
        size = round(width * max(1, self.aspect)), round(height * max(1, 1 / self.aspect))
        return cv2.resize(colours, size, interpolation=cv2.INTER_LINEAR)

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
