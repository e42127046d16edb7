"""HRNet-V2-W18-small-v2: 3,860,720 parameters, 18, 36, 72 and 144 channels at strides 4 to 32."""

from mtlcli.models.hrnet import HRNet


def build() -> HRNet:
    """The network with random weights."""
    return HRNet(channels=(18, 36, 72, 144), exchanges=(1, 3, 2), bottlenecks=2, blocks=2)
