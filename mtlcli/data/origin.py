"""The three places samples come from: a renderer, the user's archive, the publishers' hosts."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mtlcli.data import archive as archives
from mtlcli.data.download import Downloader
from mtlcli.data.progress import Bars
from mtlcli.datasets._dataset import Dataset, Files, Plan, Remote, Sample
from mtlcli.files import read_json

Archives = tuple[Mapping[str, Any], ...]


class Maker(Protocol):
    """What a dataset's module offers: its record, and a plan for the files of an archive."""

    DATASET: Dataset

    def plan(self, files: Files, *, geometry: str | None, limit: int | None) -> Plan:
        """How the archive becomes samples."""
        ...


class Origin(Protocol):
    """Gives a plan, and the record of the archives it is made of."""

    def plan(self, work: Path) -> tuple[Plan, Archives]:
        """Everything known before a sample is read; `work` is a folder for scratch."""
        ...

    def discard(self) -> None:
        """Its files proved damaged: nothing of them may be used again."""

    def finish(self) -> None:
        """The dataset is complete: let go of files nobody asked to keep."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Samples that are computed by the `render` of a dataset's module."""

    module: str
    size: tuple[int, int]
    counts: Mapping[str, int]  # split -> samples
    seed: int

    def plan(self, work: Path) -> tuple[Plan, Archives]:
        """The plan; there is no archive."""
        dataset: Dataset = importlib.import_module(self.module).DATASET
        plan = Plan(
            source="rendered",
            layout="rendered",
            geometry=f"{self.size[0]}x{self.size[1]}, seed {self.seed}",
            ids={s: tuple(f"{i:05d}" for i in range(n)) for s, n in self.counts.items()},
            tasks=dataset.tasks,
            shape=self.size,
            read=partial(_render, self.module, self.size, self.seed),
            provenance=dict.fromkeys(dataset.tasks, "rendered, exact"),
        )
        return plan, ()

    def discard(self) -> None:
        """Nothing was stored."""

    def finish(self) -> None:
        """Nothing was stored."""


def _render(module: str, size: tuple[int, int], seed: int, split: str, index: int) -> Sample:
    return importlib.import_module(module).render(index, split, size, seed)


@dataclass(frozen=True, kw_only=True)
class Given:
    """An archive, or several that belong together, the user already has."""

    maker: Maker
    paths: tuple[Path, ...]
    is_plain: bool = False  # whether archives in a folder are left alone
    geometry: str | None
    limit: int | None
    bars: Bars

    def plan(self, work: Path) -> tuple[Plan, Archives]:
        """Open and hash the archives, and let the dataset recognise them."""
        record = tuple(self._identify(path) for path in self.paths)
        files = open_all(self.paths, work, self.bars, self.is_plain)
        return self.maker.plan(files, geometry=self.geometry, limit=self.limit), record

    def _identify(self, path: Path) -> dict[str, Any]:
        archives.require_there(path)
        with self.bars.bytes(f"Hashing {path.name}", _packed_size(path)) as bar:
            identity = archives.identify(path, bar)
        files = [f for s in self.maker.DATASET.sources.values() for f in s.files]
        known = {f.sha256 for f in files if f.sha256}
        trust = "published" if identity.get("sha256") in known else "none known"
        return identity | {"checksum": trust}

    def discard(self) -> None:
        """The user's files are the user's."""

    def finish(self) -> None:
        """The user's files are the user's."""


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """The files of one source, downloaded first."""

    maker: Maker
    source: str
    geometry: str | None
    limit: int | None
    downloader: Downloader
    keep: bool
    bars: Bars

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """What has to be downloaded."""
        return self.maker.DATASET.sources[self.source].files

    def plan(self, work: Path) -> tuple[Plan, Archives]:
        """Download, verify and open the archives, and let the dataset recognise them."""
        paths = tuple(self.downloader.fetch(remote) for remote in self.remotes)
        files = open_all(paths, work, self.bars)
        plan = self.maker.plan(files, geometry=self.geometry, limit=self.limit)
        return plan, tuple(self._identity(remote) for remote in self.remotes)

    def _identity(self, remote: Remote) -> dict[str, Any]:
        """What the ledger noted when the download was verified."""
        entry = read_json(self.downloader.ledger)[remote.file]
        trust = "published" if remote.is_checked else "first use"
        return {
            "name": remote.file,
            "bytes": entry["size"],
            "sha256": entry["sha256"],
            "checksum": trust,
        }

    def discard(self) -> None:
        """Delete the downloads that have no published checksum, so that they are fetched anew."""
        for remote in self.remotes:
            if not remote.is_checked:
                self.downloader.forget(remote)

    def finish(self) -> None:
        """Delete the downloads unless they are to be kept; the ledger keeps their checksums."""
        for remote in () if self.keep else self.remotes:
            (self.downloader.folder / remote.file).unlink(missing_ok=True)


def open_all(paths: Sequence[Path], work: Path, bars: Bars, is_plain: bool = False) -> Files:
    """One view of the members of several archives; of a plain folder without those in it."""
    opened = []
    for path in paths:
        with bars.bytes(f"Reading {path.name}", _packed_size(path)) as bar:
            opened.append(archives.open_archive(path, work, bar, is_plain))
    return archives.merge(opened)


def _packed_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
