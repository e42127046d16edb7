"""`mtl serve`: a local page where one drops a picture and sees all predictions of it."""

import os
from collections.abc import Callable
from pathlib import Path

from mtlcli.errors import InputError, RunError
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.run import find_newest

HOST = "127.0.0.1"
PORT = 7860
LOCAL = (HOST, "localhost", "::1")


def serve(
    run: Path | None,
    *,
    host: str = HOST,
    port: int = PORT,
    device: str = "auto",
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the page until interrupted.

    Args:
        run: checkpoint or run folder; by default the run written last.
        host: address to listen at; other than the default, other computers can use the page.
        port: to listen at.
        device: auto, cpu, cuda or mps.
        announce: is told where the page is.

    Raises:
        InputError: no such checkpoint, or gradio is not installed.
        RunError: the address or port cannot be had.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    try:
        from mtlcli.page import layout
    except ImportError as error:
        raise InputError(f"The page needs gradio ({error}): pip install 'mtlcli[web]'.") from error
    trained = checkpoint.load(run or find_newest(), pick_device(device))
    page = layout.build_page(trained)
    try:
        address = layout.launch(page, host, port)
    except OSError as error:
        raise RunError(
            f"Cannot listen at {host}:{port}: taken, or not allowed. Choose another with --port."
        ) from error
    announce(f"Network: {trained.path}")
    announce(f"Page: {address} (Ctrl-C ends it)")
    if host not in LOCAL:
        announce(f"Listening at {host}: whoever reaches this computer can use the page.")
    page.block_thread()
