"""What `mtl visualize` shall write of each source, and what of it excludes what else."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlcli.drawing.lens import check_lens
from mtlcli.drawing.networks import Networks
from mtlcli.drawing.panels import check_panels
from mtlcli.drawing.points import depth_task, units_of
from mtlcli.drawing.sources import Source, is_video
from mtlcli.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is written of each source; a sheet where nothing else is said."""

    separate: bool = False  # one file per task and the raw values, see `write_separate`
    layout: tuple[str, ...] = ()  # plain panels side by side, see `mtlcli.drawing.panels`
    points: str = ""  # also .ply and .glb, in the colours of the "picture" or its "classes"
    fov: float | None = None  # of the camera, degrees across
    focal: float | None = None  # or its focal length, pixels
    frames: int | None = None  # of a video, only the first so many

    def check(self, networks: Networks, found: Sequence[Source]) -> None:
        """Refuse what excludes each other, or needs what the networks lack.

        Raises:
            InputError: says which options.
        """
        several = len(networks.trained) > 1
        one = next(iter(networks.trained.values()))
        for option, given in (
            ("--separate", self.separate),
            ("--layout", self.layout),
            ("--points", self.points),
        ):
            if given and several:
                raise InputError(f"{option} and --compare exclude each other: choose one.")
        if self.layout and self.separate:
            raise InputError("--layout and --separate exclude each other: choose one.")
        check_panels(one, self.layout, networks.tasks)
        if not self.points and not (self.fov is None and self.focal is None):
            raise InputError("--fov and --focal are for --points: say that, too.")
        if self.points:
            check_lens(self.fov, self.focal)
            depth_task(one.tasks, units_of(one))
            if any(map(is_video, found)):
                self.require_picture()

    def require_picture(self) -> None:
        """Refuse (InputError) a video where points are wanted."""
        if self.points:
            raise InputError("--points is for pictures, not for videos.")
