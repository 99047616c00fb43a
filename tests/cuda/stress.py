"""Builds for tests: with random delays at waits and signals (stress.cuh), or without the copy engine (barrier.cuh)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from onelaunch.targets.cuda.emit import Source

STRESS, PLAIN_COPIES = "#define ONELAUNCH_STRESS\n", "#define ONELAUNCH_PLAIN_COPIES\n"


def stressed() -> contextlib.AbstractContextManager[None]:
    """Programs that are built inside have the delays. Build them past the disk cache."""
    return _with(STRESS)


def plain_copies() -> contextlib.AbstractContextManager[None]:
    """Programs that are built inside copy by plain stores. Build them past the disk cache."""
    return _with(PLAIN_COPIES)


@contextlib.contextmanager
def _with(macro: str) -> Iterator[None]:
    text = Source.text
    with mock.patch.object(Source, "text", lambda self: macro + text(self)):
        yield
