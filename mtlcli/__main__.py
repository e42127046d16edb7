"""`mtl ...`, which `python -m mtlcli ...` does, too: the command line as a process of its own."""

import atexit
import os
import sys
import threading
from contextlib import suppress

from mtlcli.cli import main


def run() -> None:
    """Run the command line and end the process, without taking apart what it has loaded: of torch
    that takes more than half a second, and the operating system takes all back at once.

    What is registered to be done at the end is done (but a profiler that runs the module, as
    `python -m cProfile` does, learns nothing of the end: let it run `mtlcli.cli.main`). Where
    another thread is still at work, or something other than an exit code is raised, Python ends the
    process in its own way.
    """
    try:
        main()
        code = 0
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        code = ended.code
    others = [t for t in threading.enumerate() if t is not threading.current_thread()]
    if not all(other.daemon for other in others):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
