"""Swin-S with output norms: 48,838,602 parameters, 96 to 768 channels at strides 4 to 32."""

from mtlcli.models.swin import Swin


def build() -> Swin:
    """The network with random weights."""
    return Swin(depths=(2, 2, 18, 2))
