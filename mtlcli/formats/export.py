"""`mtl export`: a trained network as one file that runs without this package."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import mtlcli
from mtlcli import lookup
from mtlcli.data.moments import Moments
from mtlcli.errors import InputError, RunError
from mtlcli.files import MARK, replacing, require_ours
from mtlcli.formats._format import OPSET, Format, Spelling
from mtlcli.formats.runtimes import Row, compare_runtimes
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.deformable_mixer import ChannelSampling
from mtlcli.ops.choice import written_with
from mtlcli.runs import checkpoint, hub_run
from mtlcli.runs.checkpoint import Trained
from mtlcli.runs.exported import Runner
from mtlcli.runs.names import file_of, is_shipped, pin, title
from mtlcli.tasks._task import Task

TOLERANCE = 1e-3  # largest difference from the network, in the units of each map
HALF_TOLERANCE = 0.1  # of a file that computes in half precision
WRITTEN, TRIED = 2, (1, 3)  # how many pictures the file is written with, and tried with
MOST_PIXELS = 2**18  # of all pictures tried at once, if they are several: it takes gigabytes
SMALLEST = 32  # pixels
CHANCES = "probability of every class (softmax of its logits over C), whose largest is"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What `export` wrote."""

    checkpoint: Path
    path: Path
    format: str
    size: tuple[int, int]  # height and width of the pictures it takes
    bytes: int
    difference: Mapping[str, float]  # task -> largest absolute difference from the network
    tolerance: float  # at most that
    runtimes: Sequence[Row] = ()  # what runs the file, if that was asked for


class Standalone(nn.Module):
    """Pictures in, maps out: a network between its preprocessing and its decoding.

    Args:
        network: normalised (B, 3, H, W) -> {task: logits}.
        tasks: {task: record}, in the order of the outputs.
        moments: mean and deviation of the network's input.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, tasks: Mapping[str, Task], moments: Moments) -> None:
        super().__init__()
        self.network, self.tasks = network, tasks
        mean, std = 255 * torch.tensor(moments)  # 3, float32
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """RGB (B, H, W, 3) uint8 -> per task (B, C, H, W) float32, classes as probabilities."""
        pixels = (image.float() - self.mean) / self.std
        own = next(self.network.parameters()).dtype
        logits = self.network(pixels.permute(0, 3, 1, 2).to(own))
        return tuple(prediction(task, logits[name]) for name, task in self.tasks.items())


def halve(network: nn.Module) -> nn.Module:
    """A copy in float16, but for what says where maps are read: half a pixel off is another one."""
    half = deepcopy(network).half()
    for module in half.modules():
        if isinstance(module, DeformableAttention):
            module.sampling.float()
        elif isinstance(module, ChannelSampling):
            module.correction.float(), module.offsets.float()
    return half


def prediction(task: Task, logits: Tensor) -> Tensor:
    """Logits (B, C, H, W) decoded; where that is a choice of class, the classes' probabilities."""
    if not task.map.has_classes:
        return task.decode(logits)
    scores = logits.float()
    powers = (scores - scores.amax(1, keepdim=True)).exp()  # a softmax that runtimes do not
    return powers / powers.sum(1, keepdim=True)  # transpose the map for


def export(
    run: Path,
    *,
    format: str = "onnx",
    size: tuple[int, int] | None = None,
    out: Path | None = None,
    opset: int = OPSET,
    fp16: bool = False,
    grid_sample: bool = False,
    compare: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Exported:
    """Write a trained network as one file, and run the file to see that it computes the same.

    Args:
        run: checkpoint or run folder.
        format: a name in mtlcli/formats.
        size: height and width of the pictures the file shall take; by default those of training.
        out: see `default_path`.
        opset: version of ONNX's operators.
        fp16: compute in float16 what can be.
        grid_sample: read maps with the operator GridSample instead of gathered rows.
        compare: also time the file in every program there is that runs it.
        force: replace a file that mtl did not write.
        quiet: no progress bar.

    Raises:
        InputError: no such checkpoint or format, a size below 32 pixels, a missing package, or a
            file at `out` that is not mtl's.
        RunError: the file cannot be written, or differs by more than `TOLERANCE` on some task.
    """
    if format == "torchscript":
        raise InputError("--format torchscript is pt2 now (torch.export): use --format pt2.")
    form: Format = lookup.load("formats", format).FORMAT
    run = pin(run, quiet=quiet)
    path = out or default_path(run, form.suffix)
    if path.is_dir() or not path.name:
        raise InputError(f"--out {path} is a folder: name a file, such as network{form.suffix}.")
    require_ours("--out", path, force)
    trained = checkpoint.load(run, torch.device("cpu"))
    size = size or trained.size
    if min(size) < SMALLEST:
        raise InputError(f"--size {size[0]} {size[1]}: both must be at least {SMALLEST} pixels.")
    if trained.takes:
        raise InputError(f"{run} is an exported file already: export its run.")
    names = tuple(trained.tasks)
    moments = trained.config.moments
    network = Standalone(trained.network, trained.tasks, moments).eval()
    spelling = Spelling(opset=opset, half=fp16, sampling="grid_sample" if grid_sample else "gather")
    tolerance = HALF_TOLERANCE if fp16 else TOLERANCE
    rows: list[Row] = []
    try:
        with (
            tqdm(total=2, desc="write", disable=True if quiet else None) as bar,
            replacing(path) as file,
        ):
            pictures = torch.from_numpy(sample(WRITTEN, size))
            with written_with(spelling.sampling):
                half = Standalone(halve(trained.network), trained.tasks, moments) if fp16 else None
                written = half.eval() if half else network
                form.write(written, pictures, names, facts(trained, size), spelling, file)
            file.flush()
            bar.update()
            bar.set_description("compare")
            there = Path(file.name)
            difference = largest_differences(network, form.open(there, names), names, size)
            refuse_difference(difference, path, tolerance)
            if compare:
                own, picture = file_of(run), sample(1, size)
                rows = compare_runtimes(network, own, form, there, picture, names)
            bar.update()
            for row in rows:
                refuse_difference(row.difference or {}, path, tolerance, row.runtime)
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error
    return Exported(
        checkpoint=trained.path,
        path=path,
        format=form.title,
        size=size,
        bytes=path.stat().st_size,
        difference=difference,
        tolerance=tolerance,
        runtimes=rows,
    )


def default_path(run: Path, suffix: str) -> Path:
    """Beside the checkpoint; NAME.SUFFIX in the working folder for the network that ships, and
    USER--REPO.SUFFIX for one of the hub.
    """
    file = file_of(run)
    if is_shipped(file) or hub_run.repository(file.parent):
        return Path(title(file.parent).replace("/", "--") + suffix)
    return file.with_suffix(suffix)


def sample(count: int, size: tuple[int, int]) -> np.ndarray:
    """Coloured blobs with noise, the same ones each time: (count, H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(0)
    blobs = 255 * torch.rand(count, 3, 6, 8, generator=generator)
    smooth = F.interpolate(blobs, size=size, mode="bicubic")
    noise = 16 * torch.randn(count, 3, *size, generator=generator)
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def largest_differences(
    network: nn.Module, run: Runner, names: tuple[str, ...], size: tuple[int, int]
) -> dict[str, float]:
    """Task -> the largest absolute difference between file and network, tried with one picture and,
    unless they are large, with several: other numbers than the file was written with.
    """
    counts = [n for n in TRIED if n == 1 or n * size[0] * size[1] <= MOST_PIXELS]
    pictures = sample(max(counts), size)
    wanted = dict(zip(names, network(torch.from_numpy(pictures))))
    largest = dict.fromkeys(names, 0.0)
    for count in counts:
        found = run(pictures[:count])
        for name in names:
            apart = np.abs(found[name] - wanted[name][:count].numpy()).max()
            largest[name] = max(largest[name], float(apart))
    return largest


def refuse_difference(
    difference: Mapping[str, float], path: Path, tolerance: float = TOLERANCE, where: str = ""
) -> None:
    """A file that computes something else, in the program named `where`, must not stay.

    Raises:
        RunError: some task differs by more than `tolerance`, or by NaN.
    """
    wrong = {name: apart for name, apart in difference.items() if not apart <= tolerance}
    if wrong:
        listed = ", ".join(f"{name} {apart:.2g}" for name, apart in wrong.items())
        raise RunError(
            f"{path} is not written: it differs from the network by more than {tolerance:g} "
            f"{f'in {where} ' if where else ''}({listed}). Try another --size or --format."
        )


def facts(trained: Trained, size: tuple[int, int]) -> dict[str, str]:
    """What the file says of itself: values are plain text or JSON."""
    outputs = {
        name: {
            "title": task.title,
            "holds": f"{CHANCES} {task.holds}" if task.map.has_classes else task.holds,
            "shape": f"(B, {task.outputs(classes(trained, name))}, H, W)",
            "classes": classes(trained, name),
            "palette": trained.dataset.palettes.get(name),
        }
        for name, task in trained.tasks.items()
    }
    return {
        "program": f"mtl {mtlcli.__version__}, {MARK}",
        "input": f"image: uint8 (B, {size[0]}, {size[1]}, 3), RGB 0..255; normalised inside",
        "size": json.dumps(size),
        "outputs": json.dumps(outputs),
        "config": json.dumps(trained.config.to_json()),
        "info": json.dumps(trained.dataset.to_json()),
        "dataset": trained.config.dataset,
        "system": trained.config.system,
        "backbone": trained.config.backbone,
        "mean": json.dumps(trained.config.moments[0]),
        "deviation": json.dumps(trained.config.moments[1]),
        "licence": str((trained.record.init or {}).get("licence") or ""),
        "iteration": str(trained.iteration),
        "scales": json.dumps({name: asdict(its) for name, its in trained.applied.items()}),
    }


def classes(trained: Trained, task: str) -> list[str]:
    """Class names of a task, [] where it has none."""
    return list(trained.dataset.classes.get(task, ()))
