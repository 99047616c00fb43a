"""A build with random delays at waits and signals (include/onelaunch/stress.cuh)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from onelaunch.targets.cuda.emit import Source

MACRO = "#define ONELAUNCH_STRESS\n"


@contextlib.contextmanager
def stressed() -> Iterator[None]:
    """Programs that are built inside have the delays. Build them past the disk cache."""
    plain = Source.text
    with mock.patch.object(Source, "text", lambda self: MACRO + plain(self)):
        yield
