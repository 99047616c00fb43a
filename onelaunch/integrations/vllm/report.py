"""What runs as one launch and what does not: counted, and said once in the log."""

from __future__ import annotations

import logging
from collections import Counter

from onelaunch.frontend.compiler import Compilation

log = logging.getLogger("vllm.onelaunch")  # vLLM shows what its own loggers say, and no others


class Report:
    """Counts of one model. ``launches``: decode steps that were one; ``stock``: calls left to vLLM, by reason."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.launches = 0
        self.stock: Counter[str] = Counter()
        self.seconds = 0.0
        self.programs: dict[int, float] = {}  # seconds until each number of tokens first ran
        self.refusals: list[str] = []

    def intended(self, rows: int) -> None:
        """Nothing known speaks against launches of batches of so many sequences."""
        log.info("%s: one token of each of 1 to %d sequences is to be one launch, all else stock", self.name, rows)

    def launched(self) -> None:
        """A decode step ran as one launch."""
        self.launches += 1
        if self.launches in _MARKS:
            rest = ", ".join(f"{n} {reason}" for reason, n in self.stock.most_common()) or "nothing"
            log.info("%s: launches: %d; calls left to vLLM: %s", self.name, self.launches, rest)

    def left(self, reason: str) -> None:
        """A call went to vLLM's own code."""
        if reason not in self.stock and reason not in _EXPECTED:
            log.warning("%s: calls left to vLLM: %s", self.name, reason)
        self.stock[reason] += 1

    def refused(self, reason: str) -> None:
        """There will be no program."""
        self.refusals.append(reason)
        log.warning("%s: decode steps are left to vLLM: %s", self.name, reason)

    def ready(self, tokens: int, seconds: float, compilation: Compilation) -> None:
        """A program has run for the first time."""
        self.programs[tokens] = seconds
        hit = all(s.cache_hit for s in compilation.record.live)
        log.info(
            "%s: decode steps of %d token%s are one launch (%.1f s, cache %s)",
            self.name, tokens, "s" * (tokens != 1), seconds, "hit" if hit else "miss",
        )  # fmt: skip


_MARKS = frozenset(10**n for n in range(1, 10))
_EXPECTED = frozenset({"profiling", "prefill", "no cache yet", "warming up", "piecewise graphs"})
reports: list[Report] = []


def report(name: str) -> Report:
    """A new report, kept in ``reports``."""
    made = Report(name)
    reports.append(made)
    return made
