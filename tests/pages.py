"""The pages that users read, and the commands and programs that stand on them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("results", "datasets", "weights")),
    ROOT / "weights" / "nyud_small" / "README.md",
)


def blocks(language: str) -> list[str]:
    """What stands between fences of a language, on all pages."""
    found = re.compile(rf"```{language}\n(.*?)```", re.S)
    return [block for page in PAGES for block in found.findall(page.read_text())]


def example(mark: str, language: str = "python") -> str:
    """The one block of a language that holds the mark."""
    (block,) = [block for block in blocks(language) if mark in block]
    return block
