"""One file from one address, over as many connections as it takes (HTTP Range with If-Range)."""

import http.client
import time
import urllib.request
from dataclasses import dataclass
from typing import BinaryIO

from mtlcli import __version__
from mtlcli.data import mirror
from mtlcli.data.mirror import MirrorError
from mtlcli.data.way import BLOCK, Note, Report, Way
from mtlcli.files import require_space


@dataclass(frozen=True, kw_only=True)
class Transfer(Way):
    """Lets the part grow until it is as long as its host says."""

    @property
    def begun(self) -> bool:
        """Whether there are bytes to go on from."""
        return self.part.size > 0

    def discard(self) -> None:
        """Delete the part."""
        self.part.discard()

    def run(self) -> None:
        """See `Way.run`; as long as bytes come, it is asked for the rest."""
        if self.size is not None:
            require_space(self.part.path.parent, self.size - self.part.size)
        failures, pause = 0, self.patience.pause
        while True:
            before = self.part.size
            try:
                self._continue()
                return
            except mirror.TRANSIENT as error:
                mirror.raise_if_final(error)
                if getattr(error, "code", None) == mirror.NOTHING_MORE:
                    self.part.discard()
                grown = self.part.size > before and not isinstance(error, mirror.TooSlow)
                failures = 0 if grown else failures + 1
                pause = self.patience.pause if grown else pause
                enough = 2 if mirror.is_unreachable(error) else self.patience.attempts
                if failures >= min(enough, self.patience.attempts):
                    raise MirrorError(mirror.reason_of(error)) from error
            time.sleep(pause)
            pause = min(pause * 2, self.patience.longest_pause)

    def _continue(self) -> None:
        """One connection: append what it gives to the part, from where that stands."""
        if self.part.is_whole(self.url, self.size):
            return
        asked, headers = self._resumption()
        request = urllib.request.Request(self.url, headers=headers)
        with mirror.open_url(request, self.patience.silence, checked=self.checked) as response:
            start, total = mirror.span_of(response, asked)
            total = self._agree_on_length(start, total)
            mirror.require_file(response, total, self.size, checked=self.checked)
            if start == 0:
                self.part.discard()
            self.part.note(
                self.url, Note(validator=mirror.validator_of(response.headers), total=total)
            )
            require_space(self.part.path.parent, (total or 0) - start)
            title = f"Downloading {self.file}"
            with (
                open(self.part.path, "ab") as file,
                self.bars.bytes(title, total or 0, start) as bar,
            ):
                self._copy(response, file, total, bar)
        if total is not None and self.part.size != total:
            raise http.client.IncompleteRead(b"", total - self.part.size)

    def _agree_on_length(self, start: int, total: int | None) -> int | None:
        """The length that all who said one agree on; a new beginning needs no old agreement."""
        before = self.part.read_note(self.url).total if start else None
        if total is not None and before is not None and total != before:
            self.part.discard()
            raise http.client.HTTPException(f"said {before} bytes before, now {total}")
        return total or before or self.size

    def _resumption(self) -> tuple[int, dict[str, str]]:
        """Where to go on and the headers that ask for it; 0 if what is there cannot be used."""
        headers = {"User-Agent": f"mtlcli/{__version__}", "Accept-Encoding": "identity"}
        start, validator = self.part.size, self.part.read_note(self.url).validator
        if start == 0 or not (validator or self.checked):
            return 0, headers
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
        return start, headers

    def _copy(self, response: BinaryIO, file: BinaryIO, total: int | None, bar: Report) -> None:
        if file.tell() == 0:
            head = response.read(64)
            try:
                mirror.require_magic(self.file, head)
            except MirrorError:
                self.part.discard()
                raise
            file.write(head)
            bar(len(head))
        since, counted = time.monotonic(), 0
        for block in iter(lambda: response.read1(BLOCK), b""):  # type: ignore[attr-defined]
            if total is not None and file.tell() + len(block) > total:
                self.part.discard()
                raise MirrorError(f"sends more than {total} bytes")
            file.write(block)
            bar(len(block))
            counted += len(block)
            elapsed = time.monotonic() - since
            if elapsed > self.patience.slow_for:
                if counted < self.patience.slowest * elapsed:
                    raise mirror.TooSlow(f"slower than {self.patience.slowest:g} bytes a second")
                since, counted = time.monotonic(), 0
