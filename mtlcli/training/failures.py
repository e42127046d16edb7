"""What can go wrong while a network is trained, said in one line with the remedy."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mtlcli.data.batches import TrainingStream
from mtlcli.errors import MtlError, RunError
from mtlcli.runs.config import RunConfig

MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL")


@contextmanager
def explained(config: RunConfig, folder: Path) -> Iterator[None]:
    """Raises, for failures of torch and of the disk within, an error made for the user.

    Raises:
        RunError: out of memory, a loader process that died, or a full disk.
    """
    again = f"then `mtl train --resume {folder}`"
    try:
        yield
    except MtlError as error:
        raise type(error)(innermost(str(error))) from error
    except OSError as error:
        raise RunError(
            f"Cannot write into {folder}: {error.strerror}. Free some, {again}."
        ) from error
    except RuntimeError as error:
        reason = str(error)
        if any(words in reason.lower() for words in MEMORY):
            raise RunError(out_of_memory(config)) from error
        if "DataLoader worker" in reason:
            raise RunError(
                f"A process that prepares batches died ({reason.splitlines()[0]}). "
                f"Lower --workers if memory is short, {again}."
            ) from error
        if any(words in reason for words in LOST):
            raise RunError(
                f"Another process of this run ended; see its message, {again}."
            ) from error
        if "does not have a deterministic implementation" in reason:
            raise RunError(
                f"--deterministic: {reason.split()[0]} has no such version on this device; "
                "leave it out, or use --device cpu."
            ) from error
        if config.compile and type(error).__module__.startswith(("torch._dynamo", "torch._ind")):
            raise RunError(
                f"--compile: torch.compile failed ({reason.splitlines()[0]}); leave it out."
            ) from error
        raise


def innermost(message: str) -> str:
    """The message of an error that a loader process passed on with its traceback."""
    last = message.strip().splitlines()[-1]
    return last.partition(": ")[2] if "Traceback" in message else message


def out_of_memory(config: RunConfig) -> str:
    """What was too large and what to lower."""
    height, width = config.window
    used = {
        f"--accumulate {2 * config.accumulate}": config.batch_size % (2 * config.accumulate) != 0,
        "--checkpointing": config.checkpointing,
        "--amp": bool(config.amp),
    }
    ways = ", ".join(option for option, already in used.items() if not already)
    return (
        f"Out of memory with --batch-size {config.batch_size} --size {height} {width}. "
        f"Lower one of them{' or use ' + ways if ways else ''}; --dry-run tells what fits."
    )


class Divergence:
    """Remembers when each loss was first not finite, without making the device wait."""

    def __init__(self, tasks: Iterable[str], device: torch.device) -> None:
        self.tasks = tuple(tasks)
        self.first = torch.zeros(len(self.tasks), dtype=torch.long, device=device)  # 0: never

    def watch(self, losses: Mapping[str, Tensor], iteration: int) -> None:
        """Look at the losses of an iteration, counted from 1."""
        finite = torch.stack([losses[name].detach() for name in self.tasks]).isfinite()
        self.first = torch.where(finite | (self.first > 0), self.first, iteration)

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
