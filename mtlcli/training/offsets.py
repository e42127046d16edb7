"""What the deformable attentions of a network do with their offsets, for the log."""

from torch import nn

from mtlcli.models.deformable_attention import DeformableAttention


class OffsetWatch:
    """Looks at the passes it is asked to."""

    def __init__(self, network: nn.Module) -> None:
        self.attentions = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, DeformableAttention)
        }

    def look(self, wanted: bool) -> None:
        """Whether the next pass is looked at."""
        for attention in self.attentions.values():
            attention.watched = wanted

    def read(self) -> dict[str, dict[str, list[float]]]:
        """Of each attention in the last pass looked at: mean displacement in `pixels` and share of
        sampling points `outside` the map, per resolution, finest first.
        """
        found = {}
        for name, attention in self.attentions.items():
            if attention.seen is not None:
                pixels, outside = (rounded(values.tolist()) for values in attention.seen)
                found[name] = {"pixels": pixels, "outside": outside}
                attention.seen = None
        return found


def rounded(values: list[float]) -> list[float]:
    """Four digits are enough to look at."""
    return [float(f"{value:.4g}") for value in values]
