"""Which network is taken where none is named: the newest run one can rely on, else that of the
package.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from mtlcli import shipped
from mtlcli.checkpoint import LAST, damage
from mtlcli.config import weights_dir
from mtlcli.errors import InputError

COMES_WITH_MTL = "comes with mtl: small, for indoor scenes only"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A network that nobody named."""

    path: Path  # its checkpoint
    why: str

    def remark(self, other: str) -> str:
        """What to say of it; `other` is how another is named."""
        return f"{self.why}; {other} takes another"


def default_run(dataset: str | None = None) -> Choice:
    """The newest run under weights/ that is finished, scored on a whole split, and trained on real
    pictures; or else the network that comes with the package.

    Args:
        dataset: only networks trained on this dataset, rendered or not.

    Raises:
        InputError: there is none, or it is cut short.
    """
    found = [p for p in weights_dir().rglob(LAST) if p.parent.name != shipped.NAME]
    faults = {path: fault(path.parent, dataset) for path in sorted(found, key=age)}
    fit = [path for path, said in faults.items() if said is None]
    passed = [f"{path.parent} is passed over: {said}" for path, said in faults.items() if said]
    own = shipped.shipped()
    if fit:
        require_whole(fit, bool(own))
        return Choice(path=fit[-1], why="the newest run that is finished and scored")
    if own and (dataset is None or dataset_of(own.parent) == dataset):
        return Choice(path=own, why="; ".join([COMES_WITH_MTL, *passed[-1:]]))
    kind = f"network trained on {dataset}" if dataset else "network trained on real pictures"
    raise InputError(
        f"There is no {kind} in {weights_dir()}/ that is finished and scored"
        f"{''.join(f' ({p})' for p in passed[-1:])}. Train one (`mtl train`, `mtl eval`) or name "
        "one with --checkpoint."
    )


def age(path: Path) -> float:
    """When it was written: larger is newer."""
    return path.stat().st_mtime


def fault(folder: Path, dataset: str | None) -> str | None:
    """Why a run is not taken unasked, None if it may be."""
    try:
        run = read(folder / "run.json")
        trained_on, rendered = run["config"]["dataset"], is_rendered(run)
        whole = run.get("imported_from") is not None or is_finished(folder, run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its run.json cannot be read"
    if dataset is not None and trained_on != dataset:
        return f"trained on {trained_on}"
    if dataset is None and rendered:
        return "trained on rendered pictures"
    if not whole:
        return "not finished"
    return None if is_scored(folder) else f"not scored (`mtl eval {folder}`)"


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    return json.loads(path.read_text())


def is_rendered(run: dict[str, Any]) -> bool:
    """Whether the pictures were made by a program."""
    return run["dataset"].get("source") == "rendered"


def is_finished(folder: Path, run: dict[str, Any]) -> bool:
    """Whether a run went on to its last iteration, by its log or, once packed, by its scores."""
    asked, log = run["config"]["iterations"], folder / "log.jsonl"
    if not log.exists():
        return read(folder / "results.json")["iteration"] >= asked
    lines = log.read_bytes().rpartition(b"\n")[0].splitlines()
    return bool(lines) and json.loads(lines[-1])["iteration"] >= asked


def is_scored(folder: Path) -> bool:
    """Whether `mtl eval` has scored a checkpoint of the run on a whole split."""
    try:
        results = read(folder / "results.json")
        return bool(results["main"]) and results.get("limit") is None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def dataset_of(folder: Path) -> str | None:
    """The dataset that run.json names."""
    try:
        return read(folder / "run.json")["config"]["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_whole(fit: list[Path], ships: bool) -> None:
    """Refuse the last of them if it is cut short; its directory stands at its end.

    Raises:
        InputError: names the next best.
    """
    *others, last = fit
    if not is_zipfile(last):
        whole = [p.parent for p in reversed(others) if is_zipfile(p)]
        other = shipped.NAME if ships else next(map(str, whole), "RUN")
        raise InputError(
            f"{damage(last)} It was chosen as the newest run; `--checkpoint {other}` takes another."
        )
