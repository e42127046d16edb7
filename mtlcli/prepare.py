"""`mtl prepare`: from downloads, an archive or a renderer to one complete dataset file."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from mtlcli import __version__, lookup
from mtlcli.config import datasets_dir
from mtlcli.data import archive as archives
from mtlcli.data.convert import convert
from mtlcli.data.hdf5 import Info, read_info
from mtlcli.datasets._dataset import Dataset, Files, Plan, Sample
from mtlcli.errors import InputError, RunError


def prepare(
    name: str,
    *,
    archive: Path | None = None,
    geometry: str | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
    train: int | None = None,
    val: int | None = None,
    seed: int | None = None,
    out: Path | None = None,
    force: bool = False,
    workers: int | None = None,
    quiet: bool = False,
) -> Path:
    """Make the dataset file `name`; returns its path. Goes on where a killed run stopped.

    Args:
        archive: what the user has: tar, tar.gz, zip, folder or .mat; its layout is recognised.
        geometry: "425x560" or "480x640" (nyud).
        limit: only the first so many samples of each split.
        size, train, val, seed: height and width, numbers of samples, seed (rendered datasets).
        out: the file to write instead of datasets/NAME.h5.
        force: replace a file that was made with other options.
        workers: processes; default one per core.

    Raises:
        InputError: unknown name, unusable archive or options, a file made with other options.
        RunError: no space, no permission.
    """
    request = Request(
        archive=archive.name if archive else None, geometry=geometry, limit=limit,
        size=size, train=train, val=val, seed=seed,
    )  # fmt: skip
    module = lookup.load("datasets", name)
    _require_sense(request, name, module)
    out = out or datasets_dir() / f"{name}.h5"
    work = out.with_name(out.name + ".work")
    if not force and _already_made(out, request):
        shutil.rmtree(work, ignore_errors=True)
        return out
    bars = Bars(quiet)
    with _clear_errors(out), _claimed(work):
        origin = Origin(request, module, bars)
        plan, made_of = origin.rendered() if archive is None else origin.archived(archive, work)
        info = _info(name, module.DATASET, plan, made_of, request)
        _discard_other(work, info)
        total = sum(len(ids) for ids in plan.ids.values())
        with bars.count(f"Converting {name}", total) as bar:
            convert(plan, info, work, out, workers or os.cpu_count() or 1, bar)
    shutil.rmtree(work, ignore_errors=True)
    return out


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options that decide what the file holds."""

    archive: str | None = None  # file or folder name
    geometry: str | None = None
    limit: int | None = None
    size: tuple[int, int] | None = None
    train: int | None = None
    val: int | None = None
    seed: int | None = None


def _require_sense(request: Request, name: str, module: ModuleType) -> None:
    for option in ("limit", "train", "val"):
        value = getattr(request, option)
        if value is not None and value < 1:
            raise InputError(f"--{option} must be at least 1, not {value}.")
    if request.size is not None and min(request.size) < 16:
        raise InputError(f"--size {request.size[0]} {request.size[1]}: at least 16 pixels each.")
    if request.seed is not None and request.seed < 0:
        raise InputError(f"--seed must not be negative, not {request.seed}.")
    rendered = hasattr(module, "render")
    foreign = ("archive", "geometry") if rendered else ("size", "train", "val", "seed")
    for option in foreign:
        if getattr(request, option) is not None:
            reason = "is rendered" if rendered else "comes from an archive"
            raise InputError(f"--{option} does not apply to '{name}', which {reason}.")


def _already_made(out: Path, request: Request) -> bool:
    """Whether `out` is complete and was made as requested now.

    Raises:
        InputError: it is a complete dataset made with other options.
    """
    try:
        made = read_info(out).request
    except InputError:
        return False
    asked = {k: v for k, v in asdict(request).items() if v is not None}
    if made == asked or not asked:
        return True
    said = " ".join(f"--{k} {_words(v)}" for k, v in made.items()) or "no options"
    raise InputError(f"{out} was made with {said}; pass --force to replace it.")


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass
class Origin:
    """Where samples come from, by the options given."""

    request: Request
    module: ModuleType
    bars: "Bars"

    def rendered(self) -> tuple[Plan, tuple[Mapping[str, Any], ...]]:
        """The plan of a dataset that is computed, not downloaded."""
        dataset, asked = self.module.DATASET, self.request
        if not hasattr(self.module, "render"):
            raise InputError("pass --archive PATH: the tar, zip or folder you have.")
        size, seed = asked.size or dataset.size, asked.seed or 0
        counts = {s: getattr(asked, s) or n for s, n in dataset.splits.items()}
        ids = {s: tuple(f"{i:05d}" for i in range(n))[: asked.limit] for s, n in counts.items()}
        plan = Plan(
            source="rendered",
            layout="rendered",
            geometry=f"{size[0]}x{size[1]}, seed {seed}",
            ids=ids,
            tasks=dataset.tasks,
            shape=size,
            read=partial(_render, self.module.__name__, size, seed),
            provenance=dict.fromkeys(dataset.tasks, "rendered, exact"),
        )
        return plan, ()

    def archived(self, path: Path, work: Path) -> tuple[Plan, tuple[Mapping[str, Any], ...]]:
        """The plan of a dataset that lies in an archive."""
        if not path.exists():
            raise InputError(f"There is nothing at --archive {path}; check the path.")
        size = 0 if path.is_dir() else path.stat().st_size
        with self.bars.bytes(f"Hashing {path.name}", size) as bar:
            identity = archives.identify(path, bar)
        with self.bars.bytes(f"Reading {path.name}", size) as bar:
            files: Files = archives.open_archive(path, work, bar)
        asked = self.request
        return self.module.plan(files, geometry=asked.geometry, limit=asked.limit), (identity,)


def _render(module: str, size: tuple[int, int], seed: int, split: str, index: int) -> Sample:
    import importlib

    return importlib.import_module(module).render(index, split, size, seed)


def _info(
    name: str,
    dataset: Dataset,
    plan: Plan,
    made_of: tuple[Mapping[str, Any], ...],
    request: Request,
) -> Info:
    kept = set(plan.tasks)
    rendered = plan.source == "rendered"
    return Info(
        name=name,
        title=dataset.title,
        size=plan.shape if rendered and plan.shape else dataset.size,
        tasks=plan.tasks,
        classes={t: c for t, c in dataset.classes.items() if t in kept},
        palettes={t: p for t, p in dataset.palettes.items() if t in kept},
        options={t: o for t, o in dataset.options.items() if t in kept},
        expected={s: len(i) for s, i in plan.ids.items()} if rendered else dataset.splits,
        shape=plan.shape,
        vector_normals=plan.vector_normals,
        geometry=plan.geometry,
        source=plan.source,
        layout=plan.layout,
        archives=made_of,
        provenance=plan.provenance,
        derived=plan.derived,
        request={k: v for k, v in asdict(request).items() if v is not None},
        terms=dataset.terms,
        tool=f"mtlcli {__version__}",
    )


def _discard_other(work: Path, info: Info) -> None:
    """Empty the work folder of conversions other than this one; an inflated archive may stay."""
    mark, text = work / "info.json", json.dumps(asdict(info), sort_keys=True)
    if mark.exists() and mark.read_text() == text:
        return
    for path in work.iterdir():
        if not path.name.startswith(("inflated-", "lock")):
            path.unlink()
    draft = work / "info.draft"
    draft.write_text(text)
    os.replace(draft, mark)


@contextlib.contextmanager
def _claimed(work: Path) -> Iterator[None]:
    """Hold the work folder; a second `mtl prepare` of the same file is turned away."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        try:
            _lock(lock.fileno())
        except OSError as error:
            raise InputError(
                f"Another `mtl prepare` is at work in {work}; wait for it to end."
            ) from error
        yield


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # not a Unix system: no lock
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def _clear_errors(out: Path) -> Iterator[None]:
    """Failures of the disk as one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"No space left on the disk of {out.parent}; free some and run the command "
                "again, it goes on where it stopped."
            ) from error
        raise RunError(f"{error.strerror or error}: {error.filename or out}.") from error


@dataclass(frozen=True)
class Bars:
    """Progress bars on stderr, silent when quiet or not on a terminal."""

    quiet: bool

    @contextlib.contextmanager
    def count(self, title: str, total: int) -> Iterator[Callable[[int], object]]:
        """Counts samples."""
        with tqdm(total=total, desc=title, unit="img", disable=self.quiet or None) as bar:
            yield bar.update

    @contextlib.contextmanager
    def bytes(self, title: str, total: int) -> Iterator[Callable[[int], object]]:
        """Counts bytes."""
        with tqdm(
            total=total, desc=title, unit="B", unit_scale=True, disable=self.quiet or None
        ) as bar:
            yield bar.update
