"""Rendered rooms per second on one core, all labels included, and where the time goes.

Run as a script: `OMP_NUM_THREADS=1 python tests/bench/bench_rooms.py [HEIGHT WIDTH [COUNT]]`.
Times are of the processor, not of the wall clock.
"""

import sys
import time

import numpy as np

from mtlcli.datasets import rooms
from mtlcli.datasets._rooms import layout, light, patterns, solids, trace
from mtlcli.datasets._rooms.style import Dice
from mtlcli.datasets._rooms.trace import labels

STAGES = ("compose", "trace", "illuminate", "colour", "photograph", "labels")


def stages(index: int, size: tuple[int, int]) -> list[float]:
    """Seconds of each stage of one scene."""
    ticks = [time.process_time()]
    dice = Dice(0, 0, index)
    scene = layout.compose(dice)
    pack = solids.pack(scene.items)
    ticks.append(time.process_time())
    camera = trace.Camera(eye=scene.eye, axes=scene.axes, size=size)
    hits = trace.trace(pack, camera)
    ticks.append(time.process_time())
    lit = light.illuminate(pack, hits, camera, scene.lights, scene.ambient)
    ticks.append(time.process_time())
    paint = patterns.colour(pack, hits, camera)
    ticks.append(time.process_time())
    light.photograph(paint, lit, pack, hits, camera, scene.film, dice)
    ticks.append(time.process_time())
    labels(pack, hits, camera, scene.items, tuple(rooms.CLASSES))
    ticks.append(time.process_time())
    return list(np.diff(ticks))


def main() -> None:
    """Prints images per second and the share of each stage."""
    numbers = [int(word) for word in sys.argv[1:]] or [120, 160]
    size, count = (numbers[0], numbers[1]), numbers[2] if len(numbers) > 2 else 100
    rooms.render(0, size=size)
    start = time.process_time()
    for index in range(count):
        rooms.render(index, size=size)
    rate = count / (time.process_time() - start)
    print(f"{size[0]}x{size[1]}: {rate:.1f} images/s on one core ({count} scenes)")
    spent = np.mean([stages(index, size) for index in range(min(count, 30))], 0)
    for name, share in zip(STAGES, spent / spent.sum()):
        print(f"  {name:10s} {share:5.1%}")


if __name__ == "__main__":
    main()
