"""DeMT-ITSA end to end, image in and maps out, with its three query blocks, in turns in one run.

    python tests/bench/bench_queries.py [--size 425 560] [--rounds 3] [--json]

The paper's global queries cost as much as the block that ITSA replaced. Times are medians of
`--rounds` passes after one that is not counted; ratios are over the global one's.
"""

import argparse
import json
import time
from statistics import median

import torch

from mtlcli.ops.devices import pick_device
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import markdown
from mtlcli.scoring.bench_model import build, build_meta
from mtlcli.scoring.cost import count

QUERIES = ("global", "pixel", "deformable")


def config(query: str, size: tuple[int, int]) -> RunConfig:
    """The paper's HRNet18 network of one step with other queries."""
    return RunConfig(backbone="hrnet18", init="random", size=size,
                     settings={"steps": 1, "query": query})  # fmt: skip


def seconds(network: torch.nn.Module, image: torch.Tensor) -> float:
    """Of one picture, evaluation."""
    began = time.perf_counter()
    with torch.inference_mode():
        network(image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(size: tuple[int, int], rounds: int, device: torch.device) -> dict[str, dict]:
    """Query -> operations, seconds, and the speed over `global`."""
    image = torch.randn(1, 3, *size, device=device)
    configs, empty = zip(*(build_meta(config(query, size)) for query in QUERIES))
    networks = {q: build(c).to(device).eval() for q, c in zip(QUERIES, configs)}
    times: dict[str, list[float]] = {q: [] for q in QUERIES}
    for _ in range(rounds + 1):
        for query, network in networks.items():
            times[query].append(seconds(network, image))
    middle = {query: median(values[1:]) for query, values in times.items()}
    found = {}
    for query, network in zip(QUERIES, empty):
        flops = count(network, {}, size)["total"].all
        found[query] = {"flops": flops, "seconds": middle[query],
                        "over_global": middle["global"] / middle[query]}  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(425, 560))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(tuple(options.size), options.rounds, pick_device(options.device))
    if options.json:
        print(json.dumps({"size": list(options.size), "queries": found}, indent=1))
        return
    rows = [[q, f"{f['flops'] / 1e12:.2f}", f"{f['seconds']:.2f}", f"{f['over_global']:.1f}x"]
            for q, f in found.items()]  # fmt: skip
    print(markdown(["query", "TFLOP", "s", "faster than global"], rows))


if __name__ == "__main__":
    main()
