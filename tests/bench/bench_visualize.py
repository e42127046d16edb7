"""What `mtl visualize` costs beside its network: frames/s of a video over the bare network's, and
where the time of one picture goes.

    python tests/bench/bench_visualize.py RUN [--frames 100] [--threads 2]

Both rates are measured in turns within one run, so that what else the machine does is the same.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from mtlcli.data.images import read_image
from mtlcli.drawing.grid import draw_grid
from mtlcli.drawing.networks import load_networks
from mtlcli.drawing.prediction import network_input, predict
from mtlcli.drawing.stream import play
from mtlcli.drawing.tiles import sheet_tiles
from mtlcli.runs import checkpoint

ROUNDS = 3


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def film(path: Path, frames: int) -> Path:
    """A photograph-like 640x480 video that moves."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 200, 3), np.uint8)
    wide = cv2.resize(noise, (1600, 480), interpolation=cv2.INTER_CUBIC)
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
    for i in range(frames):
        left = 8 * i % 960
        file.write(np.ascontiguousarray(wide[:, left : left + 640]))
    file.release()
    return path


def per_frame(frames: int, action: Callable[[], object]) -> tuple[float, float]:
    """Wall clock and processor seconds of one frame."""
    processor = time.process_time()
    wall = seconds(action)
    return wall / frames, (time.process_time() - processor) / frames


def bare_network(run: Path) -> Callable[[int], None]:
    """So many times the network alone, on one prepared picture."""
    trained = checkpoint.load(run, "cpu")
    picture = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    pixels = torch.from_numpy(network_input(trained, picture))[None]

    @torch.inference_mode()
    def work(frames: int) -> None:
        for _ in range(frames):
            trained.network(pixels)

    work(1)
    return work


def video_rates(run: Path, frames: int, folder: Path) -> None:
    """Video over bare, in frames/s by the clock and by processor time; the latter holds on a busy
    machine, and is what one core would give, where nothing overlaps.
    """
    source = film(folder / "in.mp4", frames)
    networks, work = load_networks([run], (), "cpu"), bare_network(run)
    for turn in range(ROUNDS):
        bare = per_frame(frames, partial(work, frames))
        video = per_frame(frames, partial(play, networks, source, folder / "out.mp4", quiet=True))
        print(
            f"round {turn}: video {1 / video[0]:.1f}, bare {1 / bare[0]:.1f} frames/s: "
            f"{bare[0] / video[0]:.2f} by the clock, {bare[1] / video[1]:.2f} by processor time"
        )


def one_picture(run: Path, folder: Path) -> None:
    """Parts of one picture's time, and the whole command."""
    path = folder / "a.png"
    noise = np.random.default_rng(2).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).resize((640, 480)).save(path)
    image = read_image(path)
    print(f"load     {seconds(lambda: checkpoint.load(run, 'cpu')):.2f} s")
    trained = checkpoint.load(run, "cpu")
    print(f"predict  {seconds(lambda: predict(trained, image)):.2f} s, first")
    print(f"predict  {seconds(lambda: predict(trained, image)):.2f} s, again")
    maps = predict(trained, image)
    print(f"draw     {seconds(lambda: draw_grid(sheet_tiles(trained, image, maps))):.2f} s")
    sheet = Image.fromarray(draw_grid(sheet_tiles(trained, image, maps)))
    print(f"save     {seconds(lambda: sheet.save(folder / 'sheet.png')):.2f} s")
    imports = [sys.executable, "-c", "import mtlcli.drawing.pictures"]
    print(f"imports  {seconds(lambda: subprocess.run(imports, check=True)):.2f} s")
    command = [sys.executable, "-m", "mtlcli", "visualize", str(path), "--checkpoint", str(run)]
    command += ["--out", str(folder), "--quiet"]
    whole = min(
        seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3)
    )
    print(f"command  {whole:.2f} s, best of 3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        one_picture(options.run, Path(name))
        video_rates(options.run, options.frames, Path(name))


if __name__ == "__main__":
    main()
