"""Which network is taken where none is named: the newest run one can rely on, else that of the
package.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtlcli.errors import InputError
from mtlcli.files import typed
from mtlcli.home import weights_dir
from mtlcli.runs import names
from mtlcli.runs.folder import LOG, newest_file
from mtlcli.runs.names import SHIPPED

if TYPE_CHECKING:
    from mtlcli.runs.run import Run

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
    trained = [f for f in names.find() if f.name != SHIPPED and newest_file(f).is_file()]
    trained.sort(key=lambda folder: newest_file(folder).stat().st_mtime, reverse=True)
    own, passed = names.find_shipped(), []
    for i, folder in enumerate(trained):
        said = fault(folder, dataset)
        if said is None:
            older = list(map(newest_file, trained[i + 1 :]))
            require_whole(newest_file(folder), older, dataset, bool(own))
            path = newest_file(folder)
            return Choice(path=path, why="the newest run that is finished and scored")
        passed.append(f"{folder} is passed over: {said}")
    if own and (dataset is None or dataset_of(own) == dataset):
        return Choice(path=own, why="; ".join([COMES_WITH_MTL, *passed[:1]]))
    kind = f"network trained on {dataset}" if dataset else "network trained on real pictures"
    raise InputError(
        f"There is no {kind} in {weights_dir()}/ that is finished and scored"
        f"{''.join(f' ({p})' for p in passed[:1])}. Train one (`mtl train`, `mtl eval`) or name "
        "one with --checkpoint."
    )


def fault(folder: Path, dataset: str | None) -> str | None:
    """Why a run is not taken unasked, None if it may be."""
    from mtlcli.runs.run import Run

    try:
        run = Run.read(folder)
    except InputError:
        return "its records cannot be read"
    if dataset is not None and run.config.dataset != dataset:
        return f"trained on {run.config.dataset}"
    if dataset is None and run.dataset.source == "rendered":
        return "trained on rendered pictures"
    if not is_finished(run):
        return "not finished"
    whole = run.results is not None and run.results.main and run.results.limit is None
    return None if whole else f"not scored (`mtl eval {typed(folder)}`)"


def is_finished(run: "Run") -> bool:
    """Whether a run went on to its last iteration, by its log or, once packed, by its scores; one
    that was imported did.
    """
    if run.record.imported_from is not None or run.is_finished:
        return True
    scored = run.results.iteration if run.results else None
    return not (run.folder / LOG).exists() and (scored or 0) >= run.record.final


def dataset_of(file: Path) -> str | None:
    """The dataset that a checkpoint was trained on, by the record beside it."""
    from mtlcli.runs.record import find_record

    record = find_record(file)
    return record.config.dataset if record else None


def require_whole(newest: Path, older: list[Path], dataset: str | None, ships: bool) -> None:
    """Refuse the newest run's checkpoint if it is cut short.

    Raises:
        InputError: names the next best.
    """
    from mtlcli.runs.run import describe_damage, is_whole

    if not is_whole(newest):
        whole = (p.parent for p in older if not fault(p.parent, dataset) and is_whole(p))
        other = SHIPPED if ships else next(map(str, whole), "RUN")
        reason = f"It was chosen as the newest run; `--checkpoint {other}` takes another."
        raise InputError(f"{describe_damage(newest)} {reason}")
