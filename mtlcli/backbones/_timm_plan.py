"""How a network of timm (pytorch-image-models) becomes a backbone of four maps.

Which options a family needs for that is found out by building the network without numbers (on
torch's meta device), so that a new family of timm needs nothing here. timm is imported when one of
its names is asked for.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mtlcli.backbones._backbone import PREFIX
from mtlcli.errors import InputError, in_one_line
from mtlcli.models.pyramid import STRIDES, Pyramid, Reassembly

LAST = (-4, -3, -2, -1)  # levels; those of strides 4 to 32 where a network begins at 2 or 4
BEFORE_LAST = (-5, -4, -3, -2)  # where it goes on to 64
ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False})  # what families call it
BRANCHES = {"feature_location": ""}  # HRNet's, not what its classifier makes of them
TRIED = (3, 5)  # sides of the picture that a network is tried with, in multiples
PATCHES = (8, 14, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a network of timm becomes a backbone."""

    options: Mapping[str, Any]  # of its constructor
    levels: tuple[int, ...] = ()  # of its maps those at strides 4 to 32; (): a plain transformer
    patch: int = 0  # pixels, of a plain transformer
    multiple: int = STRIDES[-1]  # of pixels that both sides of its pictures must be


class NoMapsError(Exception):
    """Why a network has no maps at strides 4 to 32."""


class Blocks(nn.Module):
    """A plain transformer -> the maps after the last blocks of its four quarters (of twelve 2, 5, 8
    and 11), each through its last norm.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        count = len(network.feature_info)
        if count < len(STRIDES):
            raise NoMapsError(f"it has {count} blocks, fewer than four")
        self.width = network.feature_info[-1]["num_chs"]
        ends = [round(count * quarter / len(STRIDES)) - 1 for quarter in (1, 2, 3, 4)]
        self.ends = network.prune_intermediate_layers(ends, prune_norm=False, prune_head=True)
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four (B, C, h, w)."""
        maps: list[Tensor] = self.network.forward_intermediates(
            image, indices=self.ends, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def build(name: str) -> Pyramid:
    """The network with random weights.

    Raises:
        InputError: it gives no maps at strides 4 to 32 of pictures of any size; says why.
    """
    plan = make_plan(name)
    return complete(make_body(name, plan), plan)


@cache
def make_plan(name: str) -> Plan:
    """How a network becomes a backbone (raises InputError as `build`)."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        try:
            return choose_multiple(name, *choose_levels(name))
        except NoMapsError as error:
            reason = str(error)
    raise InputError(
        f"--backbone {PREFIX}{name} cannot be used: {reason}. `mtl backbones` shows others."
    )


def choose_levels(name: str) -> tuple[nn.Module, Plan]:
    """What gives the maps, as a network without numbers, and how it is made.

    Raises:
        NoMapsError: it has none at strides 4 to 32, nor at one stride that could become them.
    """
    strides: list[int] = []
    for levels in (LAST, BEFORE_LAST, ()):
        try:
            network, options = create_for_any_size(name, levels)
        except Exception as error:  # of any kind: the network's own
            if not levels and not strides:
                raise NoMapsError(f"timm takes no maps out of it ({in_one_line(error)})") from error
            continue
        strides = network.feature_info.reduction()
        if levels and tuple(strides) == STRIDES:
            return network, Plan(options=options, levels=levels)
        if len({*strides}) == 1 and strides[0] in PATCHES:
            patch = strides[0]
            plan = Plan(options=options, patch=patch, multiple=patch)
            return make_body(name, plan), plan
    listed = ", ".join(map(str, strides))
    raise NoMapsError(f"its maps are at strides {listed}, not at 4, 8, 16 and 32")


def create_for_any_size(name: str, levels: tuple[int, ...]) -> tuple[Any, Mapping[str, Any]]:
    """The network as timm takes maps out of it, and the options under which it knows them."""
    wanted = {"features_only": True} | ({"out_indices": levels} if levels else {})
    for options in (BRANCHES,) if name.startswith("hrnet") else ANY_SIZE:
        try:
            return create(name, **wanted, **options), options
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
    return create(name, **wanted), {}


def choose_multiple(name: str, body: nn.Module, plan: Plan) -> Plan:
    """The plan with the sides that the network takes: multiples of its stride, or else of the size
    that its weights were trained at.

    Raises:
        NoMapsError: it takes no other size at all, or its maps are too small.
    """
    from timm.models import get_pretrained_cfg

    its = get_pretrained_cfg(name)
    own = its.input_size[-1] if its else 224
    for multiple in (plan.multiple, own):
        tried = replace(plan, multiple=multiple)
        height, width = (times * multiple - less for times, less in zip(TRIED, (7, 3)))
        try:
            with quiet():
                pyramid = complete(body, tried).eval()
                maps = pyramid(torch.empty(1, 3, height, width))
        except Exception:  # of any kind: the network's own
            continue
        if [tuple(x.shape[1:]) for x in maps] == [
            (channels, -(-height // stride), -(-width // stride))
            for channels, stride in zip(pyramid.channels, STRIDES)
        ]:
            return tried
        raise NoMapsError("its maps do not cover the whole picture")
    raise NoMapsError(f"it takes pictures of {own}x{own} only")


def make_body(name: str, plan: Plan, **loading: Any) -> nn.Module:
    """What gives the maps; `loading` are arguments with which timm loads weights."""
    options = {**plan.options, **loading}
    if plan.patch:
        return Blocks(create(name, num_classes=0, **options))
    body: nn.Module = create(name, features_only=True, out_indices=plan.levels, **options)
    return body


def complete(body: nn.Module, plan: Plan) -> Pyramid:
    """The body with all that makes it a backbone."""
    if isinstance(body, Blocks):
        neck = Reassembly(body.width, plan.patch)
        return Pyramid(body, neck.channels, plan.multiple, neck=neck)
    widths: Sequence[int] = body.feature_info.channels()  # type: ignore[operator,union-attr]
    last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
    return Pyramid(body, widths, plan.multiple, channels_last=last)


def create(name: str, **options: Any) -> Any:
    """A network of timm's, without its warnings."""
    with quiet():
        import timm

        return timm.create_model(name, **options)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: timm's are of its own code, and of names that are looked at here."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
