"""H.264 in .mp4, as browsers play it, with the sound and the times of the video it was made of."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from mtlcli.errors import RunError

CLOCK = Fraction(1, 90_000)  # seconds that times are counted in
QUALITY = {"preset": "veryfast", "crf": "20"}
KEPT = ("aac", "mp3", "opus", "ac3", "eac3", "alac")  # sound that .mp4 holds as it is


class Film:
    """An .mp4 that grows frame by frame.

    Args:
        path: of the file; its folder is there.
        rate: frames/s where nothing else is known.
        size: width and height, even.
        source: video whose sound is copied and whose frames' times are kept.

    Raises:
        RunError: it cannot be opened.
    """

    def __init__(
        self, path: Path, rate: float, size: tuple[int, int], source: Path | None = None
    ) -> None:
        self.path, self.rate, self.count = path, rate, 0
        self.times, start = frame_times(source) if source else ([], 0.0)
        self.close_source = lambda: None
        with self._told():
            self.file = av.open(str(path), "w", format="mp4")
            pace = Fraction(rate).limit_denominator(1001)
            self.pictures = self.file.add_stream("libx264", rate=pace)
        self.pictures.width, self.pictures.height = size
        self.pictures.pix_fmt, self.pictures.options = "yuv420p", dict(QUALITY)
        self.pictures.codec_context.time_base = CLOCK
        self.sound = self._sound_of(source, start) if source else iter(())
        self.next_sound: tuple[float, Any] | None = next(self.sound, None)

    def write(self, frame: np.ndarray) -> None:
        """The next frame, RGB (H, W, 3) uint8, with the sound up to its time."""
        seconds = self._time(self.count)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = round(seconds / CLOCK), CLOCK
        with self._told():
            self._mux_sound(seconds)
            self.file.mux(self.pictures.encode(picture))
        self.count += 1

    def close(self) -> None:
        """End the file, with the sound up to the end of its last frame."""
        with self._told():
            self.file.mux(self.pictures.encode(None))
            self._mux_sound(self._time(self.count))
            self.file.close()
        self.close_source()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Within it av's errors, which are of these kinds, too, are told to the user."""
        try:
            yield
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RunError(f"Cannot write {self.path}: {reason}.") from error

    def _time(self, index: int) -> float:
        """Seconds at which a frame is shown; after the last that is known, by the rate."""
        if index < len(self.times):
            return self.times[index]
        known = len(self.times)
        return (self.times[-1] if known else 0.0) + (index - max(known - 1, 0)) / self.rate

    def _mux_sound(self, until: float) -> None:
        while self.next_sound and self.next_sound[0] < until:
            self.file.mux(self.next_sound[1])
            self.next_sound = next(self.sound, None)

    def _sound_of(self, source: Path, start: float) -> Iterator[tuple[float, Any]]:
        """Packets of the source's first sound with their times, in the file's own stream."""
        try:
            opened = av.open(str(source))
        except (OSError, ValueError):
            return iter(())
        self.close_source = opened.close
        if not opened.streams.audio:
            return iter(())
        heard = opened.streams.audio[0]
        if heard.codec_context.name in KEPT:
            return copied(opened, heard, self.file.add_stream_from_template(heard), start)
        own = self.file.add_stream("aac", rate=heard.rate)
        return encoded(opened, heard, own, start)


def copied(opened: Any, heard: Any, own: Any, start: float) -> Iterator[tuple[float, Any]]:
    """The packets as they are, moved so that `start` becomes 0."""
    shift = round(start / heard.time_base)
    with suppress(OSError, ValueError):  # damaged sound ends early
        for packet in opened.demux(heard):
            if packet.pts is None or packet.pts < shift:
                continue
            packet.pts -= shift
            packet.dts = packet.pts
            packet.stream = own
            yield float(packet.pts * heard.time_base), packet


def encoded(opened: Any, heard: Any, own: Any, start: float) -> Iterator[tuple[float, Any]]:
    """The sound as AAC, moved so that `start` becomes 0."""
    with suppress(OSError, ValueError):
        for frame in opened.decode(heard):
            if frame.time is None or frame.time < start:
                continue
            frame.pts = round((frame.time - start) / frame.time_base)
            for packet in own.encode(frame):
                yield float(packet.pts * packet.time_base), packet
    for packet in own.encode(None):
        yield float(packet.pts * packet.time_base), packet


def frame_times(source: Path) -> tuple[list[float], float]:
    """Seconds from the first frame to each, none where it is not told, and the first's own time."""
    try:
        with av.open(str(source)) as opened:
            seen = opened.streams.video[0]
            shown = sorted(p.pts for p in opened.demux(seen) if p.pts is not None)
            base = seen.time_base
    except (OSError, ValueError, IndexError):
        return [], 0.0
    if len(set(shown)) < len(shown) or not shown or base is None:
        return [], 0.0
    return [float((pts - shown[0]) * base) for pts in shown], float(shown[0] * base)
