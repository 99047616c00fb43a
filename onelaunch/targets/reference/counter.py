"""Event counters: 32 bits, never reset between launches, compared modulo 2^32."""

from __future__ import annotations

from collections.abc import Sequence

from onelaunch.program.program import Event

BITS = 32
MASK = (1 << BITS) - 1


def reached(count: int, target: int) -> bool:
    """Whether a wrapped counter has reached a wrapped target; they are never 2^31 apart."""
    return (count - target) & MASK < 1 << (BITS - 1)


class Counters:
    """The counters of a program and the number of launches they have seen."""

    def __init__(self, events: Sequence[Event], epoch: int = 0) -> None:
        self.events = events
        self.reset(epoch)

    def signal(self, event: int) -> None:
        """One more signal."""
        self.counts[event] = (self.counts[event] + 1) & MASK

    def target(self, event: int, value: int) -> int:
        """The count at which a wait for ``value`` ends in this launch."""
        return (self.epoch * self.events[event].total + value) & MASK

    def passed(self, event: int, value: int) -> bool:
        """Whether a wait for ``value`` ends now."""
        return reached(self.counts[event], self.target(event, value))

    def seen(self, event: int) -> int:
        """Signals of this launch so far."""
        return (self.counts[event] - self.epoch * self.events[event].total) & MASK

    def finish(self) -> None:
        """The launch is over: the counters stand ready for the next one."""
        self.epoch += 1

    def reset(self, epoch: int = 0) -> None:
        """Stand as after ``epoch`` whole launches; an aborted launch leaves a clean slate."""
        self.epoch = epoch
        self.counts = [(epoch * e.total) & MASK for e in self.events]
