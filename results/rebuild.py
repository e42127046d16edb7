"""Writes every table of the pages from the records beside this file.

    python results/rebuild.py           # after a record has changed
    python results/rebuild.py --check   # only says which pages are not what the records say

A page has `<!-- NAME -->` above and `<!-- / -->` below what is written, or before and behind it in
one line; NAME is a function here, or a measurement in measured.json: figures that a command printed
once, and what to say of them. What has no record yet stays as it is.
"""

import argparse
import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from mtlcli import tasks as known_tasks
from mtlcli.data.augment import SCALES
from mtlcli.experiments._intervals import tell_apart
from mtlcli.experiments._table import table as experiment_table
from mtlcli.recipes._reported import reported
from mtlcli.runs.table import columns, markdown, mean_scores, metrics_table, number
from mtlcli.systems import _settings as settings

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "weights" / "nyud_small"
PAGES = (
    *(folder / "README.md" for folder in (ROOT, ROOT / "results", SHIPPED)),
    *sorted((ROOT / "docs").glob("*.md")),
)
PLACE = re.compile(r"(<!-- (\w+) -->(\n?)).*?(<!-- / -->)", re.DOTALL)
GPU_ROWS = {
    "cuda": "fused (CUDA)",
    "triton": "fused (Triton)",
    "SDPA cudnn": "global attention (SDPA, cuDNN)",
    "SDPA flash": "global attention (SDPA, flash)",
    "SDPA efficient": "global attention (SDPA, efficient)",
    "grid_sample by map": "`grid_sample` per map",
    "reference": "plain PyTorch",
}
DIRECTIONS = {"forward": "forward", "forward_backward": "forward and backward"}


def record(name: str) -> dict:
    """A record by its name."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def systems(name: str) -> str:
    """The table of an experiment, what can be told apart, and what ran."""
    found = record(name)
    return "\n\n".join(filter(None, (experiment_table(found), tell_apart(found), what_ran(found))))


def what_ran(found: dict) -> str:
    """The options that all runs share, and by system the settings that are not its defaults."""
    runs = {run["cell"]: run["config"] for run in found["runs"]}
    first = next(iter(runs.values()))
    warmup = f", warm-up {first['warmup']}" if first.get("warmup") else ""
    lines = [
        f"What ran: {sides(first['size'])}, {first['backbone']} from {first['init']} weights, "
        f"{first['iterations']} iterations of {first['batch_size']}, {first['optimizer']} "
        f"(lr {first['lr']:g}, weight decay {first['weight_decay']:g}{warmup}), "
        f"weighting {first['weighting']}. Settings that are not the system's defaults:"
    ]
    for cell, config in runs.items():
        usual = settings.defaults(config["system"])
        own = {n: v for n, v in config["settings"].items() if usual.get(n, v) != v}
        said = ", ".join(
            f"{n} {str(v).lower() if isinstance(v, bool) else v}" for n, v in own.items()
        )
        remark = NOT_RELEASED if own_form(config) else ""
        lines.append(f"{cell}: {said or 'none'}{remark};")
    if first["optimizer"] == "adamw":
        lines.append("under adamw the gradient scale lambda does nothing.")
    return "\n".join(lines)


def sides(size: Sequence[int]) -> str:
    """HxW."""
    return "x".join(map(str, size))


def by_cell(found: dict) -> dict[str, list[dict]]:
    """Cell -> its runs, one of each seed."""
    cells: dict[str, list[dict]] = {}
    for run in found["runs"]:
        cells.setdefault(run["cell"], []).append(run)
    return cells


def own_form(config: dict) -> bool:
    """Whether a run is MQTransformer, not as its authors released it."""
    own = {"attention": "global", "windows": True}
    return config["system"] == "mqtransformer" and own.items() <= config["settings"].items()


NOT_RELEASED = (
    " (attention global, windows true: not as released, which is attention self, windows false)"
)


def rooms_systems() -> str:
    """Five systems on rooms."""
    return systems("rooms_systems")


def nyud_small_systems() -> str:
    """The same on real pictures."""
    return systems("nyud_small_systems")


def rooms_gradient_scale() -> str:
    """Lambda on rooms."""
    return systems("rooms_gradient_scale")


def rooms_gradient_scopes() -> str:
    """What lambda scales, on rooms."""
    return systems("rooms_gradient_scopes")


def nyud_lite_sgd() -> str:
    """Systems on a pretrained backbone, with the paper's optimiser."""
    return systems("nyud_lite_sgd")


def nyud_lite_adamw() -> str:
    """Every system on a pretrained backbone, AdamW."""
    return systems("nyud_lite_adamw")


def nyud_lite_lambda() -> str:
    """Lambda, what it scales, and steps on a pretrained backbone."""
    return systems("nyud_lite_lambda")


def offsets_on_nyud() -> str:
    """Where the attention of these runs looks at the end."""
    return offsets_of("nyud_lite_lambda")


def offsets() -> str:
    """Where the attention of the runs with one seed looks at the end."""
    return offsets_of("rooms_gradient_scale")


def offsets_by_scope() -> str:
    """The same of both scopes."""
    return offsets_of("rooms_gradient_scopes")


def offsets_of(name: str) -> str:
    """Where the attention of an experiment's runs looks at the end, mean over the seeds."""
    rows = []
    for cell, runs in by_cell(record(name)).items():
        seen = [next(iter(run["offsets"].values())) for run in runs]
        pixels, outside = (
            [fmean(level) for level in zip(*(one[key] for one in seen))]
            for key in ("pixels", "outside")
        )
        moved = ", ".join(f"{value:.2f}" for value in pixels)
        rows.append([cell, moved, ", ".join(f"{value:.0%}" for value in outside)])
    head = ["", "mean offset at the end, cells of level 1, 2, 3", "points outside the map"]
    return markdown(head, rows, left=3)


def demo() -> str:
    """What `mtl demo` comes to from both starts: copies of its runs' results.json."""
    found = {start: record(f"demo/{start}") for start in ("random", "imagenet")}
    rows = {
        "from random weights": found["random"]["main"],
        "from ImageNet's weights": found["imagenet"]["main"],
        "best constant": found["imagenet"]["constant"],
    }
    return metrics_table(columns(known_tasks.named(found["random"]["main"])), rows)


def demo_length() -> str:
    """What it trains on from random weights."""
    return length("demo/random")


def demo_length_from_imagenet() -> str:
    """What it trains on from ImageNet's."""
    return length("demo/imagenet")


def length(name: str) -> str:
    """How long a record's run is."""
    config = record(name)["config"]
    pictures = f"{config['batch_size']} pictures at {sides(config['size'])}"
    return f"{config['iterations']} iterations of {pictures}"


def nyud_small() -> str:
    """The network that ships."""
    found = shipped()
    rows = {"this network": found["main"], "best constant": found["constant"]}
    return metrics_table(columns(known_tasks.named(found["main"])), rows)


def nyud_small_stages() -> str:
    """How it came to be: every training, and what the pictures held out of it said at its end."""
    heads = columns(known_tasks.named(("semseg", "depth", "normals", "edge")))
    rows = []
    for stage in record("nyud_small/stages"):
        config, seen, done = stage["config"], stage["holdout"] or {}, stage["iterations_done"]
        window, size = (sides(config[n] or config["size"]) for n in ("crop", "size"))
        least, most = config["zoom"] or SCALES
        last = stage["holdout_iteration"] or done
        row = [
            stage["name"],
            stage.get("begun_with") or config["from_run"] or "ImageNet's weights",
            f"{done:,} of {config['batch_size']}" + f" (scored after {last})" * (last != done),
            f"{config['lr']:g}",
            f"{window} of {size}, scaled by {least:g} to {most:g}",
            config["weighting"],
        ]
        rows.append(row + [number(seen.get(task), unit) for task, (_, unit) in heads.items()])
    head = ["", "begun with", "iterations", "lr", "crops", "weighting"]
    return markdown([*head, *(heading for heading, _ in heads.values())], rows, left=6)


def shipped() -> dict:
    """The scores of the network that ships."""
    return json.loads((SHIPPED / "results.json").read_text())


def nyud_small_depth() -> str:
    """How far its depth is off."""
    return f"{shipped()['main']['depth']:.2f} m"


def nyud_small_miou() -> str:
    """How much it knows of objects."""
    return f"{shipped()['main']['semseg']:.2f}"


def nyud_constant_depth() -> str:
    """RMSE of the best constant on NYUD-v2."""
    return f"{shipped()['constant']['depth']:.3f} m"


def published() -> str:
    """Reported rows of HRNet18 beside ours of NYUD-v2, each with what it was trained on."""
    heads = columns(known_tasks.named(shipped()["main"]))
    reports = [
        (f"{one.method}, as in {one.source}", one.backbone, PUBLISHED_BUDGET, 654, one.scores)
        for one in reported("nyud/hrnet18/*")
    ]
    rows = [
        [name, backbone, trained, f"{images}",
         *(number(scores.get(task), unit) for task, (_, unit) in heads.items())]
        for name, backbone, trained, images, scores in (*reports, shipped_row(), *own_rows())
    ]  # fmt: skip
    head = ["", "backbone", "trained on", "scored on", *(heading for heading, _ in heads.values())]
    return markdown(head, rows, left=3)


PRETRAINED = ("nyud_lite_sgd", "nyud_lite_adamw")  # backbones, and all of NYUD-v2
PUBLISHED_BUDGET = "40,000 of 8 at 425x560"
Row = tuple[str, str, str, int, dict[str, float]]


def shipped_row() -> Row:
    """The network that ships, after all its stages."""
    stages, found = record("nyud_small/stages"), shipped()
    done: Counter[tuple[int, tuple[int, int]]] = Counter()
    for stage in stages:
        its = stage["config"]
        taken = stage.get("taken_after", stage["iterations_done"])  # by the next one
        done[its["batch_size"], tuple(its["size"])] += taken
    said = ", ".join(f"{n:,} of {batch} at {sides(size)}" for (batch, size), n in done.items())
    return "`nyud_small`", found["config"]["backbone"], said, found["images"], found["main"]


def own_rows() -> Iterator[Row]:
    """The cells of the experiments on pretrained backbones, mean over their seeds."""
    for name in PRETRAINED:
        for cell, runs in by_cell(record(name)).items():
            config, scores = runs[0]["config"], mean_scores([run["main"] for run in runs])
            said = f"{config['iterations']:,} of {config['batch_size']} at {sides(config['size'])}"
            yield f"{cell} (`{name}`)", config["backbone"], said, runs[0]["images"], scores


def performance() -> str:
    """What things cost, machine by machine."""
    spec = importlib.util.spec_from_file_location("record", ROOT / "tests/bench/record.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.table(record("performance"))


def attention() -> str:
    """Deformable attention and its baselines, seconds."""
    found = record("performance")[0]["attention"]
    names = {"numba": "fused (numba)", "grid_sample by map": "`grid_sample` per map",
             "SDPA flash": "global attention over 59,920 tokens (SDPA)"}  # fmt: skip
    rows, ratios = [], found["ratios"]
    for name, title in names.items():
        for dtype in ("fp32", "bf16") if name == "SDPA flash" else ("fp32",):
            cells = [f"{title}, {dtype}"]
            for direction in DIRECTIONS:
                ms = next(
                    r["ms"] for r in found["rows"]
                    if (r["name"], r["dtype"], r["direction"]) == (name, dtype, direction)
                )  # fmt: skip
                key = "vs_grid_sample" if "grid" in name else f"vs_sdpa_{dtype}"
                over = "1" if name == "numba" else f"{ratios[direction][key]:.0f}x"
                cells += [f"{ms / 1000:.2f}", over]
            rows.append(cells)
    head = ["", *(h for d in DIRECTIONS.values() for h in (f"{d}, s", "over ours"))]
    return markdown(head, rows)


def attention_besides() -> str:
    """Memory, error and the linear maps of that attention."""
    found = record("performance")[0]["attention"]
    forward, both = (
        next(r for r in found["rows"] if (r["name"], r["dtype"], r["direction"]) == ours)
        for ours in (("numba", "fp32", direction) for direction in DIRECTIONS)
    )
    ratios = [found["ratios_with_linear_maps"][d]["vs_sdpa_fp32"] for d in DIRECTIONS]
    return (
        f"Extra memory is {forward['extra_bytes'] / 1e6:.0f} MB forward and "
        f"{both['extra_bytes'] / 1e6:.0f} MB with backward, the error against float64 "
        f"{forward['error']:.1e}. The linear maps around both are left out above; with them the "
        f"ratio to SDPA in fp32 is {ratios[0]:.0f}x forward and {ratios[1]:.0f}x with backward."
    )


def gpu(stage: str) -> list[dict]:
    """What `tests/gpu/check.py` wrote down of a stage."""
    lines = (ROOT / "results" / "gpu" / "h200.jsonl").read_text().splitlines()
    return [found for found in map(json.loads, lines) if found["stage"] == stage]


def gpu_machine() -> str:
    """What the numbers depend on."""
    found = gpu("machine")[0]
    return f"{found['device']}, torch {found['torch']}, Triton {found['triton']}"


def gpu_attention() -> str:
    """Deformable attention and its baselines, milliseconds, and times ours."""
    found = {
        (r["name"], r["dtype"], r["direction"]): r["ms"] for r in gpu("attention") if "ms" in r
    }
    rows = []
    for name, title in GPU_ROWS.items():
        for dtype in ("bf16", "fp32"):
            cells = [f"{title}, {dtype}"]
            for direction in DIRECTIONS:
                ms, ours = (found.get((n, dtype, direction)) for n in (name, "cuda"))
                cells += [f"{ms:.2f}", f"{ms / ours:.1f}x"] if ms and ours else ["-", "-"]
            rows += [cells] if set(cells[1:]) != {"-"} else []
    head = ["", *(h for d in DIRECTIONS.values() for h in (f"{d}, ms", "over ours"))]
    return markdown(head, rows)


def gpu_besides() -> str:
    """Errors, ratios with the linear maps, and what the card can do."""
    checked = [r for r in gpu("operators") if "ok" in r]
    worst = {
        dtype: max(max(r["errors"].values()) for r in checked
                   if (r["operator"], r["dtype"]) == ("cuda", dtype) and "errors" in r)
        for dtype in ("fp32", "bf16", "fp16")
    }  # fmt: skip
    (ratios,) = (r["ratios_with_linear_maps"] for r in gpu("attention") if "ratios" in r)
    over = [ratios[direction]["vs_sdpa_bf16"] for direction in DIRECTIONS]
    can = {r["ceiling"]: r["value"] for r in gpu("kernels") if "ceiling" in r}
    errors = ", ".join(f"{error:.0e} in {dtype}" for dtype, error in worst.items())
    wrong = sum(not r["ok"] for r in checked)
    return (
        f"Of {len(checked)} comparisons with float64 {wrong or 'none'} failed; the largest "
        f"relative error of the CUDA kernels is {errors}. With the linear maps around both the "
        f"ratio to SDPA in bf16 is {over[0]:.1f}x forward and {over[1]:.1f}x with backward. This "
        f"card copied {can['copy']:.2f} TB/s and multiplied bf16 matrices at "
        f"{can['matrix product bf16']:.0f} TFLOP/s."
    )


def gpu_summary() -> str:
    """Attention and steps in one sentence each."""
    found = {(r["name"], r["direction"]): r["ms"] for r in gpu("attention")
             if r.get("dtype") == "bf16" and r.get("ms")}  # fmt: skip
    ours, best = ([found[name, d] for d in DIRECTIONS] for name in ("cuda", "SDPA cudnn"))
    steps = {r["system"]: r["step_ms"] for r in gpu("steps") if "step_ms" in r}
    return (
        f"deformable attention takes {ours[0]:.2f} ms forward and {ours[1]:.2f} with backward in "
        f"bf16, the best global attention {best[0]:.2f} and {best[1]:.2f}; a training step of DeMT "
        f"takes {steps['demt']:.0f} ms, of DeMT-ITSA {steps['itsa global']:.0f} with the paper's "
        f"global queries and {steps['itsa pixel']:.0f} with `--query pixel`"
    )


def gpu_kernels() -> str:
    """Each kernel's milliseconds by kind of offsets and type."""
    ran = [r for r in gpu("kernels") if r.get("kernels") == "cuda" and "ms" in r]
    parts = list(dict.fromkeys(r["part"] for r in ran))
    rows = [
        [f"{offsets}, {dtype}", *(f"{found[part]:.2f}" for part in parts)]
        for offsets, dtype in dict.fromkeys((r["offsets"], r["dtype"]) for r in ran)
        for found in [{r["part"]: r["ms"] for r in ran
                       if (r["offsets"], r["dtype"]) == (offsets, dtype)}]
    ]  # fmt: skip
    return markdown(["offsets", *parts], rows)


def gpu_steps() -> str:
    """A training step of every system."""
    rows = []
    for r in (r for r in gpu("steps") if "step_ms" in r):
        share = r["share"]
        mixing = share.get("deformable attention", 0), share.get("global attention", 0)
        rows.append([
            r["system"], f"{r['step_ms']:.0f}", f"{1e3 * r['batch_size'] / r['step_ms']:.0f}",
            f"{r['memory_gb']:.1f}", *(f"{one:.0%}" for one in (share["backbone"], *mixing)),
        ])  # fmt: skip
    head = ["", "ms", "pictures/s", "GB", "backbone", "deformable attention", "global attention"]
    return markdown(head, rows)


def measured(name: str) -> str:
    """What is said of a single measurement."""
    found = record("measured")[name]
    return found["says"].format(**found["values"])


def queries() -> str:
    """The whole network with each query block."""
    found = record("performance")[0]["queries"]
    said = ", ".join(f"{one['seconds']:.1f} s with `--query {q}`" for q, one in
                     found["queries"].items())  # fmt: skip
    return f"Image in, maps out (HRNet18, one step, {sides(found['size'])}): {said}."


def boundaries() -> str:
    """Time of the boundary metric."""
    lines = []
    for name, one in record("performance")[0]["boundary"].items():
        ratios = sorted(b["ratio"] for b in one.values() if isinstance(b, dict))
        lines.append(
            f"- `{name}`, {one['thresholds']} thresholds: {one['seconds']:.3f} s per 425x560 image "
            f"on one core, {ratios[0]:.0f} and {ratios[1]:.0f} times faster than scipy's "
            "assignment solver per threshold (set up in two ways)"
        )
    return "\n".join(lines)


def rebuilt(page: Path) -> str:
    """A page with everything that comes from records written anew."""

    def write(place: re.Match[str]) -> str:
        make: Callable[[], str] = globals().get(place[2]) or partial(measured, place[2])
        try:
            return f"{place[1]}{make()}{place[3]}{place[4]}"
        except FileNotFoundError:
            return place[0]

    return PLACE.sub(write, page.read_text())


def main() -> int:
    """Write the pages, or only compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [page for page in PAGES if rebuilt(page) != page.read_text()]
    for page in stale:
        print(f"{page.relative_to(ROOT)} {'is not what its records say' if check else 'rewritten'}")
        if not check:
            page.write_text(rebuilt(page))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
