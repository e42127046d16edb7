"""One host of a file: asking it for a rest, and telling a file from what hosts send instead."""

import errno
import http.client
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GDRIVE, ZIPPED = "gdrive:", "zip:"  # how an address begins that is more than a link to the file
TRANSIENT = (OSError, http.client.HTTPException, ValueError)  # what a connection may fail with,
# the last where a piece says that it has less than no bytes
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
MAGIC = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK", ".mat": b"MATLAB"}
PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
NOTHING_MORE = 416
RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
LENGTH = re.compile(r"[0-9]{1,18}")


class MirrorError(Exception):
    """This mirror cannot give the file; try the next."""


class WrongContent(MirrorError):
    """All of it came and it is another file; where a rest was asked for, that may be the reason."""


class TooSlow(OSError):
    """Bytes come, but so few that the file never would."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to HTTP only, and from https to http only where a checksum is published."""

    def __init__(self, checked: bool) -> None:
        self.checked = checked

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The next request (raises MirrorError where it must not be sent)."""
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https"):
            raise MirrorError(f"leads to {after}:, which is not followed")
        if (before, after) == ("https", "http") and not self.checked:
            raise MirrorError("leads from https to http, and no checksum is published")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def open_url(
    request: urllib.request.Request, timeout: float, *, checked: bool = False
) -> Iterator[Any]:
    """The response to a request; keeps cookies over redirects, as file shares demand.

    Args:
        request: what to ask.
        timeout: seconds without a byte.
        checked: whether a published checksum will tell a forged file.

    Raises:
        MirrorError: it leads to an address that is none, or to one that is not followed.
    """
    cookies = urllib.request.HTTPCookieProcessor(CookieJar())
    opener = urllib.request.build_opener(cookies, _Redirects(checked))
    try:
        response = opener.open(request, timeout=timeout)
    except (ValueError, http.client.InvalidURL) as error:
        raise MirrorError(f"leads to an address that is none ({reason_of(error)})") from error
    with response:
        yield response


def raise_if_final(error: Exception) -> None:
    """Turn away from a mirror whose answer will not change; pass on failures of the disk."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code < 500 and error.code not in (408, 429, NOTHING_MORE):
            raise MirrorError(f"HTTP {error.code} {reason_of(error)}") from error
    else:
        raise_if_of_the_disk(error)


def raise_if_of_the_disk(error: Exception) -> None:
    """Pass on what is no fault of the mirror."""
    if isinstance(error, OSError) and (error.filename or error.errno in OF_THE_DISK):
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


def span_of(response: Any, asked: int) -> tuple[int, int | None]:
    """Where the body begins, and the bytes of the whole file if the host says.

    A host may ignore Range and send everything, or send less of the rest than was asked for.

    Raises:
        MirrorError: it sends another range than asked for, or contradicts itself.
    """
    length = _content_length(response.headers)
    if response.status != 206:
        return 0, length
    said = response.headers.get("Content-Range", "")
    span = RANGE.fullmatch(said.strip())
    if span is None or int(span[1]) != asked or int(span[2]) < asked:
        raise MirrorError(f"answered with the wrong range '{said}'")
    last, total = int(span[2]), None if span[3] == "*" else int(span[3])
    if (total is not None and last >= total) or length not in (None, last + 1 - asked):
        raise MirrorError(f"contradicts itself: range '{said}', length {length}")
    return asked, total


def _content_length(headers: Any) -> int | None:
    said = {v.strip() for line in headers.get_all("Content-Length", []) for v in line.split(",")}
    if len(said) > 1:
        raise MirrorError(f"contradicts itself: lengths {' and '.join(sorted(said))}")
    length = said.pop() if said else ""
    return int(length) if LENGTH.fullmatch(length) else None


def require_file(
    response: Any, total: int | None, expected: int | None, *, checked: bool = False
) -> None:
    """Check by the headers that this is the file.

    Args:
        response: what the host answered.
        total: bytes of the whole file, as far as known.
        expected: bytes that are published, if they are.
        checked: whether a published checksum will tell whether all came.

    Raises:
        MirrorError: it is a web page, has another size, or an end that cannot be recognised.
    """
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise MirrorError("sends a web page instead of the file")
    if expected is not None and total is not None and total != expected:
        raise MirrorError(f"offers {total} bytes, expected {expected}")
    chunked = response.status != 206 and response.headers.get("Transfer-Encoding") == "chunked"
    if total is None and not (chunked or checked):
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


def kind_of(url: str) -> str:
    """How an address begins that is more than a link; "" for a link."""
    return next((kind for kind in (GDRIVE, ZIPPED) if url.startswith(kind)), "")


def host_of(url: str) -> str:
    """The mirror's name."""
    return "Google Drive" if url.startswith(GDRIVE) else urlsplit(link_of(url)).netloc


def link_of(url: str) -> str:
    """A link to open in a browser."""
    if url.startswith(GDRIVE):
        return f"https://drive.google.com/uc?id={url.removeprefix(GDRIVE)}"
    return url.removeprefix(ZIPPED)
