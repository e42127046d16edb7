"""The record of a recipe: the options of a run and what was published about it; the list of all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.recipes._reported import find_reported
from mtlcli.systems._settings import merge

PAPER = "arXiv 2508.04422"
"""Bohn et al., Efficient Inter-Task Attention for Multitask Transformer Models (2025)."""
DEMT = "README of DeMT's code"
MQTRANSFORMER = "README of MQTransformer's code"
PASSES = 3
"""A training step costs about three forward passes: one forward, two backward."""
RELEASED: Mapping[str, Mapping[str, Any]] = {
    "demt": {"interaction": "self", "query": "pixel"},
    "mqtransformer": {"attention": "self", "windows": False},
}
"""Settings that compute what the released code computes with one image per GPU."""
NOTES = {
    "demt": "as released: the interaction is a linear map, tasks meet per pixel",
    "mqtransformer": "as released: a task's pixels do not attend to each other",
    "demt_itsa": "the reach of the query blocks is not published, --query pixel is far cheaper; "
    "lambda scales the whole attention's gradients, --gradient-scope offsets only its offsets'",
}
STARTS = {
    "ade20k": "starts from ADE20K's weights as DeMT's code does, the paper says ImageNet "
    "(--init imagenet)"
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """One printed row."""

    source: str  # who printed it, and where
    scores: Mapping[str, float]  # task -> its main metric, fractions and not percentages
    reference: str = ""  # recipe that the gain is against
    gain: float | None = None  # Delta% as printed


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run costs, at the dataset's size (`mtl bench model`)."""

    parameters: int
    forward_tflop: float  # one image through the network, softmax and sampling included


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a published configuration says; the other options are the paper's."""

    dataset: str
    backbone: str
    system: str
    variant: str = ""  # of an ablation
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the system, its defaults else
    init: str = "imagenet"
    lr: float = 1e-3
    iterations: int = 40_000
    batch_size: int = 8
    cost: Cost
    published: tuple[Published, ...]  # the first is the one that results are compared with
    note: str = ""  # what the numbers depend on

    @property
    def name(self) -> str:
        """DATASET/BACKBONE/SYSTEM[/VARIANT]."""
        return "/".join(filter(None, (self.dataset, self.backbone, self.system, self.variant)))

    @property
    def training_eflop(self) -> float:
        """10^18 floating-point operations of the whole training."""
        images = self.iterations * self.batch_size
        return PASSES * images * self.cost.forward_tflop * 1e-6

    def options(self) -> dict[str, Any]:
        """Its options of `mtl train`, as fields of `RunConfig`."""
        names = ("dataset", "backbone", "system", "init", "lr", "iterations", "batch_size")
        chosen = {name: getattr(self, name) for name in names}
        single = {"amp": False}  # as the originals were trained; --amp departs from it
        return chosen | single | {"settings": dict(self.settings), "recipe": self.name}

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        published = [
            {"source": p.source, "scores": dict(p.scores), "reference": p.reference, "gain": p.gain}
            for p in self.published
        ]
        return {
            "name": self.name,
            "options": {k: v for k, v in self.options().items() if k != "recipe"},
            "parameters": self.cost.parameters,
            "forward_tflop": self.cost.forward_tflop,
            "training_eflop": round(self.training_eflop, 3),
            "published": published,
            "note": self.note,
        }


def note_of(system: str, init: str = "") -> str:
    """What the numbers of a system that starts from such weights depend on."""
    return "; ".join(filter(None, (NOTES.get(system), STARTS.get(init))))


def in_table(number: int, scores: Mapping[str, float], gain: float, reference: str) -> Published:
    """A row of one of the paper's tables."""
    source = f"{PAPER}, Table {number}"
    return Published(source=source, scores=scores, gain=gain, reference=reference)


def recipes() -> dict[str, Recipe]:
    """Every recipe by its name."""
    files = (lookup.load("recipes", name) for name in lookup.names("recipes"))
    return {recipe.name: recipe for file in files for recipe in file.RECIPES}


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InputError: there is none; the message names the nearest, or says that this is a row of
            others.
    """
    known = recipes()
    if name not in known:
        if others := find_reported(name):
            raise InputError(
                f"'{name}' is a row that others report ({others.source}), no recipe: mtl has no "
                f"such network to train. `mtl recipes --published {others.name}` shows it."
            )
        hint = lookup.suggest(name, known)
        raise InputError(f"There is no recipe '{name}'.{hint} `mtl recipes` lists them.")
    return known[name]


def options(name: str, explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `RunConfig`: those of a recipe, replaced by those given explicitly.

    Settings replace one by one; another system than the recipe's has only those given.

    Raises:
        InputError: there is no such recipe.
    """
    return merge(recipe(name).options(), explicit)
