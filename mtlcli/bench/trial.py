"""One contender's turn: does it run, how much of the work is bearable, how long does that take."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtlcli.bench.contenders import BACKWARD, LINEAR, Contender, exact, rows_of
from mtlcli.bench.stopwatch import Floor, Timing, free_bytes, timed
from mtlcli.bench.workload import Workload
from mtlcli.errors import MtlError

SLOW = 60.0  # seconds: what is expected to take longer is measured on fewer queries and scaled
SCALED = 4  # so many times fewer
HINT = 16  # so many times fewer tell what to expect
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
    bytes: float
    timing: Timing | None = None
    scale: float = 1.0  # from what was measured to the whole
    scaled_from: int | None = None  # queries
    error: float | None = None
    absent: str | None = None  # why it was not measured

    @property
    def ms(self) -> float | None:
        """Wall-clock time of the whole."""
        return self.timing.ms * self.scale if self.timing else None

    @property
    def cpu_ms(self) -> float | None:
        """Processor time of the whole."""
        return self.timing.cpu_ms * self.scale if self.timing else None

    def floor_share(self, floor: Floor) -> float | None:
        """The least possible time over the time taken."""
        return floor.ms(self.bytes, self.flops, self.dtype) / self.ms if self.ms else None

    def to_json(self, floor: Floor) -> dict[str, Any]:
        """As plain types."""
        record = asdict(self)
        del record["timing"], record["scale"]
        return record | {
            "ms": self.ms,
            "cpu_ms": self.cpu_ms,
            "runs": len(self.timing.wall) if self.timing else 0,
            "extra_bytes": self.timing.extra_bytes if self.timing else None,
            "floor_share": self.floor_share(floor),
        }


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What contenders are asked to do, all the same."""

    workload: Workload
    backward: bool  # forward and backward, or forward only
    repeats: int
    slow: bool  # also whole what takes minutes
    device: torch.device

    def measure(self, contender: Contender) -> Row:
        """The contender's row, which says why if it was not measured."""
        flops = contender.flops(self.workload)
        row = Row(
            name=contender.name,
            family=contender.family,
            dtype=contender.dtype,
            direction="forward_backward" if self.backward else "forward",
            flops=flops * (1 + BACKWARD.get(contender.family, 2.0)) if self.backward else flops,
            bytes=contender.traffic(self.workload, self.backward),
        )
        try:  # the smallest task: kernels compile here, and what this machine lacks is refused
            self._task(contender, self.workload.every(self._step_to(FEW)))()
        except (RuntimeError, MtlError) as error:
            return replace(row, absent=f"does not run here: {_first_sentence(error)}")
        needed, free = contender.scratch(self.workload, self.backward), free_bytes(self.device)
        step = 1
        if needed > ROOM * free:
            if contender.power > 1:
                said = f"needs {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
                return replace(row, absent=f"does not fit: {said}")
            step = int(needed / (ROOM * free)) + 1
        if self._expected_seconds(contender) > SLOW and not self.slow:
            step = max(step, SCALED)
        return self._timed(contender, row, step)

    def again(self, contender: Contender, row: Row) -> Row:
        """The row with one run more, if a run is short."""
        if row.timing is None or len(row.timing.wall) == 1 or row.scaled_from:
            return row
        run = timed(self._task(contender, self.workload), self.device, 1)
        return replace(row, timing=row.timing.with_runs(run))

    def _timed(self, contender: Contender, row: Row, step: int) -> Row:
        work = self.workload.every(step)
        outputs: list[Tensor] = []
        timing = timed(self._task(contender, work, outputs), self.device, self.repeats)
        row = replace(row, timing=timing, error=_error(contender, work, outputs[-1]))
        if step == 1:
            return row
        scale = (self.workload.queries / work.queries) ** contender.power
        return replace(row, scale=scale, scaled_from=work.queries)

    def _task(
        self, contender: Contender, work: Workload, outputs: list[Tensor] | None = None
    ) -> Callable[[], None]:
        """What is timed; the last output is left in `outputs`."""
        leaves = contender.leaves(work)
        if not self.backward:

            def forward() -> None:
                with torch.inference_mode():
                    _keep(contender.call(work, leaves), outputs)

            return forward
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]

        def both() -> None:
            out = contender.call(work, leaves)
            torch.autograd.grad(out, leaves, torch.ones_like(out))
            _keep(out.detach(), outputs)

        return both

    def _expected_seconds(self, contender: Contender) -> float:
        hint = self.workload.every(HINT)
        seconds = 1e-3 * timed(self._task(contender, hint), self.device, 1).ms
        return seconds * (self.workload.queries / hint.queries) ** contender.power

    def _step_to(self, queries: int) -> int:
        return max(1, self.workload.queries // queries)


def _first_sentence(error: Exception) -> str:
    line, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return line.split(". ")[0].rstrip(".")


def _keep(out: Tensor, outputs: list[Tensor] | None) -> None:
    if outputs is not None:
        outputs[:] = [out]


def _error(contender: Contender, work: Workload, out: Tensor) -> float | None:
    """Relative error of some queries' outputs."""
    if contender.family in LINEAR.values():
        return None
    rows = torch.linspace(0, work.queries - 1, min(FEW, work.queries), device=out.device).long()
    wanted = exact(contender.family, work, rows)
    return float((rows_of(contender.family, out, rows) - wanted).norm() / wanted.norm())
