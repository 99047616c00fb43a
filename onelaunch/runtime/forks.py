"""Forks of a process whose other threads are in the middle of a call.

A child has only the thread that forked. A lock that another one held stays locked there for ever, and what it guards is
half done: the child begins with new locks, and binds its arguments anew. (The runtime's threads and counters look after
themselves: see ``targets/cpu/include/onelaunch/pool.h``.)
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something that several threads use in turns."""

    def renew(self) -> None:
        """Called in a forked child, before anything else of it: no other thread runs."""


_known: weakref.WeakSet[Forked] = weakref.WeakSet()


def renewed_in_children(holder: Forked) -> None:
    """From now on ``holder.renew()`` runs in every forked child, as long as ``holder`` lives."""
    _known.add(holder)


def _renew() -> None:
    for holder in list(_known):
        holder.renew()


os.register_at_fork(after_in_child=_renew)
