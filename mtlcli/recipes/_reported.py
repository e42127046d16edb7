"""What others report of their networks: rows to compare with, none of which can be trained here."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from typing import Any

from mtlcli import lookup
from mtlcli.errors import InputError

SHARES = ("semseg", "edge", "human_parts", "sal")  # printed in percent

ATRC = "ATRC (arXiv 2104.13874)"
BRIDGENET = "Evergreen0929/EEMTL, BridgeNet README"
DEMT = "yangyangxu0/DeMT README"
DEMTG = "yangyangxu0/DeMTG README"
EMTAL = "EMTAL's paper"
INVPT = "prismformore/Multi-Task-Transformer, InvPT README"
ITSA = "arXiv 2508.04422, Table 1"
M2H = "UAV-Centre-ITC/M2H README"
M2H_QUOTED = "UAV-Centre-ITC/M2H README, which quotes it"
MLORE = "YuqiYang213/MLoRE README"
MQTRANSFORMER = "MQTransformer, as tables after it quote it"
MTDP = "innovator-zero/MTDP_Lib README"
MTMAMBA = "issue 5 of MTMamba's code"
PRISM = "robotyingtang/PRISM-VFM README"
TASKDIFFUSION = "YuqiYang213/TaskDiffusion README"
TASKPROMPTER = "prismformore/Multi-Task-Transformer, TaskPrompter README"
TPANET = "yangyangxu0/TPANet README"
WIZWAND = "wizwand.com, second hand"


@dataclass(frozen=True, kw_only=True)
class Reported:
    """One row, as its source prints it."""

    dataset: str
    method: str
    year: int
    backbone: str
    init: str  # weights of the backbone at the start, "" where the source does not say
    source: str  # who printed it, and where
    scores: Mapping[str, float]  # task -> its main metric, fractions and not percentages
    parameters: float | None = None  # millions
    gflop: float | None = None  # of a picture, as the source counts
    note: str = ""  # what the numbers depend on

    @property
    def name(self) -> str:
        """DATASET/BACKBONE/METHOD, as the name of a recipe is written."""
        return "/".join((self.dataset, slug(self.backbone), slug(self.method)))

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {"name": self.name} | asdict(self)


def row(
    dataset: str,
    tasks: tuple[str, ...],
    method: str,
    year: int,
    backbone: str,
    init: str,
    source: str,
    *printed: float | None,
    **more: Any,
) -> Reported:
    """A row with its scores in the order of `tasks`, as printed; None where there is none."""
    scores = {
        task: round(value / 100, 6) if task in SHARES else value
        for task, value in zip(tasks, printed, strict=True)
        if value is not None
    }
    return Reported(
        dataset=dataset, method=method, year=year, backbone=backbone, init=init, source=source,
        scores=scores, **more,
    )  # fmt: skip


def slug(words: str) -> str:
    """`vit_b` of "ViT-B"."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower().replace("++", "pp")).strip("_")


def all_rows() -> tuple[Reported, ...]:
    """Every row, in the order of its file."""
    from mtlcli.recipes._reported_nyud import NYUD
    from mtlcli.recipes._reported_pascal import PASCAL

    return (*NYUD, *PASCAL)


def find_reported(name: str) -> Reported | None:
    """The row that a user means by its name or by its method, however written, or None."""
    wanted = "/".join(map(slug, name.split("/")))
    return next((its for its in all_rows() if wanted in (its.name, slug(its.method))), None)


def reported(pattern: str = "") -> tuple[Reported, ...]:
    """The rows whose name, backbone or method a pattern is found in, by dataset and backbone.

    Args:
        pattern: a part of it, or a whole with * and ?, in large or small letters; "" is found in
            all.

    Raises:
        InputError: none has it; the message names the backbones there are.
    """
    rows = all_rows()
    order = list(dict.fromkeys((its.dataset, its.backbone) for its in rows))
    found = [its for its in rows if matches(its, pattern)]
    if not found:
        known = list(dict.fromkeys(its.backbone for its in rows))
        hint = lookup.suggest(pattern, [*known, *(its.method for its in rows)])
        raise InputError(
            f"--published {pattern}: no row has it.{hint} Backbones: {', '.join(known)}."
        )
    return tuple(sorted(found, key=lambda its: order.index((its.dataset, its.backbone))))


def matches(its: Reported, pattern: str) -> bool:
    """Whether a pattern is found in a row."""
    wanted = pattern.lower()
    whole = wanted if set("*?[") & set(wanted) else f"*{wanted}*"
    return any(fnmatch(word.lower(), whole) for word in (its.name, its.backbone, its.method))
