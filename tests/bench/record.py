"""The performance record of this machine, in one call:

    python tests/bench/record.py results/performance.json [--quick]

Runs `mtl bench attention` and `model`, training steps, augmentation, the three queries end to end
and boundaries one after the other, adds them with hardware, versions and date to the file, and
prints the table of all machines in it. The machine should have nothing else to do; training needs
rooms (`mtl prepare rooms`), and augmentation takes its samples from NYUD where it is prepared.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from mtlcli.runs.table import markdown
from mtlcli.scoring.contenders import OURS

HERE = Path(__file__).parent
MTL = [sys.executable, "-m", "mtlcli"]
BENCHES = {
    "attention": [*MTL, "bench", "attention", "--json", "--quiet"],
    "train": [sys.executable, str(HERE / "bench_train.py"), "--size", "120", "160", "--backbone",
              "resnet18_half", "--steps", "1", "--width", "48", "--points", "4", "--query", "pixel",
              "--json"],
    "augmentation": [sys.executable, str(HERE / "bench_augmentation.py"), "--json"],
    "queries": [sys.executable, str(HERE / "bench_queries.py"), "--rounds", "1", "--json"],
    "model": [*MTL, "bench", "model", "--steps", "1", "--query", "pixel", "--json"],
    "boundary": [sys.executable, str(HERE / "bench_boundary.py"), "--json"],
}  # fmt: skip


def processor() -> str:
    """Its name, cores and memory."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def machine() -> dict:
    """What was measured on, with what, and when."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "hardware": ", ".join([processor(), *gpus]),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(quick: bool) -> dict:
    """The JSON of every benchmark; the text of what it said where one failed."""
    found = machine()
    for name, command in BENCHES.items():
        extra = ["--quick"] if quick and name == "attention" else []
        print(f"{name} ...", file=sys.stderr, flush=True)
        ended = subprocess.run([*command, *extra], capture_output=True, text=True)
        said = ended.stderr.strip().splitlines()
        found[name] = json.loads(ended.stdout) if ended.returncode == 0 else said[-1]
    return found


def rows(record: dict) -> list[list[str]]:
    """What a machine's benchmarks say, one line each."""
    attention, train = record["attention"], record["train"]
    queries, model, boundary = record["queries"], record["model"], record["boundary"]
    found = []
    if isinstance(attention, dict):
        shape = f"{attention['queries']:,} queries, {attention['maps']} maps, {attention['ours']}"
        for direction, ratios in attention["ratios"].items():
            own = (r for r in attention["rows"] if r["family"] == OURS and r["ms"])
            ours = min(r["ms"] for r in own if (r["direction"], r["dtype"]) ==
                       (direction, attention["ours"]))  # fmt: skip
            what = f"attention, {shape}, {direction.replace('_', ' + ')}, ms"
            found.append([what, f"{ours:,.0f}"])
            for baseline, ratio in ratios.items():
                over = baseline.removeprefix("vs_").replace("_", " ")
                found.append([f"  over {over}", f"{ratio:.1f}x" if ratio else "-"])
    if isinstance(train, dict):
        share = train["training"]["data_wait"]
        found.append(["training, share of a step that waits for data", f"{share:.1%}"])
    ours = record["augmentation"]
    if isinstance(ours, dict):
        found.append(["augmentation of a 425x560 sample, ms", f"{ours['ours_ms']:.1f}"])
        found.append(["  over the same with cv2 and numpy", f"{ours['ratio']:.2f}x"])
    if isinstance(queries, dict):
        size = "x".join(map(str, queries["size"]))
        for query, one in queries["queries"].items():
            what = f"DeMT-ITSA HRNet18, 1 step, query {query}, {size}"
            found.append([f"{what}, s", f"{one['seconds']:.2f} ({one['over_global']:.1f}x)"])
    if isinstance(model, dict):
        whole = model["latency_ms"]["total"]
        found.append(["DeMT-ITSA HRNet18, 1 step, query pixel, 425x560, ms", f"{whole:,.0f}"])
    if isinstance(boundary, dict):
        for name, one in boundary.items():
            found.append([f"boundaries of a 425x560 image, {name}, s", f"{one['seconds']:.3f}"])
            ratios = [f"{b['ratio']:.0f}x" for b in one.values() if isinstance(b, dict)]
            found.append(["  over scipy's assignment (two ways)", ", ".join(ratios)])
    return found


def table(records: list[dict]) -> str:
    """All machines, one below the other."""
    parts = []
    for record in records:
        head = [f"{record['hardware']}; {record['versions']}; {record['date']}", ""]
        parts.append(markdown(head, rows(record)))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true", help="attention at an eighth of the sides")
    options = parser.parse_args()
    records = json.loads(options.file.read_text()) if options.file.exists() else []
    measured = measure(options.quick)
    others = [r for r in records if r["hardware"] != measured["hardware"]]
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(json.dumps([*others, measured], indent=1) + "\n")
    print(table([*others, measured]))


if __name__ == "__main__":
    main()
