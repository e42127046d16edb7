"""The names of DeMT's released code (yangyangxu0/DeMT) and ours.

Mixers and query blocks are numbered there in the order of the dataset's tasks, here in the order of
their names.
"""

import re
from collections.abc import Iterable, Sequence

RENAMED = (  # pattern in DeMT, name here; {i} is the place of a numbered task
    (r"head\.linear1\.", "decoder.projection."),
    (r"head\.task_fusion\.in_proj_", "decoder.interaction.attention.input."),
    (r"head\.task_fusion\.out_proj\.", "decoder.interaction.attention.output."),
    (r"head\.smlp\.", "decoder.interaction.mlp."),
    (r"head\.task_querys\.(\d+)\.in_proj_", "decoder.queries.blocks.{i}.attention.input."),
    (r"head\.task_querys\.(\d+)\.out_proj\.", "decoder.queries.blocks.{i}.attention.output."),
    (r"head\.smlp2\.(\d+)\.", "decoder.queries.blocks.{i}.mlp."),
    (r"head\.bottleneck\.(\w+)\.conv\.", "heads.{task}.bottleneck.0."),
    (r"head\.bottleneck\.(\w+)\.bn\.", "heads.{task}.bottleneck.1."),
    (r"head\.final_logits\.(\w+)\.", "heads.{task}.logits."),
)
MIXER = r"head\.defor_mixers\.(\d+)\.blocks\.0\."
SAMPLING = (  # inside the residual of a mixer
    (r"fn\.0\.get_offset\.p_conv\.", "spatial.0.correction."),
    (r"fn\.0\.get_offset\.opt\.", "spatial.0.offsets."),
    (r"fn\.0\.(?=weight|bias)", "spatial.0.mix."),
    (r"fn\.2\.", "spatial.2."),
)
CHANNEL_FIRST = ((r"0\.", "channel.0."), (r"2\.", "channel.2."), (r"3\.", ""))
SPACE_FIRST = ((r"1\.", "channel.0."), (r"3\.", "channel.2."), (r"0\.", ""))
UNUSED = {
    r"head\.defor_mixers\..*\.offset$": "built by the released code and never used",
    r"(criterion|metrics_dict)\.": "part of training, not of the network",
}


def mixes_space_first(names: Iterable[str]) -> bool:
    """Whether these are of the earlier release, whose mixers begin with the residual."""
    return any(re.match(MIXER + r"0\.fn\.", name) for name in names)


def our_name(theirs: str, order: Sequence[str], space_first: bool) -> str | None:
    """The name of a tensor of DeMT's head here; None if there is none."""
    mixer = re.match(MIXER, theirs)
    if mixer and int(mixer[1]) < len(order):
        rest = _replaced(theirs[mixer.end() :], SPACE_FIRST if space_first else CHANNEL_FIRST)
        if rest and rest.startswith("fn."):
            rest = _replaced(rest, SAMPLING)
        return f"decoder.mixers.{place(mixer[1], order)}.{rest}" if rest else None
    for pattern, target in RENAMED:
        found = re.match(pattern, theirs)
        if found:
            part = found[1] if found.groups() else ""
            if part.isdigit() and int(part) >= len(order):
                return None
            number = place(part, order) if part.isdigit() else 0
            return target.format(i=number, task=part) + theirs[found.end() :]
    return None


def place(number: str, order: Sequence[str]) -> int:
    """Where the task that DeMT numbers so stands among the names in order."""
    return sorted(order).index(order[int(number)])


def why_unused(name: str) -> str:
    """Why a tensor of the file has no place."""
    for pattern, reason in UNUSED.items():
        if re.match(pattern, name):
            return reason
    return "no counterpart here"


def _replaced(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for pattern, target in rules:
        found = re.match(pattern, name)
        if found:
            return target + name[found.end() :]
    return None
