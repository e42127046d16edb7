"""What only a GPU can show of this product, in one run of about eight minutes.

    python tests/gpu/check.py --out DIR [--seconds 500] [--stages kernels,steps]

Every implementation of deformable attention against plain PyTorch in float64, forward and all
gradients; its kernels one by one, and beside all other attention; a training step of every system;
then iterations of the recipe nyud/hrnet18/demt_itsa at full size in half precision on random
pictures, each time in a fresh process: with no compiled kernels at hand, with them, and with
cuDNN's search. On an H200, 2026-11-27, all but the trainings took four minutes.
Each result is a line of DIR/results.jsonl as soon as it is known; a table ends the output. Exit
code 1: an operator is wrong, or something did not run. `--device cpu --tiny` tries the script.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcli.data.convert import convert
from mtlcli.data.prepare import Request, make_info
from mtlcli.datasets._dataset import Plan
from mtlcli.datasets.nyud import DATASET
from mtlcli.errors import InputError
from mtlcli.home import datasets_dir
from mtlcli.ops import choice, reference, standby
from mtlcli.recipes._recipe import recipe
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.training import loop as train
from mtlcli.training.clock import peak_memory

RECIPE = "nyud/hrnet18/demt_itsa"
RESULTS = "results.jsonl"
SLACK = 30.0  # seconds kept free at the end
LEAST = 20.0  # seconds without which a stage is not begun
TRAININGS = ("train_cold", "train_warm", "train_search")
STAGES = ("kernels", "operators", "habits", "attention", "steps", *TRAININGS)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LIMITS = {"fp32": 5e-5, "bf16": 1e-2, "fp16": 2e-3}  # relative errors, of norms
NAMES = ("out", "value", "offsets", "logits")
REPEATS = 10  # of what is timed
FIRST = 10  # iterations that do not count where there are more
LEAST_ITERATIONS = FIRST + 3  # the last one saves, too


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a problem; queries in each picture, points on each map."""

    name: str
    maps: tuple[tuple[int, int], ...]
    queries: int
    batch: int = 2
    heads: int = 4
    points: int = 4
    channels: int = 70


SHAPES = (
    Shape(name="odd", maps=((5, 7), (3, 4), (1, 1)), queries=13, heads=3, points=3, channels=5),
    Shape(
        name="degenerate", maps=((4, 3), (0, 5), (1, 6), (1, 1), (5, 1)), queries=37, channels=33
    ),
    Shape(name="wide heads", maps=((97, 131), (13, 9)), queries=501, heads=1, channels=130),
    Shape(name="many points", maps=((27, 35),) * 3, queries=945, points=21, channels=16),
)
NYUD = Shape(name="NYUD", maps=((107, 140),) * 12, queries=4 * 107 * 140, batch=1, points=16)
PLAIN = ("reference", "grid_sample", "numba")  # not timed
LARGE = ("gather",)  # keep all they read: 51 GB for gradients of the largest problem
BORDERS = ("clamp", "zeros")
# Each combination compiles kernels of its own, so borders take turns.
SMALL = [(s, d, BORDERS[i]) for s in SHAPES[:2] for i, d in enumerate(("fp32", "bf16"))]
CHECKS = [
    *((s, d, BORDERS[(i + k) % 2]) for i, s in enumerate(SHAPES) for k, d in enumerate(DTYPES)),
    *((NYUD, dtype, "clamp") for dtype in DTYPES),
    (NYUD, "fp32", "zeros"),
]


def main() -> int:
    """Run every stage in a process of its own, within the time; 1 if anything is wrong."""
    options = parse()
    if options.stage:
        return run_stage(options)
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(options.out / "kernels", ignore_errors=True)  # the first training is a cold one
    (options.out / RESULTS).write_text("")
    note(options, stage="machine", **machine(options.device))
    for stage in options.stages.split(","):
        started = time.monotonic()
        left = options.seconds - SLACK - (started - began)
        if left < LEAST:
            note(options, stage=stage, skipped=f"{max(left, 0):.0f} s were left")
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--stage", stage]
        try:
            code = subprocess.run(command, timeout=left).returncode
        except subprocess.TimeoutExpired:
            note(options, stage=stage, skipped=f"cut after {left:.0f} s", took_s=round(left, 1))
            continue
        if code:
            note(options, stage=stage, failed=f"its process ended with code {code}")
        note(options, stage=stage, took_s=round(time.monotonic() - started, 1))
    results = [json.loads(line) for line in (options.out / RESULTS).read_text().splitlines()]
    print(table(results))
    return int(any("failed" in result or result.get("ok") is False for result in results))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--seconds", type=float, default=500.0, help="for everything")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--stages", help=f"only these of {','.join(STAGES)}")
    parser.add_argument("--iterations", type=int, default=25, help="of the recipe")
    parser.add_argument("--tiny", action="store_true", help="small problems, few iterations")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.stages = options.stages or ",".join(STAGES[:-2] if options.tiny else STAGES)
    if unknown := {*options.stages.split(",")} - {*STAGES}:
        parser.error(f"no stage {', '.join(unknown)}")
    if TRAININGS[0] not in options.stages and any(t in options.stages for t in TRAININGS):
        parser.error(f"{' and '.join(TRAININGS[1:])} find the kernels of {TRAININGS[0]}: add that")
    if options.iterations < LEAST_ITERATIONS:
        parser.error(f"--iterations {options.iterations}: {LEAST_ITERATIONS} at least")
    return options


def note(options: argparse.Namespace, **result: Any) -> None:
    """Write down one result at once: what ends this process later loses nothing."""
    line = json.dumps(result)
    print(line, flush=True)
    with (options.out / RESULTS).open("a") as file:
        file.write(line + "\n")


def run_stage(options: argparse.Namespace) -> int:
    """One stage, in this process; a failure is a result too."""
    try:
        with standby.strict():
            run = train_recipe if options.stage in TRAININGS else find_stage(options.stage)
            run(options)
    except Exception as error:
        note(options, stage=options.stage, failed=said(error))
    return 0


def find_stage(name: str) -> Callable[[argparse.Namespace], None]:
    """The other files of this folder are imported where they run: they need this one."""
    if name == "operators":
        return check_operators
    import habits
    import kernels
    import steps

    return {
        "kernels": kernels.run_kernels,
        "habits": habits.run_habits,
        "attention": kernels.run_attention,
        "steps": steps.run_steps,
    }[name]


def said(error: Exception) -> str:
    """One line of at most 200 characters."""
    line, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {line}"[:200]


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    if torch.device(device).type != "cuda":
        return found | {"device": device}
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    index = torch.device(device).index or 0
    return found | {
        "device": torch.cuda.get_device_name(index),
        "driver": driver[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


# Stage 1: operators ------------------------------------------------------------------------------


class Problem:
    """Random inputs of a type, no sample near a whole pixel, where gradients jump."""

    def __init__(self, shape: Shape, kind: torch.dtype, device: torch.device):
        samples = (shape.batch, shape.queries, shape.heads, len(shape.maps), shape.points)
        pixels = sum(height * width for height, width in shape.maps)
        self.shape = shape
        self.value = torch.randn(
            shape.batch, pixels, shape.heads, shape.channels, device=device
        ).to(kind)
        self.points = torch.rand(shape.queries, 2, device=device)
        offsets = 3 * torch.randn(*samples, 2, device=device)
        size = torch.tensor(shape.maps, device=device).flip(-1)[:, None]
        position = self.points[:, None, None, None] * size - 0.5 + offsets
        self.offsets = offsets + 0.01 * ((position - position.round()).abs() < 2e-3)
        self.logits = 2 * torch.randn(samples, device=device)
        width = shape.heads * shape.channels
        self.grad = torch.randn(shape.batch, shape.queries, width, device=device).to(kind)

    def run(self, operator: choice.Operator, border: str, exact: bool = False) -> list[Tensor]:
        """The output and the gradients of value, offsets and logits, from poisoned memory."""
        kind = torch.float64 if exact else None
        leaves = [
            tensor.to(kind or tensor.dtype, copy=True).requires_grad_()
            for tensor in (self.value, self.offsets, self.logits)
        ]
        value, offsets, logits = leaves
        points = self.points.to(kind or self.points.dtype)
        poison(leaves)
        out = operator(value, list(self.shape.maps), points, offsets, logits, border)
        poison(leaves)
        grads = torch.autograd.grad(out, leaves, self.grad.to(out.dtype))
        return [out.detach(), *grads]


def poison(like: list[Tensor]) -> None:
    """Leave NaN in the memory that the next tensors of these sizes get."""
    _ = [torch.full_like(t, torch.nan, dtype=d) for t in like for d in (t.dtype, torch.float32)]


def check_operators(options: argparse.Namespace) -> None:
    """Every implementation that this device has, smallest problems first."""
    device = torch.device(options.device)
    torch.manual_seed(int(time.time()))
    for shape, label, border in SMALL if options.tiny else CHECKS:
        problem = Problem(shape, DTYPES[label], device)
        wanted = problem.run(reference.deformable_attention, border, exact=True)
        for name in choice.IMPLEMENTATIONS:
            if shape is NYUD and name in LARGE:
                continue
            what = {"operator": name, "shape": shape.name, "dtype": label, "border": border}
            found = judged(problem, choice.load(name), border, wanted, LIMITS[label])
            if found.get("ok") and shape is NYUD and name not in PLAIN:
                try:
                    found |= timed(problem, choice.load(name), border)
                except Exception as error:
                    found |= {"failed": said(error)}
            note(options, stage="operators", **what, **found)


def judged(
    problem: Problem, operator: choice.Operator, border: str, wanted: list[Tensor], limit: float
) -> dict[str, Any]:
    """Errors relative to float64, or why there are none."""
    try:
        found = problem.run(operator, border)
    except InputError as error:
        return {"absent": said(error)}
    except Exception as error:
        return {"ok": False, "failed": said(error)}
    errors = {key: distance(a, b) for key, a, b in zip(NAMES, found, wanted)}
    return {"ok": all(error <= limit for error in errors.values()), "errors": errors}


def distance(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|; NaN, also of an element never written, is infinitely far."""
    error = float((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-30))
    return float(f"{error:.2e}") if np.isfinite(error) else float("1e9")


def timed(problem: Problem, operator: choice.Operator, border: str) -> dict[str, float]:
    """Median milliseconds on the device's own clock: of the forward pass, and with the backward."""
    value, offsets, logits = leaves = [
        tensor.clone().requires_grad_()
        for tensor in (problem.value, problem.offsets, problem.logits)
    ]
    told = (list(problem.shape.maps), problem.points, offsets, logits, border)

    def forward() -> None:
        with torch.no_grad():
            operator(value, *told)

    def both() -> None:
        torch.autograd.grad(operator(value, *told), leaves, problem.grad)

    return {"forward_ms": milliseconds(forward), "forward_backward_ms": milliseconds(both)}


def milliseconds(work: Callable[[], object]) -> float:
    """Median of runs after two to warm up; without a GPU, of one."""
    times = []
    for _ in range(REPEATS + 2 if torch.cuda.is_available() else 1):
        if not torch.cuda.is_available():
            began = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - began))
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return round(median(times[2:] or times), 3)


# Stages 2 to 4: training -------------------------------------------------------------------------


class Marks:
    """When each iteration of the product's loop began, by the device's clock and by ours."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[Any] = []
        self.began = self.first = 0.0
        self.original = train.set_learning_rate

    def __call__(self, optimizer: Any, config: Any, iteration: int) -> None:
        """Stands before `set_learning_rate`, with which an iteration begins."""
        if iteration < 2:
            self.wait()
            if iteration == 0:
                self.began = time.perf_counter()
            else:
                self.first = time.perf_counter() - self.began
        self.mark()
        self.original(optimizer, config, iteration)

    def mark(self) -> None:
        """Now."""
        if self.device.type != "cuda":
            self.times.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.times.append(event)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def milliseconds(self) -> list[float]:
        """Of every iteration."""
        self.wait()
        return [1e3 * span for span in spans(self.times)]


def spans(times: list[Any]) -> Iterator[float]:
    """Seconds from each mark to the next."""
    for before, after in pairwise(times):
        cuda = isinstance(before, torch.cuda.Event)
        yield before.elapsed_time(after) / 1e3 if cuda else after - before


def train_recipe(options: argparse.Namespace) -> None:
    """The product's own training of the recipe, with random weights, on random pictures."""
    device, search = torch.device(options.device), options.stage == "train_search"
    kernels = options.out / "kernels"  # empty before the first training
    os.environ |= {"TRITON_CACHE_DIR": str(kernels), "XDG_CACHE_HOME": str(kernels)}
    size, batch = make_home(options)
    iterations = 3 if options.tiny else options.iterations
    whole = recipe(RECIPE)
    config = replace(
        RunConfig(**whole.options()),
        init="random",
        size=size,
        iterations=iterations,
        batch_size=batch,
        amp=True,
        recipe="",
    )
    torch.backends.cudnn.benchmark = search
    marks = train.set_learning_rate = Marks(device)
    workers = 0 if options.tiny else min(8, os.cpu_count() or 1)
    conduct = Conduct(device=options.device, workers=workers, quiet=True)
    train.train(config, out=options.out / options.stage, conduct=conduct)
    marks.mark()
    each = marks.milliseconds()[:-1]  # the last one also saved
    later = each[FIRST:] or each
    steady = median(later)
    note(
        options,
        stage=options.stage,
        first_iteration_s=round(marks.first, 3),
        iteration_ms=round(steady, 2),
        slowest_ms=round(max(later), 2),
        iterations=iterations,
        batch_size=batch,
        size=size,
        memory_gb=round(peak_memory(device), 2),
        recipe_hours=round(steady * whole.iterations / 3.6e6, 2),
        cudnn_search=search,
    )


def make_home(options: argparse.Namespace) -> tuple[tuple[int, int], int]:
    """A home with a dataset of random pictures; their size, and that of a batch."""
    os.environ["MTL_HOME"] = str(options.out / "home")
    size, batch = ((32, 64), 2) if options.tiny else (DATASET.size, 8)
    make_pictures(size, 4 * batch)
    return size, batch


def make_pictures(size: tuple[int, int], count: int) -> None:
    """A dataset file of NYUD's tasks, once."""
    path = datasets_dir() / "nyud.h5"
    if path.exists():
        return
    work = path.with_suffix(".work")
    work.mkdir(parents=True)
    shape = tuple(size)

    def draw(split: str, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng()
        return {
            "image": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
            "semseg": rng.integers(0, 40, shape, dtype=np.uint8),
            "depth": rng.uniform(0.5, 10, shape).astype(np.float32),
            "normals": rng.integers(1, 256, (*shape, 3), dtype=np.uint8),
            "edge": (255 * (rng.random(shape) < 0.05)).astype(np.uint8),
        }

    ids = {"train": tuple(f"t{i}" for i in range(count)), "val": ("v0",)}
    plan = Plan(
        source="random", layout="random", geometry="random", ids=ids, tasks=DATASET.tasks,
        shape=size, read=draw,
    )  # fmt: skip
    info = make_info("nyud", DATASET, plan, (), Request())
    convert(plan, info, work, path, workers=1)


# What is said last -------------------------------------------------------------------------------


def table(results: list[dict[str, Any]]) -> str:
    """Machine, worst errors of each operator, what failed or was left out, training."""
    told = [", ".join(f"{k} {v}" for k, v in results[0].items() if k != "stage")]
    told += worst([r for r in results if "errors" in r])
    for r in results:
        label = " ".join(str(r[k]) for k in ("operator", "shape", "dtype", "border") if k in r)
        if "forward_ms" in r:
            both = r["forward_backward_ms"]
            told.append(f"{label}: forward {r['forward_ms']} ms, with backward {both} ms")
        for key in ("failed", "skipped"):
            if key in r:
                told.append(f"{key.upper()} {r['stage']} {label}: {r[key]}")
    told += of_kernels(results)
    told += of_steps(results)
    took = [f"{r['stage']} {r['took_s']:.0f}" for r in results if "took_s" in r]
    told.append(f"seconds of each stage: {', '.join(took) or 'none was run'}")
    absent = {r["operator"]: r["absent"] for r in results if "absent" in r}
    told += [f"{name} is not for this device ({why})" for name, why in absent.items()]
    for r in results:
        if "iteration_ms" in r:
            told.append(
                f"{r['stage']}: first iteration {r['first_iteration_s']} s, then "
                f"{r['iteration_ms']} ms, {r['memory_gb']} GB, {r['recipe_hours']} h for the recipe"
            )
    return "\n".join(told)


def of_kernels(results: list[dict[str, Any]]) -> list[str]:
    """A line for each implementation, type and kind of offsets; ceilings; against the best SDPA."""
    timed: dict[str, list[str]] = {}
    for r in results:
        if "part" in r and "ms" in r:
            name = f"{r['kernels']} {r['dtype']} {r['offsets']}"
            timed.setdefault(name, []).append(f"{r['part']} {r['ms']}")
    lines = [f"{name}, ms: {', '.join(parts)}" for name, parts in timed.items()]
    for r in results:
        if "channels" in r:
            verdict = "right and repeatable" if r["ok"] else "WRONG"
            lines.append(f"sampled channels: {verdict}, errors {r['distances']}, ms {r['times']}")
    held = {r["habit"]: r["ok"] for r in results if "habit" in r}
    if held:
        broken = [name for name, ok in held.items() if not ok]
        lines.append(f"habits: {len(held)}, broken: {', '.join(broken) or 'none'}")
    lines += [f"{r['ceiling']}: {r['value']} {r['unit']}" for r in results if "ceiling" in r]
    for r in results:
        if r["stage"] == "attention" and r.get("ms"):
            lines.append(f"{r['name']} {r['dtype']}, {r['direction']}: {r['ms']:.2f} ms")
        if "ratios" in r:
            lines += [f"{key}, {r['ours']}: {r[key]}" for key in r if key.startswith("ratios")]
    return lines


def of_steps(results: list[dict[str, Any]]) -> list[str]:
    """A line for each system."""
    return [
        f"{r['system']}: a step of {r['batch_size']} {r['step_ms']} ms, {r['memory_gb']} GB, "
        + ", ".join(f"{part} {share:.0%}" for part, share in r["share"].items())
        for r in results
        if "step_ms" in r
    ]


def worst(checked: list[dict[str, Any]]) -> list[str]:
    """A line for each operator and type."""
    lines = []
    for name, dtype in dict.fromkeys((r["operator"], r["dtype"]) for r in checked):
        mine = [r for r in checked if (r["operator"], r["dtype"]) == (name, dtype)]
        errors = " ".join(f"{k} {max(r['errors'][k] for r in mine):.0e}" for k in NAMES)
        wrong = sum(not r["ok"] for r in mine)
        verdict = f"WRONG in {wrong} of {len(mine)}" if wrong else f"right in {len(mine)}"
        lines.append(f"{name} {dtype}: {verdict}, worst errors {errors}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
