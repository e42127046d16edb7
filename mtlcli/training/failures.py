"""What can go wrong while a network is trained, said in one line with the remedy."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mtlcli.data.batches import TrainingStream
from mtlcli.data.loading import loader_failure
from mtlcli.errors import Interrupted, MtlError, RunError, in_one_line
from mtlcli.files import typed
from mtlcli.ops.processes import world
from mtlcli.ops.standby import is_memory
from mtlcli.runs.config import RunConfig
from mtlcli.training.state import State
from mtlcli.training.weightings import COMPARING

LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL")
FULL = (errno.ENOSPC, errno.EDQUOT)
MANY_FILES = (errno.EMFILE, errno.ENFILE)


@contextmanager
def explain_failures(state: State, rescue: Callable[[], bool]) -> Iterator[None]:
    """Raises, for any failure within, an error made for the user.

    Args:
        state: of the run.
        rescue: is called once something failed, saves, and returns whether going on would help.

    Raises:
        MtlError: of the class it was; RunError for what was not made for the user.
    """
    try:
        yield
    except Interrupted:
        raise
    except MtlError as error:
        way = f" {go_on(state)}" if rescue() else ""
        raise type(error)(f"{error}{way}") from error
    except Exception as error:
        reason = reason_of(error, state.config, state.folder)
        way = f" {go_on(state, error)}" if rescue() else ""
        raise RunError(f"{reason}{way}") from error


def go_on(state: State, error: Exception | None = None) -> str:
    """How a run that failed is gone on with, as a sentence; with the same options memory would be
    short again.
    """
    saved, place = state.saved, typed(state.folder)
    kept = "Nothing was saved yet" if saved is None else f"It is saved at iteration {saved}"
    if error is None or not is_memory(error):
        return f"{kept}; continue: mtl train --resume {place}"
    weights = f" --from {place}" if saved else ""
    option = (*savings(state.config), smaller(state.config))[0]
    return f"{kept}; begin another: mtl train --like {place}{weights} {option}"


def reason_of(error: Exception, config: RunConfig, folder: Path) -> str:
    """What failed and what to do about it, as sentences."""
    reason = str(error)
    if isinstance(error, OSError):
        if error.errno in MANY_FILES:
            return loader_failure("Too many open files")
        room = " Free some." if error.errno in FULL else ""
        return f"Cannot write into {folder}: {error.strerror or error}.{room}"
    if is_memory(error):
        return out_of_memory(config)
    if "DataLoader worker" in reason:
        return loader_failure(reason)
    if any(words in reason for words in LOST):
        return "Another process of this run ended; see its message."
    if "does not have a deterministic implementation" in reason:
        return (
            f"--deterministic: {reason.split()[0]} has no such version on this device; "
            "leave it out, or use --device cpu."
        )
    if config.compile and type(error).__module__.startswith(("torch._dynamo", "torch._ind")):
        return f"--compile: torch.compile failed ({reason.splitlines()[0]}); leave it out."
    return f"{in_one_line(error)} (MTL_DEBUG=1 shows the traceback)."


def out_of_memory(config: RunConfig) -> str:
    """What was too large and what to lower."""
    height, width = config.window
    ways = ", ".join(savings(config))
    return (
        f"Out of memory with --batch-size {config.batch_size} --size {height} {width}. "
        f"Lower one of them{' or use ' + ways if ways else ''}; --dry-run tells what fits."
    )


def savings(config: RunConfig) -> list[str]:
    """Options that a run does not have yet, and may, with which it takes less memory."""
    parts = 2 * config.accumulate
    divides = config.batch_size % (parts * world()) == 0
    open_ = {
        f"--accumulate {parts}": config.may_accumulate and divides,
        "--checkpointing": config.may_recompute,
        "--amp": not config.amp and config.weighting not in COMPARING,  # vanish in float16
    }
    return [option for option, is_open in open_.items() if is_open]


def smaller(config: RunConfig) -> str:
    """The option that halves a batch, or its pictures."""
    passes = config.accumulate * world()
    if half := config.batch_size // (2 * passes) * passes:
        return f"--batch-size {half}"
    height, width = (max(32, side // 2) for side in config.window)
    return f"--{'crop' if config.crop else 'size'} {height} {width}"


class Divergence:
    """Remembers when each loss was first not finite, without making the device wait."""

    def __init__(self, tasks: Iterable[str], device: torch.device) -> None:
        self.tasks = tuple(tasks)
        self.first = torch.zeros(len(self.tasks), dtype=torch.long, device=device)  # 0: never

    def watch(self, losses: Mapping[str, Tensor], iteration: int) -> None:
        """Look at the losses of an iteration, counted from 1."""
        finite = torch.stack([losses[name].detach() for name in self.tasks]).isfinite()
        self.first = torch.where(finite | (self.first > 0), self.first, iteration)

    def seen(self) -> bool:
        """Whether a loss was not finite."""
        return bool(self.first.any())

    def check(self, stream: TrainingStream, config: RunConfig) -> None:
        """Stop a run that has diverged.

        Raises:
            RunError: names the task, the iteration and the images of its batch.
        """
        found = [(when, task) for task, when in zip(self.tasks, self.first.tolist()) if when]
        if not found:
            return
        when, task = min(found)
        positions = range((when - 1) * config.batch_size, when * config.batch_size)
        ids = ", ".join(stream.reader.ids[stream.index(p)] for p in positions)
        raise RunError(
            f"The loss of {task} is not finite at iteration {when} (images {ids}). "
            f"Lower --lr (now {config.lr:g}); the last good checkpoint is kept."
        )
