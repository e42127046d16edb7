"""The names that the shell completes; each function lists those of one kind, the shell's own
completion of files takes over where none fits.
"""

from mtlcli import lookup
from mtlcli.home import datasets_dir
from mtlcli.runs.names import list_names


def datasets() -> list[str]:
    """What `mtl prepare` can make."""
    return list(lookup.names("datasets"))


def prepared() -> list[str]:
    """What it has made."""
    return sorted(file.stem for file in datasets_dir().glob("*.h5"))


def systems() -> list[str]:
    """Networks, by how their boxes are wired."""
    return list(lookup.names("systems"))


def backbones(incomplete: str = "") -> list[str]:
    """Encoders; timm's, which take a second or two to find, once `timm:` stands there."""
    if incomplete.startswith("timm:"):
        from mtlcli.backbones import _timm

        known = [f"timm:{name}" for name in _timm.names()]
        return [name for name in known if name.startswith(incomplete)]
    more = ["timm:"] if incomplete and "timm:".startswith(incomplete) else []
    return [*lookup.names("backbones"), *more]


def tasks() -> list[str]:
    """What can be predicted."""
    return list(lookup.names("tasks"))


def formats() -> list[str]:
    """Of exported networks."""
    return list(lookup.names("formats"))


def experiments() -> list[str]:
    """Grids of runs."""
    return list(lookup.names("experiments"))


def recipes() -> list[str]:
    """Published runs."""
    from mtlcli.recipes._recipe import recipes

    return sorted(recipes())


def runs() -> list[str]:
    """What was trained, and the network that comes with the package."""
    return list(list_names())
