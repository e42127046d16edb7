"""One contender's turn: does it run, does it fit, how long does it take, how exact is it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtlcli.errors import MtlError
from mtlcli.files import gigabytes
from mtlcli.scoring.contenders import Contender, Workload
from mtlcli.scoring.stopwatch import Timing, free_bytes, timed

FEW = 64  # queries: of a first try, and of those compared with float64
ROOM = 0.8  # of the free memory


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one direction."""

    name: str
    family: str
    dtype: str
    direction: str  # forward or forward_backward
    flops: float
    timing: Timing | None = None
    error: float | None = None
    absent: str | None = None  # why it was not measured

    @property
    def ms(self) -> float | None:
        """Median wall-clock time."""
        return self.timing.ms if self.timing else None

    def to_json(self) -> dict[str, Any]:
        """As plain types."""
        record = asdict(replace(self, timing=None))
        del record["timing"]
        runs, extra = 0, None
        if self.timing:
            runs, extra = len(self.timing.seconds), self.timing.extra_bytes
        return record | {"ms": self.ms, "runs": runs, "extra_bytes": extra}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What contenders are asked to do, all the same."""

    workload: Workload
    backward: bool  # forward and backward, or forward only
    repeats: int
    device: torch.device

    def measure(self, contender: Contender) -> Row:
        """The contender's row, which says why if it was not measured."""
        row = Row(
            name=contender.name,
            family=contender.family,
            dtype=contender.dtype,
            direction="forward_backward" if self.backward else "forward",
            flops=contender.flops(self.workload, self.backward),
        )
        few = self.workload.every(max(1, self.workload.queries // FEW))
        try:  # the smallest task: kernels compile here, and what this machine lacks is refused
            self._task(contender, few)()
        except (RuntimeError, MtlError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            return replace(row, absent=f"does not run here: {line.split('. ')[0].rstrip('.')}")
        needed, free = contender.scratch(self.workload, self.backward), free_bytes(self.device)
        if needed > ROOM * free:
            said = f"needs {gigabytes(needed)}, {gigabytes(free)} are free"
            return replace(row, absent=f"does not fit: {said}")
        outputs: list[Tensor] = []
        timing = timed(self._task(contender, self.workload, outputs), self.device, self.repeats)
        error_ = contender.error(self.workload, outputs[-1], FEW)
        return replace(row, timing=timing, error=error_)

    def again(self, contender: Contender, row: Row) -> Row:
        """The row with one run more, if a run is short."""
        if row.timing is None or len(row.timing.seconds) == 1:
            return row
        more = timed(self._task(contender, self.workload), self.device, 1).seconds
        return replace(row, timing=replace(row.timing, seconds=row.timing.seconds + more))

    def _task(
        self, contender: Contender, work: Workload, outputs: list[Tensor] | None = None
    ) -> Callable[[], None]:
        """What is timed; the last output is left in `outputs`."""
        leaves = [leaf.detach().requires_grad_(self.backward) for leaf in contender.leaves(work)]

        def task() -> None:
            with torch.inference_mode(not self.backward):
                out = contender.call(work, leaves)
            if self.backward:
                torch.autograd.grad(out, leaves, torch.ones_like(out))
            if outputs is not None:
                outputs[:] = [out.detach()]

        return task
