"""Under which names the page is served, and from which pages a request may come."""

import ipaddress
import socket
from collections.abc import Mapping

LOCAL = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """What a request may say of where it goes and where it comes from.

    A page of the web that lets its own name mean this computer (DNS rebinding) sends that name as
    Host. So at a local address only local names are served; elsewhere numbers, which no such page
    can stand for, the name listened at, and the computer's own. The port is the one listened at: a
    tunnel has to begin at a port of the same number.

    Args:
        host: name or address that is listened at.
        port: likewise.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self.local = is_local(host)
        own = () if self.local else (socket.gethostname(), socket.getfqdn())
        mdns = [f"{name.split('.')[0]}.local" for name in own]
        self.names = {name.lower() for name in (*LOCAL, host, *own, *mdns)}

    def serves(self, host: str) -> bool:
        """Whether a header `Host` names this server."""
        name, port = split_host(host)
        is_known = name in self.names or (not self.local and is_address(name))
        return is_known and port == str(self.port)

    def is_foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether a browser sends a request on behalf of a page from elsewhere."""
        origin = headers.get("origin")
        from_elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        return from_elsewhere or (
            origin is not None and origin.partition("://")[2] != headers.get("host")
        )


def split_host(host: str) -> tuple[str, str]:
    """Name without brackets and closing dot, and port, of `name:port`; 80 is the web's own."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, "80"
    return name.lower().removeprefix("[").removesuffix("]").removesuffix("."), port


def is_address(name: str) -> bool:
    """Whether it is a number of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Whether only this computer reaches what is listened at there."""
    return host.lower() == "localhost" or (
        is_address(host) and ipaddress.ip_address(host).is_loopback
    )
