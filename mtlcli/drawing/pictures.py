"""`mtl visualize`: pictures, videos and samples of a dataset with every task's prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from mtlcli.data.images import read_image
from mtlcli.drawing.files import require_folder, save_separate, write_sheet
from mtlcli.drawing.networks import Networks, all_maps, cells_of, drawn_size, load_networks
from mtlcli.drawing.prediction import grid
from mtlcli.drawing.sources import Source, Targets, count_others, find_sources, is_video
from mtlcli.errors import InputError
from mtlcli.home import datasets_dir
from mtlcli.maps._picture import is_animated

if TYPE_CHECKING:
    from mtlcli.drawing.stream import Played

__all__ = ["Drawn", "grid", "visualize", "visualize_samples"]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What was done."""

    networks: tuple[Path, ...]  # checkpoints
    remark: str = ""  # of a network that nobody named
    written: tuple[Path, ...]
    failed: Mapping[str, str] = field(default_factory=dict)  # source -> why
    videos: "tuple[Played, ...]" = ()
    passed_over: int = 0  # files of folders, neither picture nor video
    moving: tuple[Path, ...] = ()  # animations of which the first picture is drawn


def visualize(
    sources: Sequence[str],
    *,
    paths: Sequence[Path] = (),
    tasks: Sequence[str] = (),
    out: Path = Path("visualized"),
    separate: bool = False,
    frames: int | None = None,
    force: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Drawn:
    """Draw the predictions of pictures and videos.

    Args:
        sources: pictures, videos, folders, patterns, numbers of cameras.
        paths: checkpoints or run folders; by default that of `default_run`, several are drawn
            below each other.
        tasks: those to show; by default all.
        out: folder for OUT/NAME.png and OUT/NAME.mp4. What mtl did not write there stays: the new
            file gets a number.
        separate: one file per task and the raw values instead of one sheet, see `write_separate`.
        frames: of a video, only the first so many.
        force: replace files of others, too; sources never.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.

    Raises:
        InputError: no such source or checkpoint, a task that the network lacks, or the only source
            is unreadable. What is wrong with one of several sources is in the result's `failed`.
        RunError: nothing can be written to `out`.
    """
    found = find_sources(sources)
    require_folder("--out", out)
    if separate and len(paths) > 1:
        raise InputError("--separate and --compare exclude each other: choose one.")
    if separate and any(map(is_video, found)):
        raise InputError("--separate is for pictures; a video becomes one video of sheets.")
    networks = load_networks(paths, tasks, device)
    targets = Targets(out, found, force)
    written: list[Path] = []
    videos: list[Played] = []
    moving: list[Path] = []
    failed: dict[str, str] = {}
    for source in tqdm(found, desc="visualize", disable=True if quiet or len(found) < 2 else None):
        try:
            if is_video(source):
                videos.append(draw_video(networks, source, targets, frames, quiet))
                written.append(videos[-1].path)
            else:
                assert isinstance(source, Path), "a camera is a video"
                moving += [source] if is_animated(source) else []
                written += draw_picture(networks, source, targets, separate)
        except InputError as error:
            if len(found) == 1:
                raise
            failed[str(source)] = str(error)
        if videos and videos[-1].stopped:
            break
    return Drawn(
        networks=networks.paths,
        remark=networks.remark,
        written=tuple(written),
        failed=failed,
        videos=tuple(videos),
        passed_over=count_others(sources),
        moving=tuple(moving),
    )


def draw_video(
    networks: Networks, source: Source, targets: Targets, frames: int | None, quiet: bool
) -> "Played":
    """Write OUT/NAME.mp4 of a video or camera."""
    from mtlcli.drawing.stream import play

    stem = f"camera{source}" if isinstance(source, int) else source.stem
    target = targets.folder / f"{targets.name(stem, '{}.mp4')}.mp4"
    return play(networks, source, target, frames=frames, quiet=quiet)


def draw_picture(networks: Networks, picture: Path, targets: Targets, separate: bool) -> list[Path]:
    """Write the sheet of one picture, or the files of its tasks; returns their paths."""
    image = read_image(picture)
    if not separate:
        name = targets.name(picture.stem, "{}.png")
        maps = all_maps(networks, image, drawn_size(image))
        cells, names = cells_of(networks, image, maps)
        return [write_sheet(cells, names, targets.folder / f"{name}.png")]
    ((network, trained),) = networks.trained.items()
    own = all_maps(networks, image, image.shape[:2])[network]
    return save_separate(trained, own, targets.folder, picture.stem, targets)


def visualize_samples(
    dataset: str,
    indices: Sequence[int] = (0,),
    *,
    split: str = "val",
    paths: Sequence[Path] = (),
    tasks: Sequence[str] = (),
    out: Path = Path("visualized"),
    force: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Drawn:
    """Draw samples of a prepared dataset: ground truth, prediction and error in rows.

    Args:
        dataset: its name, as `mtl prepare` has it.
        indices: of the samples in the split.
        split: of the dataset.
        paths, tasks, out, force, device, quiet: as in `visualize`.

    Raises:
        InputError: the dataset is not prepared, or has no such split or sample.
        RunError: nothing can be written to `out`.
    """
    from mtlcli.data.reader import Reader
    from mtlcli.drawing.samples import check_indices, sample_cells

    require_folder("--out", out)
    reader = Reader(datasets_dir() / f"{dataset}.h5", split)
    check_indices(reader, indices)
    networks = load_networks(paths, tasks, device, dataset)
    written, targets = [], Targets(out, (), force)
    for index in tqdm(indices, desc="visualize", disable=True if quiet else None):
        cells, names = sample_cells(networks, reader, index)
        name = targets.name(f"{dataset}_{split}_{index}", "{}.png")
        written.append(write_sheet(cells, names, out / f"{name}.png"))
    return Drawn(networks=networks.paths, remark=networks.remark, written=tuple(written))
