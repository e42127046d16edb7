"""`mtl prepare`: from downloads, an archive or a renderer to one complete dataset file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlcli import __version__, lookup
from mtlcli.data.convert import Seen, convert
from mtlcli.data.download import Downloader, DownloadError
from mtlcli.data.hdf5 import IMAGE, Info, keys_of, read_info
from mtlcli.data.mirror import link_of
from mtlcli.data.origin import Archives, Given, Hosted, Origin, Rendered
from mtlcli.data.progress import Bars
from mtlcli.data.workplace import (
    claim,
    clear_errors,
    discard_all,
    discard_drafts,
    discard_leftover,
    place_of,
    require_replaceable,
)
from mtlcli.datasets._dataset import Dataset, Plan, require_sound_ids
from mtlcli.datasets._folder import FolderDataset
from mtlcli.errors import InputError, RunError
from mtlcli.files import require_space
from mtlcli.home import available_cores, datasets_dir
from mtlcli.maps._map import Map
from mtlcli.maps._picture import LARGEST

MOST_SAMPLES = 10_000_000  # of a split
YAML = (".yaml", ".yml")
RECIPE = "recipe"  # the field of `Request` that is no option


def prepare(
    name: str,
    *,
    source: str | None = None,
    archive: Path | Sequence[Path] | None = None,
    geometry: str | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
    train: int | None = None,
    val: int | None = None,
    seed: int | None = None,
    out: Path | None = None,
    download_dir: Path | None = None,
    keep: bool = False,
    force: bool = False,
    workers: int | None = None,
    quiet: bool = False,
) -> Path:
    """Make a dataset file and return its path; after a kill it begins anew, but for downloads.

    Args:
        name: a dataset of the program, or a YAML file that describes a folder of pictures.
        source: download from this source only (nyud: atrc, mti, official; pascal: bundle,
            official).
        archive: what the user has: tar, tar.gz, zip, folder or .mat; its layout is recognised.
        geometry: "425x560" or "480x640" (nyud).
        limit: only the first so many samples of each split.
        size, train, val, seed: height and width, numbers of samples, seed (rendered datasets).
        out: the file to write instead of datasets/NAME.h5; a link is followed.
        download_dir: where downloads go (and stay) instead of datasets/downloads.
        keep: keep the downloads.
        force: replace a file that was made with other options, or is no dataset file of mtl.
        workers: processes; default one per core.

    Raises:
        InputError: unknown name, unusable archive or options; a file made with other options,
            or something of the user's, stands where the dataset or its work folder is to be.
        RunError: nothing could be downloaded, no space, no permission.
    """
    maker = FolderDataset.load(Path(name)) if name.endswith(YAML) else lookup.load("datasets", name)
    paths = (archive,) if isinstance(archive, Path) else tuple(archive or ())
    asked = Request(
        source=source,
        archive=", ".join(p.name for p in paths) or None,
        geometry=geometry,
        limit=limit,
        size=size,
        train=train,
        val=val,
        seed=seed,
        recipe=maker.digest if isinstance(maker, FolderDataset) else None,
    )
    _require_sense(asked, name, maker)
    name = maker.name if isinstance(maker, FolderDataset) else name
    bars = Bars(quiet)
    out = datasets_dir() / f"{name}.h5" if out is None else out
    with clear_errors(out):
        out = place_of(out)
        work = out.with_name(out.name + ".work")
        require_replaceable(out, force=force)
        if not force and _already_made(out, asked, _defaults(maker)):
            discard_leftover(work)
            bars.say(f"{out} is complete already.")
            return out
    downloader = Downloader(
        folder=download_dir or datasets_dir() / "downloads",
        ledger=datasets_dir() / "sources.json",
        bars=bars,
    )
    keep = keep or download_dir is not None
    origins = _origins(maker, asked, paths, downloader, keep, bars)
    with clear_errors(out), claim(work):
        job = _Job(name, maker.DATASET, asked, out, work, workers or available_cores(), bars)
        try:
            job.run(origins)
        except InputError:  # what is there is of no use
            discard_all(work)
            raise
        discard_all(work)
    return out


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options that decide what the file holds."""

    source: str | None = None
    archive: str | None = None  # names of files or folders
    geometry: str | None = None
    limit: int | None = None
    size: tuple[int, int] | None = None
    train: int | None = None
    val: int | None = None
    seed: int | None = None
    recipe: str | None = None  # digest of a `FolderDataset`

    def given(self) -> dict[str, Any]:
        """The options that were given."""
        return {k: v for k, v in asdict(self).items() if v is not None}


def _require_sense(asked: Request, name: str, maker: Any) -> None:
    for option in ("limit", "train", "val"):
        value = getattr(asked, option)
        if value is not None and not 1 <= value <= MOST_SAMPLES:
            raise InputError(f"--{option} must be 1 to {MOST_SAMPLES}, not {value}.")
    if asked.size is not None and (min(asked.size) < 16 or asked.size[0] * asked.size[1] > LARGEST):
        raise InputError(
            f"--size {asked.size[0]} {asked.size[1]}: at least 16 pixels each, at most "
            f"{LARGEST // 10**6} megapixels."
        )
    if asked.seed is not None and asked.seed < 0:
        raise InputError(f"--seed must not be negative, not {asked.seed}.")
    sources = maker.DATASET.sources
    if asked.source is not None and sources and asked.source not in sources:
        raise InputError(f"'{name}' has no source '{asked.source}'; it has {', '.join(sources)}.")
    if asked.source is not None and asked.archive is not None:
        raise InputError("--source downloads, --archive does not: give one of them.")
    for option in _foreign(maker):
        if getattr(asked, option) is not None:
            raise InputError(f"--{option} does not apply to '{name}'.")


def _foreign(maker: Any) -> tuple[str, ...]:
    """Options that mean nothing to this kind of dataset."""
    if isinstance(maker, FolderDataset):
        return ("source", "archive", "geometry", "size", "train", "val", "seed")
    if hasattr(maker, "render"):
        return ("source", "archive", "geometry")
    return ("size", "train", "val", "seed")


def _already_made(out: Path, asked: Request, defaults: dict[str, Any]) -> bool:
    """Whether `out` is complete and was made as asked now; an option left out is its default.

    Raises:
        InputError: it is a complete dataset made with other options.
    """
    try:
        info = read_info(out)
    except InputError:
        return False
    made = {"source": info.source, **(info.request or {})}
    given = asked.given()
    free = {"source", "archive", "geometry"} - given.keys()  # not asked for: any will do
    if defaults | {k: v for k, v in made.items() if k not in free} == defaults | given:
        return True
    said = [f"--{k} {_words(v)}" for k, v in (info.request or {}).items() if k != RECIPE]
    how = "with " + (" ".join(said) or "default options")
    if info.request and info.request.get(RECIPE) != asked.recipe:
        how = "of another description, or of lists or files that have changed since"
    raise InputError(f"{out} was made {how}; pass --force to replace it, or --out FILE to keep it.")


def _defaults(maker: Any) -> dict[str, Any]:
    """The options of a rendered dataset that need not be given."""
    if not hasattr(maker, "render"):
        return {}
    return {"size": maker.DATASET.size, **maker.DATASET.splits, "seed": 0}


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _origins(
    maker: Any,
    asked: Request,
    paths: tuple[Path, ...],
    downloader: Downloader,
    keep: bool,
    bars: Bars,
) -> list[Origin]:
    """Where to get it from, in order of preference."""
    dataset: Dataset = maker.DATASET
    common = {"maker": maker, "geometry": asked.geometry, "limit": asked.limit, "bars": bars}
    if hasattr(maker, "render"):
        full = _defaults(maker) | asked.given()
        counts = {s: min(full[s], asked.limit or full[s]) for s in dataset.splits}
        return [
            Rendered(module=maker.__name__, size=full["size"], counts=counts, seed=full["seed"])
        ]
    if isinstance(maker, FolderDataset):
        return [Given(paths=(maker.root,), is_plain=True, **common)]
    if paths:
        return [Given(paths=paths, **common)]
    names = [asked.source] if asked.source else dataset.sources
    return [Hosted(source=n, downloader=downloader, keep=keep, **common) for n in names]


@dataclass(frozen=True)
class _Job:
    """One dataset file to be made."""

    name: str
    dataset: Dataset
    asked: Request
    out: Path
    work: Path
    workers: int
    bars: Bars

    def run(self, origins: list[Origin]) -> None:
        """Make it of the first origin that gives whole and sound files."""
        reasons: list[str] = []
        for origin, after in zip(origins, [*origins[1:], None]):
            try:
                self._convert(origin)
                origin.finish()
                for reason in reasons:
                    self.bars.say(f"Not from {reason}.")
                return
            except (DownloadError, InputError) as error:
                if isinstance(error, InputError):
                    origin.discard()
                if not isinstance(origin, Hosted):
                    raise
                reasons.append(f"{origin.source}: {str(error).rstrip('.')}")
                if isinstance(after, Hosted):
                    self.bars.say(f"Source {origin.source} failed; trying {after.source}.")
        raise RunError(self._by_hand(origins, reasons))

    def _convert(self, origin: Origin) -> None:
        plan, made_of = origin.plan(self.work)
        require_sound_ids(self.name, plan.ids, apart=plan.source != "rendered")
        info = make_info(self.name, self.dataset, plan, made_of, self.asked)
        discard_drafts(self.work)
        require_space(self.out.parent, _bytes_needed(plan, info))
        total = sum(len(ids) for ids in plan.ids.values())
        with self.bars.samples(f"Converting {self.name}", total) as bar:
            tallies = convert(plan, info, self.work, self.out, self.workers, bar)
        for split, tally in tallies.items():
            if dim := tally[IMAGE].dim:
                said = "16 bits and nothing above 4095, so taken for 12 bits"
                self.bars.warn(f"{split}: {said}: {dim} pictures.")
            for task in info.tasks:
                seen = tally[task]
                if said := describe_lack(seen, info.map(task), plan.source):
                    where = f"{split}: {task} ({plan.provenance.get(task, plan.source)})"
                    self.bars.warn(f"{where}: {said}")

    def _by_hand(self, origins: list[Origin], reasons: list[str]) -> str:
        """What failed, a line a source, and what the user can do, a line a link."""
        links = [
            f"{origin.source}: {remote.file} from {link_of(remote.urls[0])}"
            for origin in origins
            if isinstance(origin, Hosted)
            for remote in origin.remotes
        ]
        return "\n".join(
            [
                f"No source of '{self.name}' could be had:",
                *(f"  {reason}" for reason in reasons),
                "Download by hand what one of them needs:",
                *(f"  {link}" for link in links),
                f"and run: mtl prepare {self.name} --archive PATH",
            ]
        )


def describe_lack(seen: Seen, its: Map, source: str) -> str:
    """What is odd about the labels of a task in a split, "" if nothing is."""
    if not seen.labelled:
        return "no picture has a label."
    if its.is_binary and not seen.positive:
        return "not one pixel is set in any picture; is it white on black?"
    if source == "folder" and seen.labelled < seen.pixels:
        return f"{1 - seen.labelled / seen.pixels:.2%} of the pixels have no label."
    return ""


def make_info(name: str, dataset: Dataset, plan: Plan, made_of: Archives, asked: Request) -> Info:
    """The record that goes into the file."""
    kept = set(plan.tasks)
    rendered = plan.source == "rendered"
    given = {k: v for k, v in asked.given().items() if k != "source"}
    return Info(
        name=name,
        title=dataset.title,
        size=plan.shape if rendered and plan.shape else dataset.size,
        tasks=plan.tasks,
        truths=plan.truths,
        kinds={t: k for t, k in dataset.kinds.items() if t in kept.union(plan.truths)},
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
        request=given,
        terms=dataset.terms,
        tool=f"mtlcli {__version__}",
    )


def _bytes_needed(plan: Plan, info: Info) -> int:
    """Of the file, where all samples have one size; else not known before."""
    if plan.shape is None:
        return 0
    sample = sum(int(np.prod(info.sample_shape(k))) * info.dtype(k).itemsize for k in keys_of(info))
    return sample * sum(len(ids) for ids in plan.ids.values())
