"""One host of a file: asking it for a rest, and telling a file from what hosts send instead."""

import errno
import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from mtlcli.datasets._dataset import Remote

GDRIVE = "gdrive:"
TRANSIENT = (OSError, http.client.HTTPException)  # what a connection may fail with
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
MAGIC = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK", ".mat": b"MATLAB"}
PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
NOTHING_MORE = 416


class MirrorError(Exception):
    """This mirror cannot give the file; try the next."""


class TooSlow(OSError):
    """Bytes come, but so few that the file never would."""


@contextmanager
def open_url(request: urllib.request.Request, timeout: float) -> Iterator[Any]:
    """The response to a request; keeps cookies over redirects, as file shares demand."""
    cookies = urllib.request.HTTPCookieProcessor(CookieJar())
    with urllib.request.build_opener(cookies).open(request, timeout=timeout) as response:
        yield response


def fetch_from_drive(ident: str, part: Path) -> None:
    """A file on Google Drive, through gdown, which knows its pages and resumes.

    Raises:
        MirrorError: gdown is not installed or could not get the file.
    """
    try:
        import gdown
    except ImportError as error:
        raise MirrorError("needs gdown: pip install 'mtlcli[drive]'") from error
    try:
        got = gdown.download(id=ident, output=str(part), resume=True, quiet=False)
    except Exception as error:  # of many kinds, its own and of its libraries
        raise MirrorError(reason_of(error)) from error
    if got is None or not part.exists():
        raise MirrorError("gdown could not get it")


def raise_if_final(error: Exception) -> None:
    """Turn away from a mirror whose answer will not change; pass on failures of the disk."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code < 500 and error.code not in (408, 429, NOTHING_MORE):
            raise MirrorError(f"HTTP {error.code} {error.reason}") from error
    elif isinstance(error, OSError) and (error.filename or error.errno in OF_THE_DISK):
        raise error


def is_unreachable(error: Exception) -> bool:
    """Whether there is no such host, or nobody answers there: asking often does not help."""
    cause = getattr(error, "reason", error)
    return isinstance(cause, socket.gaierror | ConnectionRefusedError) or (
        isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    )


def reason_of(error: Exception) -> str:
    """Why it failed, in one line."""
    cause = getattr(error, "reason", None) or error
    said = str(getattr(cause, "strerror", None) or cause).strip()
    return said.splitlines()[0] if said else type(error).__name__


def accepted_start(response: Any, asked: int) -> int:
    """Where the body begins: a server may ignore Range and send everything.

    Raises:
        MirrorError: it sends another range than asked for.
    """
    if response.status != 206:
        return 0
    span = response.headers.get("Content-Range", "")
    if not span.startswith(f"bytes {asked}-"):
        raise MirrorError(f"answered with the wrong range '{span}'")
    return asked


def total_length(response: Any, start: int) -> int | None:
    """Bytes of the whole file, if the server says."""
    length = response.headers.get("Content-Length")
    return start + int(length) if length and length.isdigit() else None


def require_file(remote: Remote, response: Any, total: int | None) -> None:
    """Check by the headers that this is the file.

    Raises:
        MirrorError: it is a web page, has another size, or an end that cannot be recognised.
    """
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise MirrorError("sends a web page instead of the file")
    if remote.size is not None and total is not None and total != remote.size:
        raise MirrorError(f"offers {total} bytes, expected {remote.size}")
    delimited = total is not None or response.headers.get("Transfer-Encoding") == "chunked"
    if not (delimited or remote.sha256 or remote.md5):
        raise MirrorError("does not say how long the file is")


def require_magic(name: str, head: bytes) -> None:
    """Check by the first bytes that this is the file.

    Raises:
        MirrorError: it is a web page or of another kind.
    """
    if head[:512].lstrip().lower().startswith(PAGE_STARTS):
        raise MirrorError("sends a web page instead of the file")
    ending = Path(name).suffix
    if not head.startswith(MAGIC.get(ending, b"")):
        raise MirrorError(f"sends something that is no {ending} file")


def validator_of(headers: Any) -> str | None:
    """What If-Range may carry: a strong ETag, else the date of change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def host_of(url: str) -> str:
    """The mirror's name."""
    return "Google Drive" if url.startswith(GDRIVE) else url.split("/")[2]
