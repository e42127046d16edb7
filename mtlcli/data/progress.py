"""Progress bars on stderr, with speed and time left; silent when quiet or not on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

Report = Callable[[int], object]


@dataclass(frozen=True)
class Bars:
    """Makes the bars of one command."""

    quiet: bool = False

    @contextmanager
    def samples(self, title: str, total: int) -> Iterator[Report]:
        """A bar that counts samples."""
        with tqdm(total=total, desc=title, unit="img", disable=self.quiet or None) as bar:
            yield bar.update

    @contextmanager
    def bytes(self, title: str, total: int, done: int = 0) -> Iterator[Report]:
        """A bar that counts bytes, `done` of which were there before; total 0 is unknown."""
        hidden = self.quiet or None
        with tqdm(
            total=total or None, initial=done, desc=title, unit="B", unit_scale=True, disable=hidden
        ) as bar:
            yield bar.update

    def say(self, text: str) -> None:
        """A line on stderr."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """A line on stderr, also when quiet."""
        tqdm.write(f"mtl: {text}", file=sys.stderr)
