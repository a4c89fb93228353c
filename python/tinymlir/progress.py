"""A progress bar on stderr for work that takes more than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

PATIENCE_SECONDS = 2.0
_REDRAW_SECONDS = 0.2
_WIDTH = 30

T = TypeVar("T")


def progress(iterable: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Pass items through, showing how many of ``total`` are done.

    Nothing is shown where stderr is no terminal, or before two seconds. The bar is drawn from a
    thread of its own, so that it lives while one item takes long, and is gone at the end.
    """
    if not sys.stderr.isatty():
        yield from iterable
        return
    bar = _Bar(label, total)
    try:
        for item in iterable:
            yield item
            bar.done += 1
    finally:
        bar.close()


class _Bar:
    def __init__(self, label: str, total: int) -> None:
        self.done = 0
        self._label, self._total = label, total
        self._start = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _draw(self) -> None:
        drawn = False
        wait = PATIENCE_SECONDS
        while not self._closing.wait(wait):
            wait, drawn = _REDRAW_SECONDS, True
            filled = _WIDTH * self.done // max(1, self._total)
            bar = "#" * filled + "-" * (_WIDTH - filled)
            seconds = int(time.monotonic() - self._start)
            line = f"\r{self._label} [{bar}] {self.done}/{self._total}, {seconds} s"
            print(line, end="", file=sys.stderr, flush=True)
        if drawn:
            # Return to the start of the line and erase it.
            print("\r\033[K", end="", file=sys.stderr, flush=True)
