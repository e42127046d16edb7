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
# Frames are stored in the order they are shown in: else the file's length is not that of its film.
QUALITY = {"preset": "veryfast", "crf": "20", "bf": "0"}
FASTEST = 60.0  # frames/s that the encoder plans for
KEPT = ("aac", "mp3", "opus")  # sound that browsers play from an .mp4 as it is
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, of sound as AAC
LAYOUT = "stereo"


class Film:
    """An .mp4 that grows frame by frame.

    Args:
        path: of the file; its folder is there.
        rate: steps a second in which frames are timed.
        size: width and height, even.
        source: video whose sound is copied; where that cannot be, `muted` says why.

    Raises:
        RunError: it cannot be opened.
    """

    def __init__(
        self, path: Path, rate: float, size: tuple[int, int], source: Path | None = None
    ) -> None:
        self.path, self.rate, self.given = path, rate, 0
        self.shown: dict[
            int, int
        ] = {}  # time of a frame that is being encoded -> how long it lasts
        self.close_source = lambda: None
        self.muted = ""
        with self._told():
            self.file = av.open(str(path), "w", format="mp4")
            pace = Fraction(min(rate, FASTEST)).limit_denominator(1001)
            self.pictures = self.file.add_stream("libx264", rate=pace)
        self.pictures.width, self.pictures.height = size
        self.pictures.pix_fmt, self.pictures.options = "yuv420p", dict(QUALITY)
        self.pictures.codec_context.time_base = CLOCK
        self.sound = self._sound_of(source) if source else iter(())
        self.next_sound: tuple[float, Any] | None = next(self.sound, None)

    def write(self, frame: np.ndarray, steps: int = 1) -> None:
        """The next frame, RGB (H, W, 3) uint8, for so many steps, with the sound up to its time."""
        seconds = self.given / self.rate
        self.given += steps
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = round(seconds / CLOCK), CLOCK
        self.shown[picture.pts] = round(self.given / self.rate / CLOCK) - picture.pts
        with self._told():
            self._mux_sound(seconds)
            self._mux_pictures(picture)

    def close(self) -> None:
        """End the file, with the sound up to the end of its last frame."""
        with self._told():
            self._mux_pictures(None)
            self._mux_sound(self.given / self.rate)
            self.file.close()
        self.close_source()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Within it av's errors, which are of these kinds, too, are told to the user."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise RunError(f"Cannot write {self.path}: {reason_of(error)}.") from error

    def _mux_pictures(self, picture: av.VideoFrame | None) -> None:
        for packet in self.pictures.encode(picture):
            assert packet.pts is not None, "every picture has its time"
            packet.duration = self.shown.pop(packet.pts)
            self.file.mux(packet)

    def _mux_sound(self, until: float) -> None:
        while self.next_sound and self.next_sound[0] < until:
            self.file.mux(self.next_sound[1])
            self.next_sound = next(self.sound, None)

    def _sound_of(self, source: Path) -> Iterator[tuple[float, Any]]:
        """Packets of the source's first sound with their times, in the file's own stream."""
        try:
            opened = av.open(str(source))
        except (OSError, ValueError):
            return iter(())
        self.close_source = opened.close
        if not opened.streams.audio:
            return iter(())
        heard, start = opened.streams.audio[0], start_of(opened)
        try:
            codec = heard.codec_context
            if codec is None:
                raise ValueError("it cannot be decoded")
            if codec.codec.canonical_name in KEPT:
                return copied(opened, heard, self.file.add_stream_from_template(heard), start)
            rate = next((r for r in RATES if r >= codec.rate), RATES[-1])
            require_aac(rate)
        except (OSError, ValueError) as error:
            self.muted = reason_of(error)
            return iter(())
        own = self.file.add_stream("aac", rate=rate, layout=LAYOUT)
        return self._encoded(opened, heard, own, start)

    def _encoded(
        self, opened: Any, heard: Any, own: Any, start: float
    ) -> Iterator[tuple[float, Any]]:
        """The sound as AAC, moved so that `start` becomes 0; damaged sound ends early."""
        try:
            for frame in opened.decode(heard):
                if frame.time is None or frame.time < start:
                    continue
                frame.pts = round((frame.time - start) / frame.time_base)
                for packet in own.encode(frame):
                    yield float(packet.pts * packet.time_base), packet
        except (OSError, ValueError) as error:
            self.muted = reason_of(error)
        with suppress(OSError, ValueError):
            for packet in own.encode(None):
                yield float(packet.pts * packet.time_base), packet


def reason_of(error: OSError | ValueError) -> str:
    """What an error of av's says, without its number."""
    return getattr(error, "strerror", None) or str(error)


def require_aac(rate: int) -> None:
    """Raises av's OSError or ValueError where sound of this rate cannot be made AAC."""
    trial: Any = av.CodecContext.create("aac", "w")
    trial.rate, trial.layout, trial.format = rate, LAYOUT, "fltp"
    trial.open()


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


def start_of(opened: Any) -> float:
    """Seconds at which the first picture of a video is shown."""
    seen = next(iter(opened.streams.video), None)
    if seen is None or seen.start_time is None:
        return 0.0
    return float(seen.start_time * seen.time_base)
