"""The ring of stages: one producer streams weights ahead of one consumer, across tasks, through a few buffers.

Item i goes to stage i mod S, as its use number k = i div S. Two barriers a stage, each with one phase bit that flips
when a phase completes:

- ``full``: the copy engine completes phase k of it when the bytes of use k are there; the consumer waits for that.
- ``empty``: the consumer completes phase k when it has read use k; the producer waits for phase k - 1 (for k = 0 the
  wait passes at once, because a fresh barrier counts as having completed the phase before its first).

The producer also keeps the bytes in flight (issued, not arrived) under a limit of their own; an item larger than the
limit goes alone. Copies arrive in any order. Waiting tests one bit, so the protocol relies on producer and consumer
never being two phases apart, which the other barrier guarantees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from onelaunch.targets.reference.protocol.explore import ProtocolError
from onelaunch.targets.reference.protocol.explore import Step
from onelaunch.targets.reference.protocol.explore import explore

NOTHING = -1


@dataclasses.dataclass(frozen=True)
class Ring:
    """A ring and what flows through it. ``fault`` breaks one rule, to show that the exploration notices."""

    stages: int
    sizes: tuple[int, ...]  # bytes of each item
    limit: int  # bytes in flight
    fault: str = ""  # no-empty-wait | early-release | no-limit | strict-limit | stale-parity | no-full-wait

    def explore(self) -> int:
        """Visit every state; returns how many there are, raises ProtocolError where one is wrong."""
        start = State(0, 0, False, (0,) * self.stages, (0,) * self.stages, (NOTHING,) * self.stages, ())
        return explore(start, self.steps, lambda s: s.consumed == len(self.sizes))

    def steps(self, s: State) -> Iterator[Step[State]]:
        """What can happen next."""
        if self._flying(s) > max(self.limit, max((self.sizes[i] for i in s.flying), default=0)):
            raise ProtocolError(f"{self._flying(s)} bytes in flight, the limit is {self.limit}")
        if s.issued < len(self.sizes) and self._may_issue(s):
            yield f"issue {s.issued}", self._issue(s)
        for item in s.flying:
            stage = item % self.stages
            full = _flip(s.full, stage)
            landed = (*s.content[:stage], item, *s.content[stage + 1 :])
            rest = tuple(i for i in s.flying if i != item)
            yield f"arrive {item}", dataclasses.replace(s, full=full, content=landed, flying=rest)
        if s.consumed < len(self.sizes):
            yield from self._consume(s)

    def _flying(self, s: State) -> int:
        return sum(self.sizes[i] for i in s.flying)

    def _may_issue(self, s: State) -> bool:
        stage, use = s.issued % self.stages, s.issued // self.stages
        waited = 1 - use % 2 if self.fault != "stale-parity" else 1
        if self.fault != "no-empty-wait" and not passed(s.empty[stage], waited):
            return False
        room = self._flying(s) + self.sizes[s.issued] <= self.limit
        return room or (not s.flying and self.fault != "strict-limit") or self.fault == "no-limit"

    def _issue(self, s: State) -> State:
        stage = s.issued % self.stages
        unread = s.issued - self.stages
        if unread >= s.consumed or any(i % self.stages == stage for i in s.flying):
            raise ProtocolError(f"item {s.issued} overwrites stage {stage} before item {unread} is consumed")
        return dataclasses.replace(s, issued=s.issued + 1, flying=(*s.flying, s.issued))

    def _consume(self, s: State) -> Iterator[Step[State]]:
        item = s.consumed
        stage, use = item % self.stages, item // self.stages
        if not s.reading:
            if self.fault == "no-full-wait" or passed(s.full[stage], use % 2):
                empty = _flip(s.empty, stage) if self.fault == "early-release" else s.empty
                yield f"read {item}", dataclasses.replace(s, reading=True, empty=empty)
            return
        if s.content[stage] != item:
            raise ProtocolError(f"the consumer reads stage {stage} for item {item} and finds item {s.content[stage]}")
        empty = s.empty if self.fault == "early-release" else _flip(s.empty, stage)
        yield f"release {item}", dataclasses.replace(s, reading=False, consumed=item + 1, empty=empty)


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that memory and program counters hold."""

    issued: int
    consumed: int
    reading: bool  # between the wait for ``full`` and the release
    full: tuple[int, ...]  # phase bit of each stage's barrier
    empty: tuple[int, ...]
    content: tuple[int, ...]  # the item that has arrived
    flying: tuple[int, ...]


def passed(phase: int, parity: int) -> bool:
    """Whether a wait for the phase of ``parity`` ends: the barrier is not in that phase any more."""
    return phase != parity


def _flip(phases: tuple[int, ...], stage: int) -> tuple[int, ...]:
    return (*phases[:stage], 1 - phases[stage], *phases[stage + 1 :])
