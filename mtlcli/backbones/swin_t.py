"""Swin-T with output norms: 27,520,698 parameters, 96 to 768 channels at strides 4 to 32."""

from mtlcli.backbones import _swin_layout
from mtlcli.backbones._weights import Weights
from mtlcli.models.swin import Swin

TITLE = "Swin-T"  # in tables

ADE20K = "upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K"
WEIGHTS = {
    "imagenet": Weights(
        url="https://download.pytorch.org/models/swin_t-704ceda3.pth", sha256="704ceda3"
    ),
    "ade20k": Weights(  # where DeMT's published results started
        url=f"https://download.openmmlab.com/mmsegmentation/v0.5/swin/{ADE20K}/"
        f"{ADE20K}_20210531_112542-e380ad3e.pth",
        sha256="e380ad3e",
    ),
}
convert = _swin_layout.convert


def build() -> Swin:
    """The network with random weights."""
    return Swin(depths=(2, 2, 6, 2))
