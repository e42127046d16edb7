"""`mtl serve`: a local page where one drops a picture and sees all predictions of it."""

import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from mtlcli.errors import InputError, RunError
from mtlcli.ops.devices import pick_device
from mtlcli.page.hosts import is_local
from mtlcli.runs import checkpoint
from mtlcli.runs.default_run import default_run

HOST = "127.0.0.1"
PORT = 7860
QUIET = {  # read when gradio is imported or starts: it reports nothing, and opens no other ports
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_NUM_WORKERS": "0",
}


def serve(
    run: Path | None,
    *,
    host: str = HOST,
    port: int = PORT,
    device: str = "auto",
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the page until interrupted.

    What visitors bring lies in a folder that goes when the page ends, and no other file is read
    for them; `mtlcli.page.guard` says what else is refused.

    Args:
        run: checkpoint or run folder; by default that of `default_run`.
        host: address to listen at; other than the default, other computers can use the page.
        port: to listen at.
        device: auto, cpu, cuda or mps.
        announce: is told where the page is.

    Raises:
        InputError: no such checkpoint or host, or gradio is not installed.
        RunError: the port cannot be had.
    """
    os.environ.update(QUIET)
    try:
        from mtlcli.page import layout
    except ImportError as error:
        raise InputError(f"The page needs gradio ({error}): pip install 'mtlcli[web]'.") from error

    require_place(host, port)
    remark = ""
    if run is None:
        choice = default_run()
        run, remark = choice.path, f" ({choice.remark('`mtl serve NAME`')})"
    trained = checkpoint.load(run, pick_device(device))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    with TemporaryDirectory(prefix="mtl-serve-", ignore_cleanup_errors=True) as folder:
        try:
            page, address = layout.launch(trained, host, port, Path(folder))
        except OSError as error:
            raise RunError(describe_port(host, port)) from error
        announce(f"Network: {trained.path}{remark}")
        announce(f"Page: {address} (Ctrl-C ends it)")
        if not is_local(host):
            announce(f"Listening at {host}: whoever reaches this computer can use the page.")
        page.block_thread()


def require_place(host: str, port: int) -> None:
    """See that one can listen there, before the network is loaded.

    Raises:
        InputError: this computer has no such address.
        RunError: the port is taken, or not allowed.
    """
    try:
        if not host:
            raise ValueError("empty")
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except (socket.gaierror, ValueError) as error:  # names with odd characters, too
        raise InputError(describe_unknown(host)) from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(describe_unknown(host)) from error
        raise RunError(describe_port(host, port)) from error


def describe_unknown(host: str) -> str:
    """What to say of a host that is not here."""
    return (
        f"--host {host!r}: this computer has no such name or address. 127.0.0.1 is for this "
        "computer alone, 0.0.0.0 lets others in."
    )


def describe_port(host: str, port: int) -> str:
    """What to say of a port that cannot be had."""
    return f"Cannot listen at {host}:{port}: taken, or not allowed. Choose another with --port."
