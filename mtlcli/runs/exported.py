"""A network in a file of `mtl export`, behind the interface of a checkpoint's."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlcli.data.hdf5 import Info
from mtlcli.data.moments import Moments
from mtlcli.errors import InputError, RunError, in_one_line
from mtlcli.files import MARK, fits
from mtlcli.maps._picture import LARGEST
from mtlcli.runs.checkpoint import Trained, tasks_of
from mtlcli.runs.config import RunConfig
from mtlcli.runs.foreign import describe
from mtlcli.runs.program import Harmful, require_harmless
from mtlcli.runs.run import is_sound
from mtlcli.runs.scale import read_scales
from mtlcli.runs.seal import is_unbroken
from mtlcli.tasks._task import Task

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]  # pictures -> {name: maps}
RunnerOf = Callable[[tuple[str, ...]], Runner]  # names of outputs -> how to run what is read
Open = Callable[[Path, tuple[str, ...]], Runner]  # file, names of its outputs -> how to run it
REMEDY = "Install what it needs: pip install 'mtlcli[onnx]'."
KEPT = ("program", "size", "config", "info", "iteration", "scales")  # facts that are read again
UNREADABLE = (InputError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What facts of other programs end in."""
SMALLEST = 1e-12  # probability that still has a logarithm


def load(file: Path) -> Trained:
    """The network of an exported file; it computes on the CPU.

    Raises:
        InputError: it is something else, cut short, or nothing here runs it.
    """
    with file.open("rb") as opened:
        is_torch = opened.read(2) == b"PK"  # an archive, whole or not
    facts, runner_of = read_pt2(file) if is_torch else read_onnx(file)
    try:
        config = RunConfig.from_json(json.loads(facts["config"]))
        dataset = Info.from_json(json.loads(facts["info"]))
        height, width = read_size(facts["size"])
        iteration = int(facts["iteration"])
        scales = read_scales(json.loads(facts.get("scales") or "{}"))
        tasks = tasks_of(config.tasks, dataset)
    except UNREADABLE as error:
        what = describe(file) or "not of mtl"
        if MARK in facts.get("program", ""):
            what = f"of another version ({facts['program']}): export it again"
        raise InputError(f"{file} is {what}.") from error
    names = tuple(config.tasks)
    run = runner_of(names)
    channels = {n: task.outputs(dataset.classes.get(n, ())) for n, task in tasks.items()}
    network = ExportedNetwork(file, run, tasks, channels, (height, width), config.moments)
    return Trained(
        path=file,
        network=network.eval(),
        config=config,
        dataset=dataset,
        iteration=iteration,
        takes=(height, width),
        inside=scales,
    )


def read_size(said: str) -> tuple[int, int]:
    """Height and width that a file takes (raises ValueError: it says none that a picture has)."""
    size = json.loads(said)
    if not fits(size, tuple[int, int]) or min(size) < 1 or size[0] * size[1] > LARGEST:
        raise ValueError(said)
    return size[0], size[1]


class ExportedNetwork(nn.Module):
    """Normalised pictures (B, 3, H, W) of any size -> {task: logits at the file's size}.

    The file wants bytes and gives decoded maps: normalising and decoding are undone here, so that
    whoever decodes again gets the maps of the file.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        file: Path,
        run: Runner,
        tasks: Mapping[str, Task],
        channels: Mapping[str, int],
        size: tuple[int, int],
        moments: Moments,
    ) -> None:
        super().__init__()
        self.file, self.run, self.size = file, run, size
        self.tasks, self.channels = tasks, channels
        mean, deviation = torch.tensor(moments)[..., None, None]  # 3, 1, 1 each
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        pixels = 255 * (image.cpu().float() * self.deviation + self.mean)
        if tuple(pixels.shape[-2:]) != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bilinear", antialias=True)
        images = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        try:
            return self.as_logits(self.run(images))
        except Exception as error:  # of what runs it, or of what it gives
            raise RunError(
                f"{self.file} cannot be run ({in_one_line(error)}): export it again."
            ) from error

    def as_logits(self, found: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """What the file gave as the network would (raises ValueError: it is something else)."""
        logits = {n: undo(task, torch.from_numpy(found[n])) for n, task in self.tasks.items()}
        for name, maps in logits.items():
            if maps.ndim != 4 or maps.shape[1] != self.channels[name]:
                raise ValueError(f"{name} is {tuple(found[name].shape)}")
        return logits


def undo(task: Task, maps: Tensor) -> Tensor:
    """Logits that decode to these maps: (B, C, H, W) as a file gives them."""
    if task.map.has_classes:
        return maps.clamp(min=SMALLEST).log()
    if task.map.pointed != "share":
        return maps
    logits = maps.clamp(min=SMALLEST).log() - (1 - maps).clamp(min=SMALLEST).log()
    return logits if task.channels == 1 else torch.cat((torch.zeros_like(logits), logits), 1)


def open_with_onnxruntime(path: Path, names: tuple[str, ...]) -> Runner:
    """Run an ONNX file on the CPU.

    Raises:
        InputError: onnxruntime is not installed, or cannot run it.
    """
    return run_session(start_session(path), names)


def run_session(session: Any, names: tuple[str, ...]) -> Runner:
    """Maps of these names out of a session of onnxruntime."""

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(list(names), {"image": image})))

    return run


def read_onnx(path: Path) -> tuple[dict[str, str], RunnerOf]:
    """The metadata of an ONNX file, and what runs it (raises InputError as
    `open_with_onnxruntime`, and if a byte is not as it was written).
    """
    if not is_unbroken(path.read_bytes()):
        raise InputError(f"{path} is damaged: its checksum does not hold. Export it again.")
    session = start_session(path)
    return dict(session.get_modelmeta().custom_metadata_map), partial(run_session, session)


def start_session(path: Path) -> Any:
    """A session of onnxruntime on the CPU (raises InputError as `open_with_onnxruntime`)."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"Running ONNX: {error}. {REMEDY}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no kind in common
        what = describe(path)
        if not what or "ONNX" in what:
            what = "cut short, damaged or of operators that onnxruntime lacks: export it again"
        raise InputError(f"{path} cannot be run as ONNX: it is {what}.") from error


def open_with_torch(path: Path, names: tuple[str, ...]) -> Runner:
    """Run a program of torch.export on the CPU (raises InputError: this torch cannot)."""
    return run_program(load_program(path, {}), names)


def run_program(program: torch.export.ExportedProgram, names: tuple[str, ...]) -> Runner:
    """Maps of these names out of a program of torch.export."""
    network = program.module()

    @torch.inference_mode()
    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        found = network(torch.from_numpy(image))
        return {name: found[name].numpy() for name in names}

    return run


def read_pt2(path: Path) -> tuple[dict[str, str], RunnerOf]:
    """What was written beside a program of torch.export, and what runs it (raises InputError as
    `open_with_torch`).
    """
    facts = dict.fromkeys(KEPT, "")
    program = load_program(path, facts)
    return {key: said for key, said in facts.items() if said}, partial(run_program, program)


@contextmanager
def silence_torch() -> Iterator[None]:
    """Within it deprecations inside torch.export are left out, and what it logs of bad files."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def load_program(path: Path, facts: dict[str, str]) -> torch.export.ExportedProgram:
    """The program; `facts` are filled in.

    Raises:
        InputError: this torch cannot read it, it is damaged, or it could do more than compute.
    """
    try:
        with silence_torch(), path.open("rb") as file:  # by name it must end in .pt2
            if not is_sound(path):
                raise ValueError("its checksums do not hold")
            require_harmless(file)
            return torch.export.load(file, extra_files=facts)  # type: ignore[arg-type]
    except Harmful as error:
        raise InputError(
            f"{path} is refused: {error}, which `mtl export` does not write, and which may do more "
            "than compute."
        ) from error
    except Exception as error:  # what other programs and versions wrote ends in any error
        what = describe(path)
        if "torch.export" in what or not what:
            what = (
                f"one of torch.export, damaged or not of torch {torch.__version__}: export it again"
            )
        raise InputError(
            f"{path} is no exported program that can be read: it is {what}."
        ) from error
