"""Parts of a thing: classes of which 0 is what is no part of one, and says nothing alone."""

from dataclasses import replace

import numpy as np

from mtlcli.maps import classes
from mtlcli.maps._map import IGNORE

NO_PART = 0


def crop(target: np.ndarray) -> np.ndarray:
    """A crop in which no part is visible carries no label at all, as ATRC and DeMT have it: what
    is trained is where the parts of a thing are, not whether there is one.
    """
    visible = ((target != NO_PART) & (target != IGNORE)).any()
    return target if visible else np.full_like(target, IGNORE)


MAP = replace(classes.MAP, usual=("human_parts",), crop=crop)
