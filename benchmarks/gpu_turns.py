"""Turns on one GPU: several benchmark processes prepare side by side, and one at a time measures, alone.

``with shared():`` around whatever else uses the GPU, ``with alone():`` around what is timed. Processes agree through
locks on two files: one is held by whoever uses the GPU; the other by all that measure or wait to, and whoever wants to
prepare lets them pass first. What a process enqueued has ended before it lets another go on.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch

FOLDER = Path(tempfile.gettempdir())


@contextmanager
def shared() -> Iterator[None]:
    """Nobody measures meanwhile."""
    with _file("used") as used:
        with _file("measuring") as measuring:
            fcntl.flock(measuring, fcntl.LOCK_EX)
            fcntl.flock(used, fcntl.LOCK_SH)
        yield from _finished()


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else uses the GPU meanwhile. Not inside ``shared``: two that wait there would wait for each other."""
    with _file("measuring") as measuring, _file("used") as used:
        fcntl.flock(measuring, fcntl.LOCK_SH)
        fcntl.flock(used, fcntl.LOCK_EX)
        yield from _finished()


@contextmanager
def _file(name: str) -> Iterator[TextIO]:
    with (FOLDER / f"onelaunch-gpu-{name}.lock").open("w") as file:
        yield file


def _finished() -> Iterator[None]:
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
