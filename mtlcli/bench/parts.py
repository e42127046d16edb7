"""The parts of a network, as its modules name them.

A path is made of attribute names; the entries of a list or dict of modules (one per task, block or
step) share the path of the list. Modules of other libraries, and the backbone, stay whole; modules
without parameters are left out.
"""

from collections.abc import Iterator

from torch import nn

CONTAINERS = nn.ModuleList | nn.ModuleDict
BACKBONE = "backbone"
DEEPEST = 3  # modules within modules, lists apart
Part = list[nn.Module | nn.Parameter]


def parts(network: nn.Module) -> dict[str, Part]:
    """Path -> all modules that have it, outer paths before inner ones.

    Parameters that an opened module holds itself are parts too.
    """
    found: dict[str, Part] = {}
    for path, part in _walk(network, ()):
        found.setdefault(".".join(path), []).append(part)
    return found


def parameters(part: Part) -> int:
    """Parameters of a part."""
    return sum(
        p.numel()
        for piece in part
        for p in ([piece] if isinstance(piece, nn.Parameter) else piece.parameters())
    )


def leaves(found: dict[str, Part]) -> list[str]:
    """Paths of modules that no other path lies within."""
    return [
        path
        for path, part in found.items()
        if isinstance(part[0], nn.Module) and not any(p.startswith(f"{path}.") for p in found)
    ]


def _walk(
    module: nn.Module, path: tuple[str, ...], depth: int = 0
) -> Iterator[tuple[tuple[str, ...], nn.Module | nn.Parameter]]:
    for name, parameter in module.named_parameters(recurse=False):
        if path:
            yield (*path, name), parameter
    for name, child in module.named_children():
        if not any(True for _ in child.parameters()):
            continue
        listed, lists = isinstance(module, CONTAINERS), isinstance(child, CONTAINERS)
        below = path if listed else (*path, name)
        deep = depth + (not listed and not lists)
        if not lists:
            yield below, child
        if lists or _opens(child, below, deep):
            yield from _walk(child, below, deep)


def _opens(module: nn.Module, path: tuple[str, ...], depth: int) -> bool:
    ours = type(module).__module__.startswith("mtlcli.")
    return ours and path[-1] != BACKBONE and depth < DEEPEST
