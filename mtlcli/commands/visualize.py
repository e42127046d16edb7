"""`mtl visualize`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Device, Force, Quiet, complain, print_json, was_typed
from mtlcli.commands._values import Checked
from mtlcli.drawing.choices import ColourMap, PointColours
from mtlcli.runs.foreign import EXPORTED
from mtlcli.runs.names import CHECKPOINTS, is_run, pin


def looks_like_a_run(word: str) -> bool:
    """What follows --compare: all but what is certainly to be shown."""
    path = Path(word)
    is_there = path.exists() or word.isdigit()
    return path.suffix in (*CHECKPOINTS, *EXPORTED) or is_run(path) or not is_there


def looks_like_tasks(word: str) -> bool:
    """What follows --tasks: names, perhaps with commas."""
    return word.replace(",", "").isidentifier() and not Path(word).exists()


SEVERAL: dict[str, Callable[[str], bool]] = {
    "--compare": looks_like_a_run,
    "--tasks": looks_like_tasks,
    "--index": str.isdigit,
}


class Command(Checked):
    """Takes `--compare A B` for `--compare A --compare B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat an option before each of its values."""
        spread: list[str] = []
        option = ""
        for previous, word in zip(["", *args], args):
            if word.startswith("-"):
                option = word if word in SEVERAL else ""
            elif option and previous != option:
                if SEVERAL[option](word):
                    spread.append(option)
                else:
                    option = ""
            spread.append(word)
        return super().parse_args(ctx, spread)


OWN_ONLY = ("separate", "layout", "points", "recursive", "fov", "focal", "frames")
SAMPLES_ONLY = ("index", "split")


def visualize(
    context: typer.Context,
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders, 'patterns/**/*.jpg', videos, addresses of the web, or the "
            "number of a camera."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Name of a run, or an exported file. Default: the newest run that is finished, "
            "scored and trained on real pictures, else the network that comes with mtl.",
            autocompletion=_completion.runs,
        ),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            help="Several runs, one row each: --compare RUN RUN.", autocompletion=_completion.runs
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Only these: depth,normals.", autocompletion=_completion.tasks),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("visualized"),
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            help="For each task its values and a coloured picture, an overlay, an .npz and a .json "
            "that says what they mean; of a video for each frame.",
        ),
    ] = False,
    layout: Annotated[
        str | None,
        typer.Option(help="Plain panels side by side: picture,depth; or depth alone; or overlay."),
    ] = None,
    points: Annotated[
        PointColours | None,
        typer.Option(help="Also .ply and .glb from depth, in these colours."),
    ] = None,
    fov: Annotated[
        float | None, typer.Option(help="Of --points: degrees across. Default: EXIF's, else 60.")
    ] = None,
    focal: Annotated[
        float | None, typer.Option(help="Of --points: focal length in pixels, instead of --fov.")
    ] = None,
    colormap: Annotated[ColourMap, typer.Option(help="Of depth.")] = "inferno",
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders below folders, too.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Samples of a prepared dataset, with truth and error.",
            autocompletion=_completion.prepared,
        ),
    ] = None,
    index: Annotated[list[int] | None, typer.Option(help="Of --dataset: which samples.")] = None,
    split: Annotated[str, typer.Option(help="Of --dataset.")] = "val",
    frames: Annotated[int | None, typer.Option(min=1, help="Of a video, at most.")] = None,
    force: Force = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw pictures or videos with all predictions.

    Ctrl-C ends a video or camera; its file stays whole.
    """
    from mtlcli.drawing.pictures import visualize
    from mtlcli.drawing.samples import visualize_samples
    from mtlcli.errors import InputError

    if bool(source) == bool(dataset):
        raise InputError("Say what to draw: `mtl visualize SOURCE`, or `--dataset NAME --index N`.")
    if checkpoint and compare:
        raise InputError("--checkpoint and --compare exclude each other: choose one.")
    for option in OWN_ONLY if dataset else SAMPLES_ONLY:
        if was_typed(context, option):
            says = "for pictures of your own, not for --dataset" if dataset else "for --dataset"
            raise InputError(f"--{option} is {says}.")
    common: dict[str, Any] = {
        "paths": [
            pin(path, quiet=quiet) for path in ([checkpoint] if checkpoint else compare or [])
        ],
        "tasks": [name for word in tasks or [] for name in word.split(",") if name],
        "out": out,
        "colormap": colormap,
        "force": force,
        "device": device,
        "quiet": quiet,
    }
    if dataset:
        drawn = visualize_samples(dataset, index or [0], split=split, **common)
    else:
        drawn = visualize(
            source or [],
            recursive=recursive,
            separate=separate,
            layout=tuple(panel for panel in (layout or "").split(",") if panel),
            points=points or "",
            fov=fov,
            focal=focal,
            frames=frames,
            **common,
        )
    show(drawn, as_json)
    if drawn.failed or any(video.lost for video in drawn.videos):
        raise typer.Exit(1)
    if any(video.stopped and not video.live for video in drawn.videos):
        raise typer.Exit(130)


def show(drawn: Any, as_json: bool) -> None:
    """What was used and written, and complaints."""
    for reason in drawn.failed.values():
        complain(reason)
    for note in drawn.notes:
        print(note, file=sys.stderr)
    for video in drawn.videos:
        if video.lost:
            complain(f"{video.path}: {video.lost} frames could not be read and are left out.")
        if video.muted:
            complain(f"{video.path} lacks sound of its source: {video.muted}.")
    for animation in drawn.moving:
        print(f"{animation} is an animation: its first picture is drawn", file=sys.stderr)
    if drawn.passed_over:
        print(f"Passed over: {drawn.passed_over} neither picture nor video", file=sys.stderr)
    rates = {v.path: v for v in drawn.videos}
    if as_json:
        print_json(
            {
                "networks": [str(p) for p in drawn.networks],
                "written": [str(p) for p in drawn.written],
                "failed": drawn.failed,
                "notes": list(drawn.notes),
                "passed_over": drawn.passed_over,
                "videos": {
                    str(p): {
                        "frames": v.frames,
                        "frames_per_second": v.rate,
                        "stopped": v.stopped,
                        "lost": v.lost,
                        "muted": v.muted,
                    }
                    for p, v in rates.items()
                },
            }
        )
        return
    from mtlcli.runs.default_run import COMES_WITH_MTL
    from mtlcli.runs.names import file_of, is_shipped

    for network in drawn.networks:
        note = drawn.remark or (COMES_WITH_MTL if is_shipped(file_of(network)) else "")
        print(f"Network: {network}" + (f" ({note})" if note else ""), file=sys.stderr)
    for path in drawn.written:
        video = rates.get(path)
        said = f" ({video.frames} frames, {video.rate:.1f} frames/s)" if video else ""
        print(f"{path}{said}")
