"""Turns on one GPU: several benchmark processes prepare side by side, and one at a time measures, alone.

``with shared():`` around whatever else uses the GPU, ``with alone():`` around what is timed. Processes agree through a
lock on a file; what one enqueued has ended before it lets another measure.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_FILE = Path(tempfile.gettempdir()) / "onelaunch-gpu-turns.lock"


@contextmanager
def shared() -> Iterator[None]:
    """Nobody measures meanwhile."""
    yield from _held(fcntl.LOCK_SH)


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else uses the GPU meanwhile. Not inside ``shared``: two that wait there would wait for each other."""
    yield from _held(fcntl.LOCK_EX)


def _held(kind: int) -> Iterator[None]:
    with _FILE.open("w") as file:
        fcntl.flock(file, kind)
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
