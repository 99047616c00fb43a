"""What the check holds against a program: a bounded list, so that a broken program of 20,000 tasks stays readable."""

from __future__ import annotations

import dataclasses

LIMIT = 20  # messages kept of each class


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One reason to refuse a program."""

    kind: str  # structure | tiling | footprint | deadlock | race | order | coverage
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Findings:
    """Findings so far; beyond ``LIMIT`` of a kind they are only counted."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: dict[str, int] = {}

    def add(self, kind: str, message: str) -> None:
        """Hold one more reason against the program."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= LIMIT:
            self.kept.append(Finding(kind, message))

    def __bool__(self) -> bool:
        return bool(self.counts)

    def text(self) -> str:
        """All findings, one a line, and how many were left out."""
        lines = [str(f) for f in self.kept]
        lines += [f"{kind}: {n - LIMIT} more" for kind, n in self.counts.items() if n > LIMIT]
        return "\n  ".join(lines)
