"""Timing peers in turns: what the machine does meanwhile hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

WARM_UP = 2  # steps at the start of each turn that are not counted: caches and clocks belong to the peer before
PAUSE = 0.02  # seconds between turns, for another library's threads to fall asleep


class Timed(Protocol):
    """Something whose step is timed."""

    name: str

    def rewind(self) -> None:
        """Back to the first context length; not timed."""

    def step(self) -> None:
        """One decode step, complete when it returns."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Step times in seconds, over all rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def percentile(self, share: float) -> float:
        """The time that ``share`` of the steps stay below."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run_rounds(
    peers: Sequence[Timed], rounds: int, steps: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Timing]:
    """Give each peer ``rounds`` turns of ``steps`` timed steps, in an order that rotates; results by name."""
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        start = number % len(peers)
        for peer in [*peers[start:], *peers[:start]]:
            time.sleep(PAUSE)
            peer.rewind()
            for _ in range(WARM_UP):
                peer.step()
            seconds[peer.name] += [_time(peer.step) for _ in range(steps)]
        progress(number + 1, rounds)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def _time(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
