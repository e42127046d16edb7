"""The multi-task gain Delta%: the mean relative improvement over a reference."""

import math
from collections.abc import Mapping

from mtlcli.errors import InputError


def gain(
    scores: Mapping[str, float],
    reference: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
) -> float:
    """Mean over tasks of 100 (M - M_ref) / M_ref, negated where lower is better, in percent.

    The formula of Maninis et al. (arXiv 1904.08918), which arXiv 2508.04422 prints as Delta%.

    Args:
        scores: task -> main metric.
        reference: the same of what it is compared with.
        higher_is_better: task -> direction of its metric. Tasks that one lacks do not count.

    Raises:
        InputError: no task in common, or a reference of zero.
    """
    tasks = shared_tasks(scores, reference)
    if not tasks:
        raise InputError(
            f"Nothing to compare: the run has {', '.join(scores)}, "
            f"the reference has {', '.join(reference)}."
        )
    changes = []
    for task in tasks:
        if not reference[task] > 0:
            raise InputError(f"The reference's {task} is {reference[task]}: no gain against that.")
        change = 100 * (scores[task] - reference[task]) / reference[task]
        changes.append(change if higher_is_better[task] else -change)
    return sum(changes) / len(changes)


def shared_tasks(scores: Mapping[str, float], reference: Mapping[str, float]) -> list[str]:
    """The tasks in which both have a finite score, in the order of `scores`."""
    both = (task for task in scores if task in reference)
    return [t for t in both if math.isfinite(scores[t]) and math.isfinite(reference[t])]
