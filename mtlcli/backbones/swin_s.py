"""Swin-S with output norms: 48,838,602 parameters, 96 to 768 channels at strides 4 to 32."""

from mtlcli.backbones import _swin_layout
from mtlcli.backbones._backbone import Backbone
from mtlcli.backbones._weights import HubFile, Sources, UrlFile
from mtlcli.models.swin import Swin

TIMM = "timm/swin_small_patch4_window7_224"
ADE20K = "upernet_swin_small_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K"
WEIGHTS: dict[str, Sources] = {
    "imagenet": (
        UrlFile(
            url="https://download.pytorch.org/models/swin_s-5e29d889.pth",
            sha256="5e29d889",
            licence="BSD-3-Clause",
        ),
        HubFile(repo=f"{TIMM}.ms_in1k", path="model.safetensors", licence="MIT"),
    ),
    "imagenet22k": (HubFile(repo=f"{TIMM}.ms_in22k", path="model.safetensors", licence="MIT"),),
    "ade20k": (  # where DeMT's published results started
        HubFile(repo="openmmlab/upernet-swin-small", path="model.safetensors", licence="MIT"),
        UrlFile(
            url=f"https://download.openmmlab.com/mmsegmentation/v0.5/swin/{ADE20K}/"
            f"{ADE20K}_20210526_192015-ee2fff1c.pth",
            sha256="ee2fff1c",
            licence="Apache-2.0",
        ),
    ),
}


def build() -> Swin:
    """The network with random weights."""
    return Swin(depths=(2, 2, 18, 2))


BACKBONE = Backbone(
    title="Swin-S",
    build=build,
    weights=WEIGHTS,
    convert=_swin_layout.convert,
    layouts=_swin_layout.LAYOUTS,
)
