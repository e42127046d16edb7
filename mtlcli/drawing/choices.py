"""Words that options of drawing take; without imports, for the command line."""

from typing import Literal

ColourMap = Literal["inferno", "magma", "plasma", "viridis", "cividis", "turbo", "grey"]
PointColours = Literal["picture", "classes"]
