"""The record of a backbone, and how a name becomes one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from mtlcli import lookup
from mtlcli.backbones._weights import Converted, Sources, State
from mtlcli.data.moments import IMAGENET, Moments
from mtlcli.errors import InputError

RANDOM = "random"
PREFIX = "timm:"


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What makes (B, 3, H, W) into four maps at strides 4, 8, 16 and 32, their sides rounded up."""

    title: str  # in tables
    build: Callable[[], nn.Module]  # with random weights and `channels`, without network access
    moments: Moments = IMAGENET  # mean and deviation of the pixels that its weights are made for
    weights: Mapping[str, Sources] = field(default_factory=dict)  # published, the usual first
    convert: Callable[[State], Converted | None]  # a file's tensors; None: of no layout known here
    layouts: tuple[str, ...] = ("a run of mtl",)  # that `convert` knows, for messages

    @property
    def usual_init(self) -> str:
        """What it starts from unless the user says otherwise: never from random numbers."""
        return next(iter(self.weights), "imagenet")


def find(name: str) -> Backbone:
    """The backbone of a name: that of a file in this folder, or timm's of `timm:NAME`.

    Raises:
        InputError: no such name; the message tells the nearest.
    """
    if name.startswith(PREFIX):
        from mtlcli.backbones import _timm

        return _timm.find(name.removeprefix(PREFIX))
    try:
        found: Backbone = lookup.load("backbones", name).BACKBONE
    except InputError as error:
        raise InputError(f"{error} `mtl backbones PATTERN` lists timm's, timm:NAME.") from error
    return found
