"""The backbone of a network while it is trained: at a rate of its own, or fixed."""

from torch import nn

BACKBONE = "backbone"  # what a system calls it
NECK = "neck"  # a part of some: it begins at random, and learns as what follows it does


def find_backbones(network: nn.Module) -> list[nn.Module]:
    """What may have learnt before: one backbone, or that of every task where each has a network of
    its own; of a backbone with a neck all its other parts.
    """
    paths = {name for name, _ in network.named_modules() if name.split(".")[-1] == BACKBONE}
    outermost = [p for p in paths if not any(p.startswith(f"{other}.") for other in paths)]
    parts: list[nn.Module] = []
    for backbone in map(network.get_submodule, sorted(outermost)):
        inner = dict(backbone.named_children())
        has_neck = inner.pop(NECK, None) is not None
        parts += inner.values() if has_neck else [backbone]
    return parts


def freeze(network: nn.Module) -> None:
    """The backbone gets no gradients from now on."""
    for backbone in find_backbones(network):
        backbone.requires_grad_(False)


def set_training(network: nn.Module, *, frozen: bool) -> None:
    """Training mode, but evaluation mode in a frozen backbone: its batch normalisation neither
    uses nor remembers a batch's statistics, and nothing in it is dropped.
    """
    network.train()
    for backbone in find_backbones(network) if frozen else ():
        backbone.eval()


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Those outside the backbone and those in it, each in the network's order."""
    own = {p for backbone in find_backbones(network) for p in backbone.parameters()}
    everything = list(network.parameters())
    return [p for p in everything if p not in own], [p for p in everything if p in own]
