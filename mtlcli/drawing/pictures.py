"""`mtl visualize`: pictures and videos with every task's prediction."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from mtlcli.data.images import read_image
from mtlcli.drawing.choices import ColourMap
from mtlcli.drawing.files import (
    places_of,
    require_folder,
    write_picture,
    write_separate,
    write_sheet,
)
from mtlcli.drawing.lens import Lens, lens_of
from mtlcli.drawing.networks import Networks, all_maps, cells_of, drawn_size, load_networks
from mtlcli.drawing.panels import draw_panels
from mtlcli.drawing.points import cloud_files, cloud_of, size_of
from mtlcli.drawing.prediction import Maps, predict
from mtlcli.drawing.remote import fetch
from mtlcli.drawing.sources import (
    Source,
    Targets,
    count_others,
    is_video,
    list_sources,
    patterns,
)
from mtlcli.drawing.wanted import Wanted
from mtlcli.errors import InputError
from mtlcli.maps._picture import is_animated, is_taken_for_12_bits
from mtlcli.ops.choice import in_haste
from mtlcli.runs.checkpoint import Trained

if TYPE_CHECKING:
    from mtlcli.drawing.stream import Played

HASTY = 2  # pictures at most for which loading kernels may take longer than it saves


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What was done."""

    networks: tuple[Path, ...]  # checkpoints
    remark: str = ""  # of a network that nobody named
    written: tuple[Path, ...]
    failed: Mapping[str, str] = field(default_factory=dict)  # source -> why
    videos: "tuple[Played, ...]" = ()
    notes: tuple[str, ...] = ()  # of what was assumed or applied
    passed_over: int = 0  # files of folders, neither picture nor video
    moving: tuple[str, ...] = ()  # animations of which the first picture is drawn


def visualize(
    sources: Sequence[str],
    *,
    paths: Sequence[Path] = (),
    tasks: Sequence[str] = (),
    out: Path = Path("visualized"),
    recursive: bool = False,
    colormap: ColourMap = "inferno",
    force: bool = False,
    device: str = "auto",
    quiet: bool = False,
    **wanted: Any,
) -> Drawn:
    """Draw the predictions of pictures and videos.

    Args:
        sources: pictures, videos, folders, patterns, numbers of cameras, addresses of the web.
        paths: checkpoints or run folders; by default that of `default_run`, several are drawn
            below each other.
        tasks: those to show; by default all.
        out: folder for OUT/NAME.png and OUT/NAME.mp4. What mtl did not write there stays: the new
            file gets a number.
        recursive: look into folders below folders; OUT has the same folders.
        colormap: of depth.
        force: replace files of others, too; sources never.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.
        wanted: see `Wanted`.

    Raises:
        InputError: no such source or checkpoint, a task that the network lacks, or the only source
            is unreadable. What is wrong with one of several sources is in the result's `failed`.
        RunError: nothing can be written to `out`.
    """
    want = Wanted(**wanted)
    require_folder("--out", out)
    with TemporaryDirectory(prefix="mtl-") as fetched, ExitStack() as around:
        found = list_sources(sources, recursive, out)
        here = [source for source in found if not isinstance(source, str)]
        networks = load_networks(paths, tasks, device, colormap=colormap)
        want.check(networks, here)
        work = Work(networks, Targets(out, here, force), want, quiet)
        shown = tqdm(
            found.items(), desc="visualize", disable=True if quiet or len(found) < 2 else None
        )
        if len(here) == len(found) <= HASTY and not any(map(is_video, here)):
            around.enter_context(in_haste())
        for source, (name, said) in shown:
            try:
                if isinstance(source, str):
                    source = fetch(source, Path(mkdtemp(dir=fetched)), quiet=quiet)
                    name = source.stem
                work.draw(source, name, said)
            except InputError as error:
                told = str(error).replace(str(source), said)
                if len(found) == 1:
                    raise InputError(told) from error
                work.failed[said] = told
            if work.videos and work.videos[-1].stopped:
                break
    return Drawn(
        networks=networks.paths,
        remark=networks.remark,
        written=tuple(work.written),
        failed=work.failed,
        videos=tuple(work.videos),
        notes=(*networks.notes, *work.notes),
        passed_over=count_others(patterns(sources, recursive), apart=out if recursive else None),
        moving=tuple(work.moving),
    )


@dataclass
class Work:
    """Draws source after source and remembers what came of it."""

    networks: Networks
    targets: Targets
    want: Wanted
    quiet: bool
    written: list[Path] = field(default_factory=list)
    videos: "list[Played]" = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    moving: list[str] = field(default_factory=list)

    @property
    def one(self) -> Trained:
        """The network, of those that are alone."""
        return next(iter(self.networks.trained.values()))

    def draw(self, source: Source, name: str, said: str) -> None:
        """Write what is wanted of a source under a name; `said` is what it is called."""
        if is_video(source):
            self.want.require_picture()
            if self.want.separate:
                return self.draw_frames(source, name, said)
            return self.draw_video(source, name)
        assert isinstance(source, Path), "a camera is a video"
        self.moving += [said] if is_animated(source) else []
        image = read_image(source)
        with source.open("rb") as file:
            if is_taken_for_12_bits(file):
                self.notes.append(f"{said}: 16 bits and nothing above 4095, so taken for 12 bits")
        name = self.targets.name(name, *self.places())
        eye = self.draw_points(source, image, name) if self.want.points else None
        if self.want.separate:
            self.separate(image, name, said, eye)
        else:
            self.draw_picture(image, name)

    def places(self) -> list[str]:
        """The files of a picture, `{}` for the name, which they have in common."""
        points = [p.name for p in cloud_files(Path("{}"))] if self.want.points else []
        apart = self.want.separate
        return [*points, *(places_of(self.one, self.networks.tasks) if apart else ["{}.png"])]

    def draw_picture(self, image: np.ndarray, name: str) -> None:
        """Write OUT/NAME.png, a sheet or panels."""
        path = self.targets.folder / f"{name}.png"
        if self.want.layout:
            maps = self.maps_of(image)
            strip = draw_panels(self.one, self.want.layout, image, maps)
            self.written.append(write_picture(strip, path))
            return
        found = all_maps(self.networks, image, drawn_size(image))
        cells, names = cells_of(self.networks, image, found)
        self.written.append(write_sheet(cells, names, path))

    def maps_of(self, image: np.ndarray, size: tuple[int, int] | None = None) -> Maps:
        """Those of the one network, at the picture's size or another."""
        return next(iter(all_maps(self.networks, image, size or image.shape[:2]).values()))

    def separate(self, image: np.ndarray, name: str, said: str, eye: Lens | None = None) -> None:
        """Write the files of a picture's tasks."""
        maps, folder = self.maps_of(image), self.targets.folder
        self.written += write_separate(self.one, image, maps, folder, name, said, eye)

    def draw_points(self, source: Path, image: np.ndarray, name: str) -> Lens:
        """Write OUT/NAME.ply and OUT/NAME.glb; returns the camera."""
        height, width = image.shape[:2]
        eye = lens_of(source, width, height, self.want.fov, self.want.focal)
        self.notes.append(f"Points of {name}: {eye}")
        size = size_of(height, width)
        cloud = cloud_of(self.one, image, predict(self.one, image, size), eye, self.want.points)
        for path in cloud_files(self.targets.folder / name):
            cloud.save(path)
            self.written.append(path)
        return eye

    def draw_video(self, source: Source, name: str) -> None:
        """Write OUT/NAME.mp4 of a video or camera."""
        from mtlcli.drawing.stream import play

        target = self.targets.folder / f"{self.targets.name(name, '{}.mp4')}.mp4"
        played = play(
            self.networks,
            source,
            target,
            panels=self.want.layout,
            frames=self.want.frames,
            quiet=self.quiet,
        )
        self.videos.append(played)
        self.written.append(target)

    def draw_frames(self, source: Source, name: str, said: str) -> None:
        """Write the files of each frame's tasks, NAME/000001 and so on."""
        from mtlcli.drawing.video import open_video

        with open_video(source) as video:
            shown = islice(video.frames, self.want.frames)
            for i, (frame, _) in enumerate(tqdm(shown, video.name, disable=self.quiet or None), 1):
                place = self.targets.name(f"{name}/{i:06d}", *self.places())
                self.separate(frame, place, said)
            if lost := video.frames.lost:
                self.failed[said] = f"{said}: {lost} frames could not be read and are left out."
