"""What threads do beside the network: make things ahead, draw and write a video."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np

from mtlcli.errors import RunError
from mtlcli.files import mark_video

T = TypeVar("T")
WAITING = 4  # frames between one thread and the next


@contextmanager
def ahead(make: Iterable[T]) -> Iterator[Iterator[T]]:
    """The same things, made in a thread of their own some steps ahead; its error comes out here."""
    made: Queue[tuple[bool, Any]] = Queue(WAITING)
    stop = Event()

    def work() -> None:
        try:
            for thing in make:
                if not offer(made, (True, thing), stop):
                    return
            offer(made, (False, None), stop)
        except BaseException as error:
            offer(made, (False, error), stop)

    def taken() -> Iterator[T]:
        while (answer := made.get())[0]:
            yield answer[1]
        if answer[1] is not None:
            raise answer[1]

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()


def offer(queue: Queue, thing: Any, stop: Event) -> bool:
    """Put it there as soon as there is room; False if told to stop before."""
    while not stop.is_set():
        try:
            queue.put(thing, timeout=0.1)
        except Full:
            continue
        return True
    return False


class Writer:
    """A video file written by a thread of its own; use it in a `with`, which ends the file.

    Args:
        path: of the .mp4.
        rate: frames/s.
        draw: makes the RGB (H, W, 3) uint8 frame, H and W even, of what `put` is given; it runs in
            the writer's thread.
        source: video whose sound is kept.
    """

    def __init__(
        self,
        path: Path,
        rate: float,
        draw: Callable[[Any], np.ndarray],
        source: Path | None = None,
    ) -> None:
        self.path, self.rate, self.draw, self.source = path, rate, draw, source
        self.given = 0  # steps put
        self._queue: Queue[Any] = Queue(WAITING)
        self._end, self._failed = Event(), Event()
        self._error: BaseException | None = None
        self._file: Any = None
        self._thread = Thread(target=self._work, daemon=True)

    def put(self, thing: Any, times: int = 1) -> None:
        """Hand over what one frame is drawn of, and for how many steps of 1 / rate it is shown.

        Raises:
            RunError: the file cannot be written.
        """
        if times > 0 and not offer(self._queue, (thing, times), self._failed):
            self._complain()
        self.given += max(0, times)

    @property
    def muted(self) -> str:
        """Why the source's sound is not in the file, "" if it is or there is none."""
        return str(self._file.muted) if self._file else ""

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._end.set()
        self._thread.join()
        if self._file is not None:
            try:
                self._file.close()
            except RunError as failed:  # the first error is the one to tell
                self._error = self._error or failed
            with suppress(OSError):  # a full disk: the film stands, but is not replaced unasked
                mark_video(self.path)
        if kind is None and self._error:
            self._complain()

    def _work(self) -> None:
        try:
            while not (self._end.is_set() and self._queue.empty()):
                try:
                    thing, times = self._queue.get(timeout=0.05)
                except Empty:
                    continue
                self._write(self.draw(thing), times)
        except BaseException as error:
            self._error = error
            self._failed.set()

    def _write(self, frame: np.ndarray, times: int) -> None:
        if self._file is None:
            self._file = new_file(self.path, self.rate, frame.shape[1::-1], self.source)
        self._file.write(frame, times)

    def _complain(self) -> None:
        assert self._error is not None
        raise self._error


def new_file(path: Path, rate: float, size: tuple[int, int], source: Path | None) -> Any:
    """The .mp4 that frames of this width and height go into.

    Raises:
        RunError: it cannot be opened.
    """
    from mtlcli.drawing.encode import Film

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error
    return Film(path, rate, size, source)
