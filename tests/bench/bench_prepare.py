"""Speed of preparing and reading datasets, against floors measured in the same run.

    python tests/bench/bench_prepare.py NYUD [--pascal PASCAL] [--workers 2]

NYUD is a bundle in ATRC's layout (folder or .tar.gz), PASCAL one in the multi-task layout. Read
what it prints as ratios: the floors are what decoding or copying alone takes here.
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mtlcli.data.archive import open_archive
from mtlcli.data.hdf5 import keys_of
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.datasets import nyud

TABLE = {"image": 714, "semseg": 12.6, "depth": 952, "normals": 714, "edge": 12.6}  # kB, spec


def timed(work: Callable[[], object]) -> float:
    """Seconds a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def processor_seconds() -> float:
    """Of this process and the children it has waited for."""
    spent = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(s.ru_utime + s.ru_stime for s in spent)


def bench_conversion(archive: Path, out: Path, workers: int) -> Path:
    """Images a second, and how far that is from decoding alone on as many cores."""
    before = processor_seconds()
    options = {"archive": archive, "out": out, "quiet": True}
    seconds = timed(lambda: prepare("nyud", workers=workers, **options))
    busy = processor_seconds() - before
    count = sum(len(Reader(out, s)) for s in ("train", "val"))
    with tempfile.TemporaryDirectory() as work:
        plan = nyud.plan(open_archive(archive, Path(work)))
        some = range(0, len(plan.ids["train"]), max(1, len(plan.ids["train"]) // 40))
        floor = timed(lambda: [plan.read("train", i) for i in some]) / len(some) / workers
    again = timed(lambda: prepare("nyud", **options))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak += workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"convert {archive.name}: {count} images in {seconds:.1f} s on {workers} processes")
    print(f"  {count / seconds:.0f} images/s (goal 60); {seconds / count / floor:.2f}x of decoding")
    print(f"  {busy / count * 1000:.1f} ms of processor an image: {2 * count / busy:.0f} images/s")
    print("  if two cores had nothing else to do")
    print(f"  peak memory at most {peak / 1e6:.2f} GB (goal 1); complete already: {again:.3f} s")
    per_sample = out.stat().st_size / count / 1000
    print(f"  {per_sample:.0f} kB a sample, {per_sample / sum(TABLE.values()):.2f}x of the table")
    return out


def bench_reads(path: Path, goal: float, reads: int = 400) -> None:
    """Milliseconds of random whole samples, and how far that is from copying or decoding."""
    reader = Reader(path, "train")
    order = np.random.default_rng(0).integers(0, len(reader), reads)
    reader[0]
    times = [timed(lambda i=int(i): reader[i]) * 1000 for i in order]  # type: ignore[misc]
    sample = reader[int(order[0])]
    copy = min(timed(lambda: [a.copy() for a in sample.values()]) for _ in range(20)) * 1000
    print(f"read {path.name}: image + {len(keys_of(reader.info)) - 1} labels, one process")
    print(f"  median {np.median(times):.2f} ms, 95% below {np.percentile(times, 95):.2f} ms")
    print(f"  goal {goal} ms; {np.median(times) / copy:.1f}x of copying the arrays")
    if reader.info.shape is None:
        blobs = [reader.stored("image", int(i)) for i in order[:100]]
        floor = timed(lambda: [decode_jpeg(b) for b in blobs]) * 10
        print(f"  of which JPEG decoding {floor:.2f} ms")


def decode_jpeg(blob: bytes) -> np.ndarray:
    """As Pillow does it."""
    return np.asarray(Image.open(io.BytesIO(blob)))


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nyud", type=Path)
    parser.add_argument("--pascal", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = bench_conversion(asked.nyud, Path(folder) / "nyud.h5", asked.workers)
        bench_reads(made, goal=4)
        if asked.pascal:
            out = Path(folder) / "pascal.h5"
            bench_reads(prepare("pascal", archive=asked.pascal, out=out, quiet=True), goal=15)


if __name__ == "__main__":
    main()
