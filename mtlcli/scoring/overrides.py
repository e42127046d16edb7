"""What a user says of metrics in place of the dataset: checked before anything is scored."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtlcli.boundary import protocol_named
from mtlcli.boundary.counts import require_kind
from mtlcli.errors import InputError
from mtlcli.maps import kind_of
from mtlcli.maps._map import NO_OPTIONS, Options

LINES = "boundaries"  # the kind of map that the options --edge-... are of


def complete_overrides(
    overrides: Mapping[str, Options],
    lines: Options,
    tasks: Iterable[str],
    kinds: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Task -> all options that replace the dataset's.

    Args:
        overrides: by task.
        lines: for every task whose map is one of boundaries, unless `overrides` says otherwise.
        tasks: of the network.
        kinds: task -> kind of map, as the dataset says it.

    Raises:
        InputError: they are of a task that the network lacks, or name no protocol or kind of
            ground truth.
    """
    names = list(tasks)
    if unknown := [name for name in overrides if name not in names]:
        raise InputError(
            f"overrides: the network has no task '{unknown[0]}'; it has {', '.join(names)}."
        )
    drawn = [name for name in names if kind_of(name, kinds) == LINES]
    if lines and not drawn:
        options = ", ".join(f"--edge-{name.replace('_', '-')}" for name in lines)
        raise InputError(
            f"{options}: the network predicts no boundaries, only {', '.join(names)}; leave it out."
        )
    usual = {name: lines if name in drawn else NO_OPTIONS for name in names}
    found = {name: {**usual[name], **overrides.get(name, NO_OPTIONS)} for name in names}
    for its in (found[name] for name in drawn):
        protocol_named(its.get("protocol", "seism"))
        require_kind(its.get("gt_as", "boundary"))
    return found


def require_known(option: str, options: Mapping[str, Options], idents: Sequence[str]) -> None:
    """Refuse a list of pictures of which the split has none.

    Raises:
        InputError: names the first of the list.
    """
    for chosen in (its["ids"] for its in options.values() if its.get("ids")):
        if not set(chosen) & set(idents):
            raise InputError(
                f"{option}: none of its {len(chosen)} ids, the first is {chosen[0]}, is a picture "
                f"of the split; its first is {idents[0]}."
            )
