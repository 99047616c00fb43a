"""Whether two generations say the same, row by row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many tokens are equal before the first difference of each row, and how many there are.

    After a first difference the two have different prompts, so nothing is compared beyond it.
    """

    equal: int
    total: int
    rows_equal: int
    rows: int

    @property
    def complete(self) -> bool:
        """Whether every row is the same in both."""
        return self.rows_equal == self.rows

    def __str__(self) -> str:
        if self.complete:
            return f"yes, all {self.total}"
        return f"{self.equal} of {self.total} before the first difference ({self.rows_equal} of {self.rows} rows equal)"


def compare_tokens(ours: list[list[int]], theirs: list[list[int]]) -> Agreement:
    """Compare rows of token ids; a row that ends earlier differs where it ends."""
    equal = sum(_common_start(row, other) for row, other in zip(ours, theirs, strict=True))
    total = sum(max(len(row), len(other)) for row, other in zip(ours, theirs, strict=True))
    same = sum(row == other for row, other in zip(ours, theirs, strict=True))
    return Agreement(equal, total, same, len(ours))


def _common_start(row: list[int], other: list[int]) -> int:
    differs = (i for i, (a, b) in enumerate(zip(row, other, strict=False)) if a != b)
    return next(differs, min(len(row), len(other)))
