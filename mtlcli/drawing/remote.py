"""A picture or video from the web: of a public address only, and no larger than is sensible."""

import http.client
import ipaddress
import re
import socket
import ssl
import string
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from tqdm import tqdm

from mtlcli.errors import InputError

LARGEST = 200 * 2**20  # bytes
BLOCK = 2**16
REDIRECTS = 5
PATIENCE = 20.0  # seconds for one answer
LONGEST = 300.0  # seconds for everything
KINDS = ("image/", "video/", "application/octet-stream", "binary/octet-stream")
MOVING = {  # kinds of what has frames, and the suffixes by which it is known as such
    "image/gif": ".gif", "video/mp4": ".mp4", "video/quicktime": ".mov", "video/webm": ".webm",
    "video/x-matroska": ".mkv", "video/x-msvideo": ".avi", "video/mpeg": ".mpg",
    "video/x-ms-wmv": ".wmv", "video/mp2t": ".ts", "video/3gpp": ".3gp", "video/x-m4v": ".m4v",
}  # fmt: skip
MOVED = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # addresses that carry one of IPv4


def is_url(word: str) -> bool:
    """Whether a word is an address rather than a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", word) is not None


def fetch(url: str, folder: Path, *, quiet: bool = True) -> Path:
    """The file behind an address, in `folder`; with a bar of its bytes unless `quiet`.

    Redirects are followed to public addresses only; the connection goes to the very address that
    was looked at, so that a name cannot change its meaning in between.

    Raises:
        InputError: no http or https, a local or private address, no answer, neither picture nor
            video, or too large; one line that names the URL.
    """
    end, here = time.monotonic() + LONGEST, url
    for _ in range(REDIRECTS + 1):
        connection, target = connect(url, here)
        try:
            with ended_at(connection.sock, end):
                connection.request("GET", target, headers={"User-Agent": "mtl", "Accept": "*/*"})
                with connection.getresponse() as answer:
                    place = answer.getheader("Location") if answer.status in MOVED else None
                    if not place:
                        return save(url, here, answer, folder, quiet)
            here = urljoin(here, place)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "too slow" if time.monotonic() >= end else error or type(error).__name__
            raise InputError(f"{url} cannot be fetched: {reason}.") from error
        finally:
            connection.close()
    raise InputError(f"{url} cannot be fetched: more than {REDIRECTS} redirects.")


@contextmanager
def ended_at(wire: socket.socket, end: float) -> Iterator[None]:
    """Hang up at a time, whatever drips through the wire.

    Raises:
        TimeoutError: it was so.
    """
    timer = threading.Timer(end - time.monotonic(), hang_up, (wire,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if time.monotonic() >= end:
        raise TimeoutError


def hang_up(wire: socket.socket) -> None:
    """End what another thread reads."""
    with suppress(OSError):  # it has ended by itself
        wire.shutdown(socket.SHUT_RDWR)


def connect(url: str, here: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the public address of `here`, and what to ask there.

    Raises:
        InputError: it has none, or the scheme is another; says so of `url`.
    """
    try:
        parts = urlsplit(here)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{url} is no address of the web: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{url}: only addresses of http and https are fetched ({here}).")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    addresses = find_addresses(url, host, port or kind.default_port)
    connection = kind(host, port or kind.default_port, timeout=PATIENCE)
    try:
        wire = reach(addresses)
        if secure:
            wire = ssl.create_default_context().wrap_socket(wire, server_hostname=host)
        connection.sock = wire
    except (OSError, ValueError) as error:
        raise InputError(f"{url} cannot be fetched: {error}.") from error
    asked = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return connection, quote(asked, safe=string.punctuation)


def reach(addresses: list[tuple[str, int]]) -> socket.socket:
    """A connection to the first address that answers (raises OSError: none does)."""
    *others, last = addresses
    for address in others:
        with suppress(OSError):
            return socket.create_connection(address, PATIENCE)
    return socket.create_connection(last, PATIENCE)


def find_addresses(url: str, host: str, port: int) -> list[tuple[str, int]]:
    """The addresses of a host, if all are public.

    Raises:
        InputError: it has none, or a local or private one.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{url} cannot be fetched: there is no host {host}.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not all(map(is_public, addresses)):
        raise InputError(f"{url} is not fetched: {host} is a local or private address.")
    return [(address, port) for address in addresses]


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet; one that carries another does if that
    does.
    """
    its = ipaddress.ip_address(address.split("%")[0])
    if isinstance(its, ipaddress.IPv6Address):
        carried = ipaddress.IPv4Address(its.packed[-4:]) if its in NAT64 else None
        if inner := its.ipv4_mapped or its.sixtofour or carried:
            return is_public(str(inner))
        if its.is_site_local:
            return False
    return its.is_global and not (its.is_multicast or its.is_reserved)


def save(url: str, here: str, answer: http.client.HTTPResponse, folder: Path, quiet: bool) -> Path:
    """Write an answer's body as a file of the name in the URL, and of the kind it is said to be.

    Raises:
        InputError: it is no picture or video, or too large.
    """
    kind = (answer.getheader("Content-Type") or KINDS[2]).split(";")[0].strip().lower()
    if answer.status != 200:
        raise InputError(f"{url} cannot be fetched: {answer.status} {answer.reason}.")
    if not kind.startswith(KINDS):
        raise InputError(f"{url} is neither picture nor video, but {kind}.")
    name = Path(unquote(urlsplit(here).path)).name or "picture"
    path = folder / (re.sub(r"[^\w.-]", "_", Path(name).stem)[:80] + suffix_of(name, kind))
    length = answer.getheader("Content-Length") or "0"
    size = int(length) if length.isdigit() else 0
    bar = tqdm(
        desc=path.name,
        total=size or None,
        unit="B",
        unit_scale=True,
        delay=1,
        disable=True if quiet else None,
    )
    with path.open("wb") as file, bar:
        while size <= LARGEST and (block := answer.read1(BLOCK)):
            bar.update(file.write(block))
            size = max(size, file.tell())
    if size > LARGEST:
        raise InputError(f"{url} is too large: more than {LARGEST // 2**20} MB.")
    if length.isdigit() and path.stat().st_size < int(length):
        raise InputError(f"{url} ended early; try again.")
    return path


def suffix_of(name: str, kind: str) -> str:
    """That of the name, unless it speaks of frames and the kind (a Content-Type) does not, or the
    other way round.
    """
    own = Path(name).suffix
    moves = kind in MOVING or kind.startswith("video/")
    if own and (kind.endswith("octet-stream") or moves == (own.lower() in MOVING.values())):
        return own
    usual = ".mp4" if moves else "." + kind.split("/")[1].split("+")[0].replace("jpeg", "jpg")
    return MOVING.get(kind, usual)
