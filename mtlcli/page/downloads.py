"""Files to take away: those of `mtl visualize --separate`, and all of them in one zip."""

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZipFile

from mtlcli.drawing.prediction import Prediction
from mtlcli.errors import MtlError
from mtlcli.page.guard import FILE
from mtlcli.page.uploads import Uploads

NAME = "picture"  # of the files in the zip
ZIP = "maps.zip"
LARGEST = 64 * 2**20  # bytes at most that the files of one picture take


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What can be downloaded of one picture."""

    everything: Path  # the zip
    values: dict[str, Path]  # task -> the file with its values

    def address(self, path: Path) -> str:
        """Where the page serves one of the files."""
        return FILE + quote(str(path))


def save(prediction: Prediction, uploads: Uploads) -> Saved | None:
    """Write the files into a new folder among the uploads; None where there is no room."""
    if not uploads.fits(LARGEST):
        return None
    place = Path(mkdtemp(dir=uploads.folder))
    try:
        return write(prediction, place)
    except (OSError, MtlError):  # the disk is full before the page's own limit
        rmtree(place, ignore_errors=True)
        return None


def write(prediction: Prediction, place: Path) -> Saved:
    """Write the files into an empty folder (raises OSError, MtlError)."""
    written = prediction.save(place, NAME)
    everything = place / ZIP
    with ZipFile(everything, "w", ZIP_DEFLATED, compresslevel=1) as packed:
        for path in written:
            packed.write(path, path.relative_to(place))
    values = {}
    for task in prediction:
        values[task] = (place / task / f"{NAME}.png").rename(place / f"{task}.png")
    for path in written:
        path.unlink(missing_ok=True)  # it is in the zip
    return Saved(everything=everything, values=values)
