"""What a run costs before it is started: its memory with the options that save some, and its hours,
on cards that need not be here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mtlcli import datasets
from mtlcli.data.hdf5 import Info
from mtlcli.recipes._recipe import PASSES, Recipe
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import markdown
from mtlcli.scoring.cost import WHOLE, Flops, count
from mtlcli.systems import _settings as settings
from mtlcli.training.cards import (
    CARDS,
    GIGABYTE,
    MEASURED,
    Card,
    Work,
    find_measured,
    seconds_on,
)
from mtlcli.training.memory import Need, count_need
from mtlcli.training.setup import leave_to_backbone
from mtlcli.training.weightings import COMPARING

LIBRARIES = GIGABYTE // 2  # bytes that CUDA and its libraries hold beside the tensors
MARGIN = 1.2  # times what is counted of an image: 0.94 to 1.18 times were measured
HOUR = 3600
SIZES = (24, 40, 80)  # gigabytes that a recipe is shown for


@dataclass(frozen=True, kw_only=True)
class Way:
    """A run with options that leave the computation as it is, or nearly."""

    config: RunConfig  # complete
    need: Need

    @property
    def options(self) -> str:
        """As they are typed."""
        half = "--amp" if self.config.amp else "--no-amp"
        return f"{half} --checkpointing" if self.config.checkpointing else half

    def accumulate(self, gigabytes: float) -> int | None:
        """The fewest passes, at least those asked for, in which a batch fits; None: in none."""
        batch, least = self.config.batch_size, self.config.accumulate
        largest = replace(self.need, there=int(gigabytes * GIGABYTE)).largest
        most = batch if self.config.may_accumulate else least
        parts = (n for n in range(least, most + 1) if batch % n == 0)
        return next((n for n in parts if batch // n <= largest), None)

    def needed(self, accumulate: int) -> int:
        """Bytes at the peak, in so many passes."""
        batch = self.config.batch_size // accumulate
        return replace(self.need, batch=batch).needed


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a run costs on one card, in the first way that fits."""

    card: Card
    options: str = ""  # "" where it does not fit
    gigabytes: float | None = None
    seconds: float | None = None  # an iteration
    basis: str = ""  # measured: this very step on this card; scaled from that; estimated


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one run."""

    config: RunConfig
    ways: Sequence[Way]
    sizes: Sequence[float]  # gigabytes that were asked about
    lines: Sequence[Line]

    @property
    def basis(self) -> str:
        """Where the numbers come from: sentences, one a line."""
        cards = " and ".join(dict.fromkeys(known.card.name for known in MEASURED))
        names = ", ".join(dict.fromkeys(known.recipe for known in MEASURED))
        scaled = (
            f"Steps were measured on {cards} only, in bf16: of {names}.\n"
            "To other cards they are scaled, never measured: matrix products by the peak that "
            "NVIDIA prints of them, what is moved by bandwidth, and a time for each tensor that is "
            "the same on all."
        )
        own = f"No step of {self.config.system} on {self.config.backbone} with these options"
        estimated = (
            f"\n{own} was measured. Estimated: its tensors and operations, counted, at the rates "
            "of those\nsteps, scaled so."
        )
        rest = (
            "\nMemory is counted from the shapes, with 0.5 GB for CUDA and its libraries; "
            f"{MARGIN:g} times as much must fit. Reading pictures is left out of the time."
        )
        return scaled + ("" if self.is_measured else estimated) + rest

    @property
    def is_measured(self) -> bool:
        """Whether this very step was measured on some card."""
        return any(line.basis == "measured" for line in self.lines)

    def text(self) -> str:
        """Two tables and what they rest on."""
        height, width = self.config.window
        head = [f"{self.config.batch_size} pictures of {height}x{width}", "GB"]
        fits = [
            [
                way.options,
                f"{way.needed(way.config.accumulate) / GIGABYTE:.1f}",
                *(describe(way, size) for size in self.sizes),
            ]
            for way in self.ways
        ]
        memory = markdown([*head, *(f"on {size:g} GB" for size in self.sizes)], fits)
        titles = ["card", "with", "GB", "s/iteration", f"h for {self.config.iterations:,}", ""]
        hours = markdown(titles, [self.row(line) for line in self.lines], left=2)
        return f"{memory}\n\n{hours}\n\n{self.basis}"

    def row(self, line: Line) -> list[str]:
        """One card."""
        if line.seconds is None or line.gigabytes is None:
            return [line.card.name, "does not fit", "-", "-", "-", ""]
        hours = self.config.iterations * line.seconds / HOUR
        cells = [f"{line.gigabytes:.1f}", f"{line.seconds:.3g}", f"{hours:.3g}"]
        return [line.card.name, line.options, *cells, line.basis]

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        memory = [
            {"options": w.options, "gigabytes": round(w.needed(w.config.accumulate) / GIGABYTE, 2),
             "accumulate": {f"{size:g}": w.accumulate(size) for size in self.sizes}}
            for w in self.ways
        ]  # fmt: skip
        cards = [
            {"card": line.card.name, "options": line.options or None, "gigabytes": line.gigabytes,
             "seconds": line.seconds, "hours": line.seconds
             and round(self.config.iterations * line.seconds / HOUR, 2),
             "basis": line.basis or None,
             "peaks": line.card.source}
            for line in self.lines
        ]  # fmt: skip
        return {"memory": memory, "cards": cards, "basis": self.basis}


def describe(way: Way, size: float) -> str:
    """What makes a way fit into so many gigabytes."""
    passes = way.accumulate(size)
    if passes is None:
        return "no"
    return "fits" if passes == way.config.accumulate else f"--accumulate {passes}"


def forecast_recipe(its: Recipe) -> Forecast:
    """What a recipe costs, with no dataset prepared."""
    return forecast(*complete_by_record(RunConfig(**its.options())), SIZES, precisions=(True,))


def complete_by_record(config: RunConfig) -> tuple[RunConfig, Info]:
    """A run on a dataset as it is published, with nothing prepared: complete, but for amp."""
    record = datasets.find(config.dataset)
    info = Info(size=record.size, classes=record.classes, options=record.options)
    config = replace(
        config,
        tasks=config.tasks or record.tasks,
        size=config.size or record.size,
        settings=settings.complete(config.system, config.settings),
    )
    return leave_to_backbone(config), info


def forecast(
    config: RunConfig, dataset: Info, sizes: Sequence[float], *, precisions: Iterable[bool]
) -> Forecast:
    """What a run costs.

    Args:
        config: complete, but for amp; without a choice that is on, as on every CUDA device.
        dataset: as `checkpoint.build_network` needs it.
        sizes: gigabytes to say the options for.
        precisions: that ways are shown for; the config's own comes first in any case.
    """
    config = replace(config, amp=config.amp is not False)
    flops = count_flops(config, dataset)
    boxes = (False,) if config.compile else dict.fromkeys((config.checkpointing, True))
    ways = {
        amp: [count_way(replace(config, amp=amp, checkpointing=again), dataset) for again in boxes]
        for amp in dict.fromkeys((bool(config.amp), *precisions))
    }
    return Forecast(
        config=config,
        ways=[way for some in ways.values() for way in some],
        sizes=sizes,
        lines=[line_of(card, some, flops) for some in ways.values() for card in CARDS],
    )


def count_way(config: RunConfig, dataset: Info) -> Way:
    """The memory of a run with these options."""
    need = count_need(config, dataset, amp=bool(config.amp), there=0)
    return Way(config=config, need=replace(need, fixed=need.fixed + LIBRARIES, margin=MARGIN))


def count_flops(config: RunConfig, dataset: Info) -> Flops:
    """Of one picture, forward."""
    with torch.device("meta"):
        network = checkpoint.build_network(config, dataset).eval()
    return count(network, {}, config.window)[WHOLE]


def line_of(card: Card, ways: Sequence[Way], flops: Flops) -> Line:
    """The first way that fits a card: as asked, then recomputing, then in more passes."""
    fitting = [(way, passes) for way in ways if (passes := way.accumulate(card.gigabytes))]
    if not fitting:
        return Line(card=card)
    way, passes = min(fitting, key=lambda pair: pair[1])
    config = way.config
    for known in find_measured(replace(config, accumulate=passes)):
        if known.card is card:
            return Line(
                card=card, options=way.options, gigabytes=known.gigabytes, seconds=known.seconds,
                basis="measured",
            )  # fmt: skip
    typed = f"{way.options} --accumulate {passes}" if passes > 1 else way.options
    seconds = seconds_on(card, work_of(way, passes, flops), amp=bool(config.amp))
    needed = round(way.needed(passes) / GIGABYTE, 2)
    basis = "scaled" if find_measured(ways[0].config) else "estimated"
    return Line(
        card=card, options=typed, gigabytes=needed, seconds=float(f"{seconds:.3g}"), basis=basis
    )


def work_of(way: Way, passes: int, flops: Flops) -> Work:
    """What an iteration takes in so many passes: what is computed again counts once more, and so
    does a pass back for each task whose gradient is compared.
    """
    config = way.config
    again = PASSES + config.checkpointing
    whole = again + (again - 1) * len(config.tasks) * (config.weighting in COMPARING)
    times = config.batch_size * whole
    its = Flops(matmul=times * flops.matmul, softmax=times * flops.softmax)
    share = config.batch_size / way.need.batch  # of the pictures that were counted
    return Work(
        tensors=round(passes * way.need.tensors * whole / again),
        made=round(share * way.need.made * whole / again),
        flops=its,
    )
