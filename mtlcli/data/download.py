"""Downloads that end in the whole, right file: resumed, retried, mirrored, verified, remembered.

A file grows as NAME.part beside its place; NAME.part.json remembers where it comes from, so that a
cut download goes on (HTTP Range with If-Range) and one that changed on the server starts anew. A
file without a published checksum is trusted the first time; its sha256 goes into the ledger
(`sources.json`) and is demanded ever after.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlcli.data import mirror
from mtlcli.data.drive import Drive
from mtlcli.data.mirror import MirrorError, WrongContent
from mtlcli.data.packed import Zipped
from mtlcli.data.transfer import Transfer
from mtlcli.data.way import Bars, Part, Patience, Way
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import RunError
from mtlcli.files import NoSpace, checksums, read_json, size_of, write_json


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
            NoSpace: for the published size, or for what every mirror says of it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / remote.file
        if path.exists():
            self._verify(remote, path)
            return path
        reasons, lacking = [], []
        for url in remote.urls:
            try:
                self._whole_from(remote, url)
            except (MirrorError, NoSpace) as error:
                if isinstance(error, NoSpace):  # where no size is published, one host's word
                    lacking.append(error)
                if lacking and (remote.size is not None or len(lacking) == len(remote.urls)):
                    raise
                reasons.append(f"{mirror.host_of(url)}: {error}")
                continue
            self._part(remote).become(path)
            for way in self._ways(remote):
                way.discard()
            return path
        raise DownloadError(f"{remote.file} could not be downloaded ({'; '.join(reasons)})")

    def forget(self, remote: Remote) -> None:
        """Delete a file that proved to be damaged, and what the ledger says of it."""
        (self.folder / remote.file).unlink(missing_ok=True)
        ledger = read_json(self.ledger)
        if ledger.pop(remote.file, None):
            write_json(self.ledger, ledger)

    def _part(self, remote: Remote) -> Part:
        return Part.of(self.folder, remote.file)

    def _ways(self, remote: Remote) -> list[Way]:
        return [self._way(remote, url) for url in remote.urls]

    def _way(self, remote: Remote, url: str) -> Way:
        kind = {mirror.GDRIVE: Drive, mirror.ZIPPED: Zipped}.get(mirror.kind_of(url), Transfer)
        return kind(
            file=remote.file,
            url=url,
            part=self._part(remote),
            size=remote.size,
            checked=remote.is_checked,
            bars=self.bars,
            patience=self.patience,
        )

    def _whole_from(self, remote: Remote, url: str) -> None:
        """The verified part from one mirror; what an earlier run left may prove useless."""
        way = self._way(remote, url)
        begun = way.begun
        try:
            self._try(remote, way)
        except WrongContent:
            if not begun:
                raise
            self._try(remote, way)

    def _try(self, remote: Remote, way: Way) -> None:
        try:
            way.run()
            found = self._checksums(remote, way.part.path)
            if problem := _difference(remote, found, self._recall(remote), self.ledger):
                raise WrongContent(problem)
        except WrongContent:
            way.discard()
            way.part.discard()
            raise
        self._remember(remote, found, way.url)

    def _verify(self, remote: Remote, path: Path) -> None:
        """Compare a file that was there already with what is published, else with its first use.

        Raises:
            DownloadError: it differs.
        """
        found = self._checksums(remote, path)
        if problem := _difference(remote, found, self._recall(remote), self.ledger):
            raise DownloadError(f"{path} is not the right file: {problem}; delete it")
        self._remember(remote, found, remote.urls[0])

    def _checksums(self, remote: Remote, path: Path) -> dict[str, Any]:
        with self.bars.bytes(f"Checking {remote.file}", size_of(path)) as bar:
            return checksums(path, bar, with_md5=remote.md5 is not None)

    def _recall(self, remote: Remote) -> dict[str, Any]:
        """What the ledger says of the file; an entry that cannot be understood counts as none."""
        entry: Any = read_json(self.ledger).get(remote.file)
        if is_entry(entry):
            return dict(entry)
        if problem := find_problem(self.ledger):
            print(f"mtl: {self.ledger}: {problem}; this counts as none.", file=sys.stderr)
        return {}

    def _remember(self, remote: Remote, found: Mapping[str, Any], url: str) -> None:
        if self._recall(remote):
            return
        entry = {**found, "url": url, "first_used": time.strftime("%Y-%m-%d")}
        if find_problem(self.ledger) and not read_json(self.ledger):  # what it said may be wanted
            self.ledger.replace(self.ledger.with_suffix(".damaged"))
        write_json(self.ledger, read_json(self.ledger) | {remote.file: entry})


def is_entry(entry: Any) -> bool:
    """Whether the ledger's word on a file can be understood."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("size")) is int
    )


def find_problem(ledger: Path) -> str:
    """Why a ledger cannot be read in full, "" if it can or is not there."""
    if not ledger.exists():
        return ""
    if not ledger.is_file():
        return "it is no regular file"
    try:
        record = json.loads(ledger.read_text())
    except (OSError, ValueError, RecursionError):
        return "it is damaged"
    entries = record.items() if isinstance(record, dict) else [("all of it", None)]
    bad = next((name for name, entry in entries if not is_entry(entry)), None)
    return f"'{bad}' has no readable size and sha256" if bad else ""


def _difference(
    remote: Remote, found: Mapping[str, Any], known: Mapping[str, Any], ledger: Path
) -> str:
    published = {"size": remote.size, "sha256": remote.sha256, "md5": remote.md5}
    for key, value in published.items():
        if value is None:
            continue
        if not (found[key].startswith(value) if key == "sha256" else found[key] == value):
            return f"its {key} is {found[key]}, expected {value}"
    if not remote.is_checked and known and found["sha256"] != known["sha256"]:
        day = known.get("first_used", "an earlier day")
        first = f"the one first used on {day} had {known['sha256']}"
        return f"its sha256 is {found['sha256']}, {first} (remove it from {ledger} to accept)"
    return ""
