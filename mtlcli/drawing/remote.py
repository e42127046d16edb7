"""A picture or video from the web: of a public address only, and no larger than is sensible."""

import http.client
import ipaddress
import re
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from mtlcli.errors import InputError

LARGEST = 200 * 2**20  # bytes
BLOCK = 2**16
REDIRECTS = 5
PATIENCE = 20.0  # seconds for one answer
LONGEST = 300.0  # seconds for everything
KINDS = ("image/", "video/", "application/octet-stream", "binary/octet-stream")
MOVED = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # addresses that end in one of IPv4


def is_url(word: str) -> bool:
    """Whether a word is an address rather than a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", word) is not None


def fetch(url: str, folder: Path) -> Path:
    """The file behind an address, in `folder`.

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
            connection.request("GET", target, headers={"User-Agent": "mtl", "Accept": "*/*"})
            with connection.getresponse() as answer:
                place = answer.getheader("Location") if answer.status in MOVED else None
                if not place:
                    return save(url, here, answer, folder, end)
            here = urljoin(here, place)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError(
                f"{url} cannot be fetched: {error or type(error).__name__}."
            ) from error
        finally:
            connection.close()
    raise InputError(f"{url} cannot be fetched: more than {REDIRECTS} redirects.")


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
    address = find_address(url, host, port or (443 if secure else 80))
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, port, timeout=PATIENCE)
    try:
        wire = socket.create_connection(address, PATIENCE)
        if secure:
            wire = ssl.create_default_context().wrap_socket(wire, server_hostname=host)
        connection.sock = wire
    except OSError as error:
        raise InputError(f"{url} cannot be fetched: {error}.") from error
    return connection, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def find_address(url: str, host: str, port: int) -> tuple[str, int]:
    """The first address of a host, if all that it has are public.

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
    return addresses[0], port


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet."""
    its = ipaddress.ip_address(address.split("%")[0])
    inner = getattr(its, "ipv4_mapped", None) or getattr(its, "sixtofour", None)
    if its in NAT64:
        inner = ipaddress.IPv4Address(int(its) % 2**32)
    return its.is_global and not its.is_multicast and (inner is None or is_public(str(inner)))


def save(url: str, here: str, answer: http.client.HTTPResponse, folder: Path, end: float) -> Path:
    """Write an answer's body as a file of the name in the URL.

    Raises:
        InputError: it is no picture or video, too large or too slow.
    """
    kind = (answer.getheader("Content-Type") or KINDS[2]).split(";")[0].strip().lower()
    if answer.status != 200:
        raise InputError(f"{url} cannot be fetched: {answer.status} {answer.reason}.")
    if not kind.startswith(KINDS):
        raise InputError(f"{url} is neither picture nor video, but {kind}.")
    name = Path(unquote(urlsplit(here).path)).name or "picture"
    suffix = Path(name).suffix or "." + kind.split("/")[1].split("+")[0].replace("jpeg", "jpg")
    path = folder / (re.sub(r"[^\w.-]", "_", Path(name).stem)[:80] + suffix)
    length = answer.getheader("Content-Length") or "0"
    size = int(length) if length.isdigit() else 0
    with path.open("wb") as file:
        while size <= LARGEST and (block := answer.read1(BLOCK)):
            file.write(block)
            size = max(size, file.tell())
            if time.monotonic() > end:
                raise InputError(f"{url} is too slow: not whole after {LONGEST:g} s.")
    if size > LARGEST:
        raise InputError(f"{url} is too large: more than {LARGEST // 2**20} MB.")
    if length.isdigit() and path.stat().st_size < int(length):
        raise InputError(f"{url} ended early; try again.")
    return path
