"""ResNet-18 (He et al., arXiv 1512.03385) with half the channels: 32 to 256, 2,798,880 parameters.

For what starts from random weights on a CPU, as the demo and the network that comes with the
package do. It has no published weights.
"""

from mtlcli.backbones._backbone import Backbone
from mtlcli.backbones._weights import Converted, State, of_backbone
from mtlcli.models.resnet import ResNet


def build() -> ResNet:
    """The network with random weights."""
    return ResNet(channels=(32, 64, 128, 256), blocks=2)


def convert(state: State) -> Converted:
    """Files of this backbone, or of a whole network with it, have its names already."""
    tensors, ignored = of_backbone(state)
    return Converted(tensors=tensors, ignored=ignored)


BACKBONE = Backbone(title="half ResNet-18", build=build, convert=convert)
