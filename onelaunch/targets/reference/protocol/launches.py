"""Events over many launches: counters of few bits that are never reset, waits by modular comparison, and aborts.

Launch e waits for ``e * total + value`` of a counter, compared modulo 2^bits: reached if the difference, taken modulo
2^bits, is below half of that. A launch starts when the one before it has ended. A worker that fails sets the abort flag
and leaves; a worker that spins sees the flag and leaves; no worker that leaves signals. The flag stays in memory: the
next launch finds it, sets counters, epoch and flag to zero, and only then starts its workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from onelaunch.targets.reference.protocol.explore import ProtocolError
from onelaunch.targets.reference.protocol.explore import Step
from onelaunch.targets.reference.protocol.explore import explore

Work = tuple[tuple[tuple[int, int], ...], tuple[int, ...]]  # (waits: (event, value), signals)


@dataclasses.dataclass(frozen=True)
class Launches:
    """Queues of work, launched again and again. ``fault`` breaks one rule, to show that the exploration notices."""

    queues: tuple[tuple[Work, ...], ...]
    launches: int
    bits: int
    epoch: int = 0  # launches that have been before
    failures: int = 0  # how many times some worker may fail
    fault: str = ""  # no-reset | deaf (spinning workers ignore the flag) | absolute (plain comparison)

    @property
    def totals(self) -> tuple[int, ...]:
        """Signals of each event in a launch."""
        signals = [e for queue in self.queues for _, events in queue for e in events]
        return tuple(signals.count(e) for e in range(max(signals, default=-1) + 1))

    def explore(self) -> int:
        """Visit every state; returns how many there are, raises ProtocolError where one is wrong."""
        heads = (0,) * len(self.queues)
        start = State(0, self.epoch, heads, tuple(self.epoch * t for t in self.totals), False, self.failures)
        return explore(start, self.steps, lambda s: s.launch == self.launches)

    def steps(self, s: State) -> Iterator[Step[State]]:
        """What can happen next. Counters are kept whole here, to be compared with what their low bits say."""
        if s.launch == self.launches:
            return
        if all(h == len(q) or h == LEFT for h, q in zip(s.heads, self.queues, strict=True)):
            yield "next launch", self._next(s)
            return
        for w, (head, queue) in enumerate(zip(s.heads, self.queues, strict=True)):
            if head == LEFT or head == len(queue):
                continue
            waits, signals = queue[head]
            if all(self._passes(s, e, v) for e, v in waits):
                counts = tuple(c + signals.count(e) for e, c in enumerate(s.counts))
                yield f"worker {w} does {head}", dataclasses.replace(s, heads=_set(s.heads, w, head + 1), counts=counts)
                if s.failures:
                    yield (
                        f"worker {w} fails in {head}",
                        dataclasses.replace(s, heads=_set(s.heads, w, LEFT), aborted=True, failures=s.failures - 1),
                    )
            elif s.aborted and self.fault != "deaf":
                yield f"worker {w} leaves", dataclasses.replace(s, heads=_set(s.heads, w, LEFT))

    def _passes(self, s: State, event: int, value: int) -> bool:
        count, target = s.counts[event], s.epoch * self.totals[event] + value
        size = 1 << self.bits
        seen = (count - target) % size < size // 2 if self.fault != "absolute" else count % size >= target % size
        if seen and count < target:
            raise ProtocolError(f"a wait for {value} signals of event {event} ends {target - count} too early")
        return seen

    def _next(self, s: State) -> State:
        heads = (0,) * len(self.queues)
        if s.aborted and self.fault != "no-reset":
            return State(s.launch + 1, 0, heads, (0,) * len(s.counts), False, s.failures)
        if not s.aborted and s.counts != tuple((s.epoch + 1) * t for t in self.totals):
            raise ProtocolError("a launch ends without having made all its signals")
        return dataclasses.replace(s, launch=s.launch + 1, epoch=s.epoch + 1, heads=heads, aborted=False)


LEFT = -1  # a worker that has left an aborted launch


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that memory and program counters hold."""

    launch: int
    epoch: int
    heads: tuple[int, ...]
    counts: tuple[int, ...]
    aborted: bool
    failures: int


def _set(heads: tuple[int, ...], worker: int, value: int) -> tuple[int, ...]:
    return (*heads[:worker], value, *heads[worker + 1 :])
