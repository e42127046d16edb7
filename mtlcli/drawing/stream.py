"""Video in, video out: frames are read, decoded and drawn while the network computes."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from tqdm import tqdm

from mtlcli.drawing.grid import Layout, draw_frame, fill, layout_of
from mtlcli.drawing.legend import LINE, LINES, SPACE
from mtlcli.drawing.networks import (
    Logits,
    Networks,
    all_logits,
    cells_of,
    drawn_size,
    inputs,
    maps_from,
    one_by_one,
    shared_scales,
)
from mtlcli.drawing.panels import draw_panels
from mtlcli.drawing.threads import Writer, ahead
from mtlcli.drawing.video import Video, open_video

S = TypeVar("S")
T = TypeVar("T")
REFRESH = 10  # frames after which ranges and legends are looked at again
INERTIA = 0.7  # of a range, so that colours do not flicker
FRAME_AREA = 288 * 216  # pixels of a tile, fewer than a picture's: frames must be quick
PANEL = 640 * 480  # pixels of one of few panels, at most
TOGETHER = 4  # frames of a file that go through the networks at once, if they are small:
TOGETHER_PIXELS = 2**16  # more of them at once is no quicker, but needs more memory
WORKERS = 2  # steps of a file that the CPU works on side by side
LEGEND = LINES * LINE + SPACE  # height of a legend of as many lines as there can be
CAMERA_RATE = 10.0  # frames/s of a camera's file, which keeps the time of the clock
# Pictures at drawn size and how many times each is shown, and the inputs.
Step = tuple[list[tuple[np.ndarray, int]], Mapping[str, np.ndarray]]


def work_abreast(
    work: Callable[[S], T], things: Iterator[S], workers: int
) -> Iterator[tuple[S, T]]:
    """Each thing and what `work` makes of it, in order; so many are worked on at a time.

    torch's threads are shared out among the workers. One network on all cores would wait at each of
    its layers for the core that also reads or draws; of several, only one does.
    """
    threads = torch.get_num_threads()
    share = max(1, threads // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
    begun: deque = deque()
    try:
        for thing in things:
            begun.append((thing, pool.submit(work, thing)))
            if len(begun) > workers:
                yield await_first(begun)
        while begun:
            yield await_first(begun)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # which the workers set for all threads that begin later


def await_first(begun: deque) -> tuple[S, T]:
    """The first of those begun, as soon as it is done."""
    thing, future = begun.popleft()
    return thing, future.result()


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of a video."""

    path: Path
    frames: int  # that went through the networks
    seconds: float
    stopped: bool  # by Ctrl-C
    live: bool  # a camera, which ends no other way
    lost: int = 0  # frames of the file that could not be read
    muted: str = ""  # why its sound was left out

    @property
    def rate(self) -> float:
        """Frames/s."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass(kw_only=True)
class Painter:
    """Draws frame after frame: the writing around the maps is kept for some frames."""

    networks: Networks
    panels: tuple[str, ...] = ()  # these side by side instead of a sheet
    drawn: int = 0
    shared: dict[str, dict[str, float]] = field(default_factory=dict)
    layout: Layout | None = None
    frame: np.ndarray | None = None

    def __call__(self, shot: tuple[np.ndarray, Logits]) -> np.ndarray:
        """A picture and what all networks say to it as RGB (H, W, 3) uint8."""
        image, logits = shot
        maps = maps_from(self.networks, logits, image.shape[:2])
        anew = self.drawn % REFRESH == 0
        if anew:
            self.shared = ease_ranges(self.shared, shared_scales(self.networks, maps))
        if self.panels:
            self.drawn += 1
            ((name, trained),) = self.networks.trained.items()
            return draw_panels(trained, self.panels, image, maps[name], self.shared)
        cells, names = cells_of(self.networks, image, maps, self.shared, keyed=anew)
        if self.layout is None:
            self.layout = make_room(layout_of(cells, names, FRAME_AREA))
        if self.frame is None or anew:
            self.frame = draw_frame(self.layout, cells, names)
        self.drawn += 1
        return fill(self.frame, self.layout, cells)


def make_room(layout: Layout) -> Layout:
    """Room for a legend of three lines, which later frames may need."""
    return replace(layout, key=tuple(max(height, LEGEND) for height in layout.key))


def ease_ranges(
    before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Ranges on their way from what they were to what they are."""
    return {
        task: {
            key: INERTIA * before.get(task, values)[key] + (1 - INERTIA) * value
            for key, value in values.items()
        }
        for task, values in now.items()
    }


def play(
    networks: Networks,
    source: Path | int,
    target: Path,
    *,
    panels: tuple[str, ...] = (),
    frames: int | None = None,
    quiet: bool = False,
) -> Played:
    """Write the sheets of a video's or a camera's frames as TARGET, with the sound of the video.

    Ctrl-C ends it early; the file is whole then, too.

    Args:
        source: video file, or number of a camera.
        target: the .mp4.
        panels: see `mtlcli.drawing.panels`; instead of sheets.
        frames: only the first so many.

    Raises:
        InputError: see `mtlcli.drawing.video.open_video`.
        RunError: the file cannot be written.
    """
    with open_video(source) as video:
        painter = Painter(networks=networks, panels=panels)
        live = isinstance(source, int)
        heard = None if isinstance(source, int) else source
        writer = Writer(target, CAMERA_RATE if live else video.rate, painter, heard)
        bar = tqdm(
            desc=video.name,
            total=min(filter(None, (frames, video.count)), default=None),
            unit="frame",
            disable=True if quiet else None,
        )
        with closing(bar):
            return run(networks, video, writer, bar, frames, live, PANEL if panels else FRAME_AREA)


def run(
    networks: Networks,
    video: Video,
    writer: Writer,
    bar: Any,
    frames: int | None,
    live: bool,
    area: int = FRAME_AREA,
) -> Played:
    """The loop over the frames, drawn on so many pixels."""
    count, stopped, start = 0, False, time.perf_counter()
    together = 1 if live else frames_together(networks)
    workers = 1 if live or not networks.on_cpu else min(WORKERS, torch.get_num_threads())
    shots = prepare_steps(networks, islice(video.frames, frames), together, area)
    with writer, ahead(shots) as steps:
        try:
            for (pictures, _), logits in work_abreast(
                partial(ask_networks, networks), steps, workers
            ):
                for (picture, times), its in zip(pictures, one_by_one(logits)):
                    count += 1
                    due = int((time.perf_counter() - start) * CAMERA_RATE) + 1
                    writer.put((picture, its), times=due - writer.given if live else times)
                bar.update(len(pictures))
        except KeyboardInterrupt:
            stopped = True
    seconds = time.perf_counter() - start
    return Played(
        path=writer.path,
        frames=count,
        seconds=seconds,
        stopped=stopped,
        live=live,
        lost=video.frames.lost,
        muted=writer.muted,
    )


def ask_networks(networks: Networks, step: Step) -> Logits:
    """What the networks say to the frames of a step."""
    return all_logits(networks, step[1])


def frames_together(networks: Networks) -> int:
    """How many frames the networks shall see at once: small ones cost less in company."""
    largest = max(t.size[0] * t.size[1] for t in networks.trained.values())
    return max(1, min(TOGETHER, TOGETHER_PIXELS // largest))


def prepare_steps(
    networks: Networks,
    shots: Iterator[tuple[np.ndarray, int]],
    together: int,
    area: int = FRAME_AREA,
) -> Iterator[Step]:
    """So many frames a step, at the size they are drawn, and as the networks want them."""
    while step := list(islice(shots, together)):
        height, width = step[0][0].shape[:2]
        if area != PANEL or height * width > PANEL:
            height, width = drawn_size(step[0][0], area)
        yield (
            [(cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA), n) for f, n in step],
            inputs(networks, [frame for frame, _ in step]),
        )
