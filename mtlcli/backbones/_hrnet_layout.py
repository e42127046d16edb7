"""HRNet weights as they are published: the official names, with or without other parts."""

from mtlcli.backbones._weights import Converted, State, of_backbone, without

LAYOUTS = ("the official release", "timm", "mmsegmentation", "a run of mtl")
CLASSIFICATION = ("incre_modules", "downsamp_modules", "final_layer", "classifier")


def convert(state: State) -> Converted | None:
    """From the official release, timm, mmsegmentation or a run of ours; None if it is none of them.

    Names are the same everywhere; the parts for classification are left out.
    """
    inside, others = of_backbone(state)
    if "stage4.0.fuse_layers.0.1.0.weight" not in inside:
        return None
    tensors, classification = without(inside, CLASSIFICATION)
    return Converted(tensors=tensors, ignored=others + classification)
