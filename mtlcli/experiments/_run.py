"""Does the runs of an experiment: each once, several side by side, from where they were stopped.

Every run is a normal run folder with the results.json of `mtl eval`, so that any of them can be
evaluated and drawn alone.
"""

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile

import torch
from tqdm import tqdm

from mtlcli.errors import InputError, Interrupted, MtlError, RunError, in_one_line
from mtlcli.files import typed
from mtlcli.home import available_cores
from mtlcli.ops import processes as distributed
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.folder import LAST, RECORD
from mtlcli.runs.record import read_record, unlike
from mtlcli.runs.results import place_results, read_results
from mtlcli.scoring.evaluate import evaluate
from mtlcli.systems._settings import flag
from mtlcli.training.loop import resume, train

SPLIT = "val"
CHILD = """
from mtlcli.home import set_environment
set_environment()
from mtlcli.experiments._run import finish_for_parent
finish_for_parent()
"""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run that is to be trained and scored."""

    folder: Path
    config: RunConfig
    cell: str = ""  # of the experiment that it belongs to
    limit: int | None = None  # only the first so many pictures are scored

    @property
    def title(self) -> str:
        """How messages call it."""
        return ", ".join(filter(None, [self.cell, f"seed {self.config.seed}"]))

    @property
    def results(self) -> Path:
        """Where its scores lie."""
        return place_results(self.folder / LAST, self.limit)

    def require_alike(self) -> None:
        """Refuse a run that began in the folder with other options.

        Raises:
            InputError: names them.
        """
        if not (self.folder / RECORD).is_file():
            return
        found = read_record(self.folder).config
        if names := unlike(found, self.config):
            raise InputError(
                f"{self.folder} began with other options ({', '.join(map(flag, names))}): move it "
                "away, or remove it."
            )

    def scores(self) -> dict[str, float] | None:
        """The main scores of the last iterate if `mtl eval` has written them, with no option but
        the limit; None while there are none.
        """
        if not (self.folder / LAST).exists():
            return None
        try:
            its, record = read_results(self.results), read_record(self.folder)
        except InputError:
            return None
        options = {task: record.dataset.options.get(task, {}) for task in its.main}
        images = min(self.limit or math.inf, record.dataset.expected[SPLIT])
        usual = LAST, record.final, SPLIT, images, options
        own = its.checkpoint, its.iteration, its.split, its.images, its.options
        return dict(its.main) if own == usual else None


def finish(run: Planned, conduct: Conduct) -> dict[str, float]:
    """Train a run, or what is left of it, and score it, unless that is done; returns its scores."""
    known = distributed.by_first(run.scores)
    if known:
        return known
    if distributed.by_first(lambda: (run.folder / RECORD).exists()):
        resume(run.folder, {}, conduct=conduct)
    else:
        train(run.config, out=run.folder, conduct=conduct)
    device = conduct.device or "auto"
    results = evaluate(
        run.folder / LAST, split=SPLIT, limit=run.limit, device=device, quiet=conduct.quiet
    )
    return dict(results.main)


def finish_all(runs: Sequence[Planned], conduct: Conduct, jobs: int | None, again: str) -> None:
    """Finish every run that is not done.

    Args:
        runs: in the order in which they are begun.
        conduct: where and how fast.
        jobs: runs side by side; by default one per GPU, or one on the CPU. The processes of
            torchrun do one run together.
        again: the command that goes on after a stop.

    Raises:
        RunError: a run failed; what is done stays done.
        Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    todo = distributed.by_first(lambda: [run for run in runs if not run.scores()])
    places = [] if distributed.world() > 1 else devices(conduct.device or "auto", jobs)
    try:
        if min(len(todo), len(places)) > 1:
            side_by_side(todo, places, conduct)
            return
        for run in tqdm(todo, desc="runs", disable=True if conduct.quiet else None):
            try:
                finish(run, conduct)
            except MtlError as stop:
                raise type(stop)(f"{run.title}: {stop}") from stop
    except Interrupted as stop:
        reason = str(stop).partition(" Continue:")[0]
        raise Interrupted(f"{reason} Continue: {again}") from stop
    except MtlError as stop:
        raise type(stop)(continue_all(str(stop), todo, again)) from stop
    except KeyboardInterrupt as stop:
        raise Interrupted(f"stopped. Continue: {again}") from stop


def continue_all(reason: str, runs: Sequence[Planned], again: str) -> str:
    """Why one of the runs failed, with the command for all of them in place of its own."""
    commands = (f"mtl train --resume {typed(run.folder)}" for run in runs)
    own = next((command for command in commands if reason.endswith(command)), None)
    return reason.removesuffix(own) + again if own else reason


def devices(device: str, jobs: int | None) -> list[dict[str, str]]:
    """The environment of each process that runs side by side."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        mine = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = mine if mine[0] else list(map(str, range(gpus)))
        return [{"CUDA_VISIBLE_DEVICES": names[i % gpus].strip()} for i in range(jobs or gpus)]
    count = jobs or 1
    threads = max(1, available_cores() // count)
    return [{"OMP_NUM_THREADS": str(threads)}] * count


def side_by_side(
    todo: Sequence[Planned], places: Sequence[dict[str, str]], conduct: Conduct
) -> None:
    """Each place takes the next run when it is free; a failure stops the others, which save."""
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for place in places:
        free.put(place)
    stop = threading.Event()

    def start(run: Planned) -> None:
        place = free.get()
        try:
            finish_elsewhere(run, replace(conduct, quiet=True), place, stop)
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool:
        begun = [pool.submit(start, run) for run in todo]
        bar = tqdm(total=len(todo), desc="runs", disable=True if conduct.quiet else None)
        try:
            for ended in as_completed(begun):
                ended.result()
                bar.update()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            bar.close()


def finish_elsewhere(
    run: Planned, conduct: Conduct, place: dict[str, str], stop: threading.Event
) -> None:
    """Finish a run in a process of its own, which stops, and saves, when it is told to and when
    this one dies.
    """
    with TemporaryFile() as output:
        with subprocess.Popen(
            [sys.executable, "-c", CHILD],
            env=os.environ | place,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,  # Ctrl-C is this process's to handle
        ) as child:
            assert child.stdin
            pickle.dump((run, conduct), child.stdin)
            child.stdin.flush()
            while child.poll() is None and not stop.wait(0.1):
                pass
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines()
    if os.environ.get("MTL_DEBUG") == "1":
        print(*said, sep="\n", file=sys.stderr)
    last = said[-1] if said else f"exit code {child.returncode}"
    if child.returncode in (Interrupted.exit_code, -signal.SIGTERM):
        raise Interrupted(f"{run.title}: {last}")
    if child.returncode:
        raise RunError(f"{run.title}, failed: {last}")


def finish_for_parent() -> None:
    """What that process does; its parent holds the other end of its input until it shall stop."""
    run, conduct = pickle.load(sys.stdin.buffer)

    def stop_with_parent() -> None:
        os.read(0, 1)  # not sys.stdin's: its lock would be held, and forks take it
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    try:
        finish(run, conduct)
    except Exception as error:
        if os.environ.get("MTL_DEBUG") == "1":
            traceback.print_exc()
        if isinstance(error, MtlError):
            print(*str(error).split(), file=sys.stderr)  # the parent passes on one line
            sys.exit(error.exit_code)
        sys.exit(in_one_line(error))
