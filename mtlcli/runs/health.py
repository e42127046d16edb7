"""`mtl doctor`: what is installed, what this machine has, which files are there and whole, and what
to do next.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtlcli import lookup
from mtlcli.data import hub
from mtlcli.data.download import find_problem
from mtlcli.data.hdf5 import keys_of
from mtlcli.data.reader import Reader
from mtlcli.data.shared_memory import MORE, SHARED
from mtlcli.errors import InputError
from mtlcli.files import checksums, gigabytes, typed
from mtlcli.home import datasets_dir, weights_dir
from mtlcli.runs.folder import LOG, PACKED, RESULTS, is_packed, newest_file, record_file
from mtlcli.runs.installation import OPTIONAL, examine_machine, list_missing, list_versions
from mtlcli.runs.names import CHECKPOINTS, SHIPPED, find, find_shipped
from mtlcli.runs.run import Run, is_sound, is_whole

LITTLE_DISK = 5e9  # bytes; NYUD and its archive need about as much
LITTLE_SHARED = 0.5e9  # bytes; prepared batches of the paper's size take 0.3 GB


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One file or run: whether it can be used."""

    name: str
    state: str  # whole, unfinished or damaged
    detail: str
    next: str | None = None  # the command that mends or continues it


@dataclass(frozen=True, kw_only=True)
class Health:
    """All that was found."""

    versions: dict[str, str | None]  # None: not installed
    machine: dict[str, Any]
    datasets: tuple[Finding, ...]
    weights: tuple[Finding, ...]
    runs: tuple[Finding, ...]
    shipped: Finding | None  # the network that comes with mtl
    extras: dict[str, str]  # those that are missing, with the command that installs them
    advice: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        own = (self.shipped,) if self.shipped else ()
        found = (*self.datasets, *self.weights, *self.runs, *own)
        return all(f.state != "damaged" for f in found)

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {**json.loads(json.dumps(asdict(self))), "sound": self.is_sound}

    def text(self) -> str:
        """A few lines for each subject."""
        machine = self.machine
        there = [f"{name} {number}" for name, number in self.versions.items() if number]
        devices = ", ".join(machine["devices"]) or "none but the CPU"
        lines = [
            "versions: " + ", ".join(there),
            f"machine:  {machine['cores']} cores, {gigabytes(machine['memory'])} memory; "
            f"devices: {devices}",
            f"disk:     {gigabytes(machine['free_disk'])} free in {machine['home']}",
        ]
        if machine["free_shared"] is not None:
            lines.append(f"shared:   {gigabytes(machine['free_shared'])} free in {SHARED}")
        missing = [f"  {OPTIONAL[extra][1]}: {command}" for extra, command in self.extras.items()]
        lines += ["extras missing:", *missing] if missing else ["extras: all there"]
        for title, found in (
            ("datasets", self.datasets),
            ("weights", self.weights),
            ("runs", self.runs),
            ("comes with mtl", (self.shipped,) if self.shipped else ()),
        ):
            lines.append(f"{title}:" + ("" if found else " none"))
            lines += [f"  {f.name}: {f.state}, {f.detail}" for f in found]
        return "\n".join([*lines, "next:", *(f"  {command}" for command in self.advice)])


def examine() -> Health:
    """Look at everything under the home folder and at this machine; nothing is changed."""
    datasets = (*map(check_dataset, sorted(datasets_dir().glob("*.h5"))), *check_ledger())
    weights, runs = tuple(check_weights()), tuple(check_runs())
    machine = examine_machine()
    return Health(
        versions=list_versions(),
        machine=machine,
        datasets=datasets,
        weights=weights,
        runs=runs,
        shipped=check_shipped(),
        extras=list_missing(),
        advice=tuple(advise(datasets, weights, runs, machine["free_disk"], machine["free_shared"])),
    )


def check_dataset(path: Path) -> Finding:
    """Whether a dataset file is complete, and its first, middle and last samples are as written."""
    maker = path.stem if path.stem in lookup.names("datasets") else f"{path.stem}.yaml"
    remedy = f"mtl prepare {typed(maker)} --force"
    try:
        counts = []
        for split in Reader(path, "train").info.expected:
            reader = Reader(path, split)
            damaged = find_damage(reader)
            reader.close()
            if damaged:
                return Finding(name=str(path), state="damaged", detail=damaged, next=remedy)
            counts.append(f"{len(reader)} {split}")
    except (InputError, OSError) as error:
        reason = str(error).removeprefix(f"{path} ").splitlines()[0]
        return Finding(name=str(path), state="damaged", detail=reason, next=remedy)
    return Finding(name=str(path), state="whole", detail=f"{', '.join(counts)} samples")


def check_ledger() -> list[Finding]:
    """What is wrong with the record of downloads, sources.json."""
    path = datasets_dir() / "sources.json"
    problem = find_problem(path)
    if not problem:
        return []
    detail = f"{problem}; without it, what is downloaded next is trusted anew"
    return [Finding(name=str(path), state="damaged", detail=detail, next=f"rm {typed(path)}")]


def find_damage(reader: Reader) -> str | None:
    """The first of a few samples whose bytes are not those that were written."""
    for index in sorted({0, len(reader) // 2, len(reader) - 1}):
        for key in keys_of(reader.info):
            if reader.has(key)[index] and not reader.is_sound(key, index):
                return f"{reader.split} sample '{reader.ids[index]}' ({key}) is not as written"
    return None


def check_weights() -> list[Finding]:
    """The backbone weights there are: in weights/ by their checksums, and in the hub's cache ours
    and timm's.
    """
    from mtlcli.backbones import _backbone as backbones

    sources = {
        source.file: source
        for name in lookup.names("backbones")
        for sources in backbones.find(name).weights.values()
        for source in sources
    }
    ours = [found for source in sources.values() for found in weights_of(source)]
    named = {getattr(source, "repo", None) for source in sources.values()}
    timms = {repo: path for repo, path in hub.list_cached("timm").items() if repo not in named}
    return ours + [cached_from(repo, path) for repo, path in timms.items()]


def weights_of(source: Any) -> Iterator[Finding]:
    """The file of one source, wherever it lies on this machine."""
    from mtlcli.backbones._weights import UrlFile

    path = weights_dir() / source.file
    if isinstance(source, UrlFile):
        if path.is_file():
            yield check_digest(path, source.sha256)
        return
    if path.is_file():
        yield check_file(path, f"as it was put there, in place of {source.repo}")
    cached = hub.find_cached(source.repo, source.path, source.revision)
    if cached:
        yield cached_from(source.repo, cached)


def cached_from(repo: str, path: Path) -> Finding:
    """What the hub's cache holds of a repository."""
    return check_file(path, f"cached from hub {repo}")


def check_file(path: Path, detail: str) -> Finding:
    """Whether a file without a published checksum is not cut short, as far as it can be told."""
    whole = is_whole(path) if path.suffix == Path(PACKED).suffix else path.stat().st_size > 0
    if whole:
        return Finding(name=str(path), state="whole", detail=detail)
    remedy = f"rm {typed(path)}"
    return Finding(name=str(path), state="damaged", detail=f"{detail}, cut short", next=remedy)


def check_digest(path: Path, digest: str) -> Finding:
    """Whether a file has the published checksum."""
    whole = checksums(path)["sha256"].startswith(digest)
    return Finding(
        name=str(path),
        state="whole" if whole else "damaged",
        detail="as published" if whole else "not the published bytes",
        next=None if whole else f"rm {typed(path)}",
    )


def check_runs() -> list[Finding]:
    """Every folder under weights/ in which a run began, but for the network that ships."""
    began = (folder for folder in find() if record_file(folder).is_file())
    return [check_run(folder) for folder in began if folder.name != SHIPPED]


def check_shipped() -> Finding | None:
    """The network that comes with mtl: what it is, and whether its file is whole."""
    file = find_shipped()
    if file is None:
        return None
    if not is_whole(file):
        return Finding(name=SHIPPED, state="damaged", detail=f"{file} is cut short: reinstall mtl")
    try:
        config = Run.read(file.parent).config
        detail = f"{config.system}, {config.backbone}, {config.dataset}: {', '.join(config.tasks)}"
    except InputError as error:
        return Finding(name=SHIPPED, state="damaged", detail=str(error))
    return Finding(name=SHIPPED, state="whole", detail=f"{detail} ({file})")


def check_run(folder: Path) -> Finding:
    """Whether a run is finished, and its last checkpoint is a whole file."""
    state, detail, remedy = judge(folder)
    return Finding(name=str(folder), state=state, detail=detail, next=remedy)


def judge(folder: Path) -> tuple[str, str, str | None]:
    """State, detail and remedy of a run."""
    place = typed(folder)
    resume = f"mtl train --resume {place}"
    try:
        run = Run.read(folder)
    except InputError as error:
        reason = str(error).removeprefix(f"{folder}/")
        if reason.startswith(RESULTS):
            return "damaged", reason, f"mtl eval {place}"
        return "damaged", reason, None if is_whole(newest_file(folder)) else f"rm -r {place}"
    if not run.last.exists():
        return "unfinished", "no checkpoint", resume
    if not is_whole(run.last):
        return "damaged", f"{run.last.name} is cut short", f"rm {typed(run.last)}"
    files = sorted(file for end in CHECKPOINTS for file in folder.glob(f"*{end}"))
    if first := next((file for file in files if not is_sound(file)), None):
        return "damaged", f"{first.name} has bytes that were changed", f"rm {typed(first)}"
    if unreadable := next((lack for lack in run.lacks if str(folder / LOG) in lack), None):
        return "damaged", unreadable.removeprefix(f"{folder}/").rstrip("."), resume
    if not (folder / LOG).exists() and is_packed(folder):
        return "whole", "packed: no log of its training", None
    if not (folder / LOG).exists() and run.record.fingerprint is None:
        return "whole", "no log of its training", None
    detail = f"iteration {run.iteration} of {run.config.iterations}"
    early = run.record.final < run.config.iterations
    detail += ", stopped by --patience" if early else ""
    if not run.is_finished:
        return "unfinished", detail, resume
    if not run.results:
        return "whole", f"{detail}, not scored", f"mtl eval {place}"
    return "whole", detail, None


def advise(
    datasets: tuple[Finding, ...],
    weights: tuple[Finding, ...],
    runs: tuple[Finding, ...],
    free_disk: float,
    free_shared: float | None = None,
) -> list[str]:
    """Commands, the most urgent first."""
    found = [f.next for f in (*datasets, *weights, *runs) if f.next]
    if free_disk < LITTLE_DISK:
        found.insert(0, f"free some disk: {gigabytes(free_disk)} are left")
    if free_shared is not None and free_shared < LITTLE_SHARED:
        found.append(
            f"give {SHARED} {MORE}: {gigabytes(free_shared)} are free, and training prepares "
            "fewer batches in advance"
        )
    if not datasets:
        found += ["mtl demo", "mtl prepare nyud"]
    elif not runs:
        fetching = "" if weights else "   (fetches ImageNet weights; --init random does without)"
        found.append(f"mtl train --dataset {Path(datasets[0].name).stem}{fetching}")
    return found or ["mtl visualize PICTURE"]
