"""HRNet-V2-W18-small-v2: 3,860,720 parameters, 18, 36, 72 and 144 channels at strides 4 to 32."""

from mtlcli.backbones import _hrnet_layout
from mtlcli.backbones._backbone import Backbone
from mtlcli.backbones._weights import HubFile, Sources, UrlFile
from mtlcli.models.hrnet import HRNet

WEIGHTS: dict[str, Sources] = {
    "imagenet": (
        HubFile(repo="timm/hrnet_w18_small_v2.ms_in1k", path="model.safetensors", licence="MIT"),
        UrlFile(
            url="https://download.openmmlab.com/pretrain/third_party/"
            "hrnetv2_w18_small-b5a04e21.pth",
            sha256="b5a04e21",
            licence="MIT",
        ),
    ),
}


def build() -> HRNet:
    """The network with random weights."""
    return HRNet(channels=(18, 36, 72, 144), exchanges=(1, 3, 2), bottlenecks=2, blocks=2)


BACKBONE = Backbone(
    title="HRNet18",
    build=build,
    weights=WEIGHTS,
    convert=_hrnet_layout.convert,
    layouts=_hrnet_layout.LAYOUTS,
)
