"""Downloads that end in the whole, right file: resumed, retried, mirrored, verified, remembered.

A file grows as NAME.part beside its place; NAME.part.json remembers where it comes from, so that a
cut download goes on (HTTP Range with If-Range) and one that changed on the server starts anew. A
file without a published checksum is trusted the first time; its sha256 goes into the ledger
(`sources.json`) and is demanded ever after.
"""

import http.client
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mtlcli import __version__
from mtlcli.data import mirror
from mtlcli.data.mirror import GDRIVE, MirrorError
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import RunError
from mtlcli.files import checksums, read_json, require_space, size_of, write_json

BLOCK = 1 << 18
Report = Callable[[int], object]


class Bars(Protocol):
    """Shows progress in bytes."""

    def bytes(self, title: str, total: int, done: int = 0) -> AbstractContextManager[Report]:
        """A bar with speed and time left."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, and how often to try again."""

    silence: float = 30.0  # seconds without a byte after which a connection is given up
    attempts: int = 6  # in a row without a new byte, per mirror
    pause: float = 1.0  # seconds before the first repetition, doubled each time
    longest_pause: float = 60.0
    slowest: float = 1024.0  # bytes a second; slower is as good as cut
    slow_for: float = 60.0  # seconds over which that is measured


class DownloadError(RunError):
    """No mirror could give the file."""


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """Fetches files into a folder."""

    folder: Path
    ledger: Path  # sources.json
    bars: Bars
    patience: Patience = field(default_factory=Patience)

    def fetch(self, remote: Remote) -> Path:
        """The file, whole and verified; downloaded only if it is not there already.

        Raises:
            DownloadError: no mirror gave the right file; the message says why for each.
            RunError: not enough space.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / remote.file
        if path.exists():
            self._verify(remote, path)
            return path
        reasons = []
        for url in remote.urls:
            try:
                self._whole_from(remote, url)
            except MirrorError as error:
                reasons.append(f"{mirror.host_of(url)}: {error}")
                continue
            os.replace(self._part(remote), path)
            self._note(remote).unlink(missing_ok=True)
            return path
        raise DownloadError(f"{remote.file} could not be downloaded ({'; '.join(reasons)})")

    def forget(self, remote: Remote) -> None:
        """Delete a file that proved to be damaged, and what the ledger says of it."""
        (self.folder / remote.file).unlink(missing_ok=True)
        ledger = read_json(self.ledger)
        if ledger.pop(remote.file, None):
            write_json(self.ledger, ledger)

    def _part(self, remote: Remote) -> Path:
        return self.folder / f"{remote.file}.part"

    def _note(self, remote: Remote) -> Path:
        return self.folder / f"{remote.file}.part.json"

    def _whole_from(self, remote: Remote, url: str) -> None:
        """The verified part from one mirror; what an earlier run left may prove useless."""
        part = self._part(remote)
        resumed = part.exists()
        if remote.size is not None:
            require_space(self.folder, remote.size - size_of(part))
        self._from_mirror(remote, url)
        try:
            self._verify(remote, part)
        except MirrorError:
            if not resumed:
                raise
            self._from_mirror(remote, url)
            self._verify(remote, part)

    def _from_mirror(self, remote: Remote, url: str) -> None:
        part = self._part(remote)
        if url.startswith(GDRIVE):
            mirror.fetch_from_drive(url.removeprefix(GDRIVE), part)
            with open(part, "rb") as file:
                mirror.require_magic(remote.file, file.read(BLOCK))
            return
        failures, pause = 0, self.patience.pause
        while True:
            before = size_of(part)
            try:
                self._continue(remote, url)
                return
            except mirror.TRANSIENT as error:
                mirror.raise_if_final(error)
                if getattr(error, "code", None) == mirror.NOTHING_MORE:
                    part.unlink(missing_ok=True)
                grown = size_of(part) > before and not isinstance(error, mirror.TooSlow)
                failures = 0 if grown else failures + 1
                pause = self.patience.pause if grown else pause
                enough = 2 if mirror.is_unreachable(error) else self.patience.attempts
                if failures >= min(enough, self.patience.attempts):
                    raise MirrorError(mirror.reason_of(error)) from error
            time.sleep(pause)
            pause = min(pause * 2, self.patience.longest_pause)

    def _continue(self, remote: Remote, url: str) -> None:
        """One connection: append what it gives to the part, from where that stands."""
        part, note = self._part(remote), self._note(remote)
        if size_of(part) and size_of(part) in (remote.size, self._total_noted(remote, url)):
            return
        start, headers = self._resumption(remote, url)
        request = urllib.request.Request(url, headers=headers)
        with mirror.open_url(request, self.patience.silence) as response:
            start = mirror.accepted_start(response, start)
            total = mirror.total_length(response, start)
            mirror.require_file(remote, response, total)
            if start == 0:
                part.unlink(missing_ok=True)
            validator = mirror.validator_of(response.headers)
            write_json(note, {"url": url, "validator": validator, "total": total})
            require_space(self.folder, (total or 0) - start)
            with (
                open(part, "ab") as file,
                self.bars.bytes(f"Downloading {remote.file}", total or 0, start) as bar,
            ):
                self._copy(response, file, remote, bar)
        if total is not None and size_of(part) != total:
            raise http.client.IncompleteRead(b"", total - size_of(part))

    def _total_noted(self, remote: Remote, url: str) -> int | None:
        note = read_json(self._note(remote))
        return note.get("total") if note.get("url") == url else None

    def _resumption(self, remote: Remote, url: str) -> tuple[int, dict[str, str]]:
        """Where to go on and the headers that ask for it; 0 if what is there cannot be used."""
        headers = {"User-Agent": f"mtlcli/{__version__}", "Accept-Encoding": "identity"}
        part, note = self._part(remote), read_json(self._note(remote))
        start = size_of(part)
        validator = note.get("validator") if note.get("url") == url else None
        checked_later = remote.sha256 or remote.md5
        if start == 0 or not (validator or checked_later):
            return 0, headers
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
        return start, headers

    def _copy(self, response: BinaryIO, file: BinaryIO, remote: Remote, bar: Report) -> None:
        if file.tell() == 0:
            head = response.read(64)
            mirror.require_magic(remote.file, head)
            file.write(head)
            bar(len(head))
        since, counted = time.monotonic(), 0
        for block in iter(lambda: response.read1(BLOCK), b""):  # type: ignore[attr-defined]
            file.write(block)
            bar(len(block))
            counted += len(block)
            elapsed = time.monotonic() - since
            if elapsed > self.patience.slow_for:
                if counted < self.patience.slowest * elapsed:
                    raise mirror.TooSlow(f"slower than {self.patience.slowest:g} bytes a second")
                since, counted = time.monotonic(), 0

    def _verify(self, remote: Remote, path: Path) -> None:
        """Compare size and checksum with the published ones, else with those of the first use.

        Raises:
            MirrorError: a fresh download differs; it is deleted.
            DownloadError: a file that was there already differs.
        """
        with self.bars.bytes(f"Checking {remote.file}", size_of(path)) as bar:
            found = checksums(path, bar, with_md5=remote.md5 is not None)
        known = read_json(self.ledger).get(remote.file, {})
        problem = _difference(remote, found, known, self.ledger)
        if not problem:
            self._remember(remote, found, known)
            return
        if path == self._part(remote):
            path.unlink()
            self._note(remote).unlink(missing_ok=True)
            raise MirrorError(problem)
        raise DownloadError(f"{path} is not the right file: {problem}; delete it")

    def _remember(self, remote: Remote, found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        if known:
            return
        entry = dict(found) | {
            "url": read_json(self._note(remote)).get("url", remote.urls[0]),
            "first_used": time.strftime("%Y-%m-%d"),
        }
        write_json(self.ledger, read_json(self.ledger) | {remote.file: entry})


def _difference(
    remote: Remote, found: Mapping[str, Any], known: Mapping[str, Any], ledger: Path
) -> str:
    published = {"size": remote.size, "sha256": remote.sha256, "md5": remote.md5}
    for key, value in published.items():
        if value is None:
            continue
        if not (found[key].startswith(value) if key == "sha256" else found[key] == value):
            return f"its {key} is {found[key]}, expected {value}"
    if not (remote.sha256 or remote.md5) and known and found["sha256"] != known["sha256"]:
        first = f"the one first used on {known['first_used']} had {known['sha256']}"
        return f"its sha256 is {found['sha256']}, {first} (remove it from {ledger} to accept)"
    return ""
