"""Memory: workspace buffers share bytes where their lives do not meet.

A buffer lives from the op that first writes it to the op that last touches it. Its bytes are used again only ``REST``
ops later, so that by then the events that the data flow needs anyway have put every access in order; the order pass
adds an event where they have not.
"""

from __future__ import annotations

from collections.abc import Sequence

REST = 6  # ops between the end of a buffer's life and the next use of its bytes


def lifetimes(touches: Sequence[Sequence[str]]) -> dict[str, tuple[int, int]]:
    """First and last op that touches each buffer; ``touches`` lists the buffers of every op."""
    lives: dict[str, tuple[int, int]] = {}
    for op, names in enumerate(touches):
        for name in names:
            lives[name] = (lives.get(name, (op, op))[0], op)
    return lives


def layout(sizes: dict[str, int], lives: dict[str, tuple[int, int]], alignment: int) -> tuple[dict[str, int], int]:
    """(offset of each buffer, bytes in all): first fit by the beginning of life, lowest offset first."""
    offsets: dict[str, int] = {}
    placed: list[tuple[int, int, str]] = []  # offset, end, name
    total = 0
    for name in sorted(sizes, key=lambda n: (lives[n][0], n)):
        begin, end = lives[name]
        size = max(alignment, -(-sizes[name] // alignment) * alignment)
        busy = sorted(
            (lo, hi) for lo, hi, other in placed if lives[other][1] + REST >= begin and lives[other][0] <= end + REST
        )
        at = 0
        for lo, hi in busy:
            if at + size <= lo:
                break
            at = max(at, hi)
        offsets[name] = at
        placed.append((at, at + size, name))
        total = max(total, at + size)
    return offsets, total


def sharing(sizes: dict[str, int], offsets: dict[str, int], lives: dict[str, tuple[int, int]]) -> dict[str, list[str]]:
    """For each buffer, the last earlier users of its bytes (who came after all users before them)."""
    found: dict[str, list[str]] = {}
    owners: list[tuple[int, int, str]] = []  # disjoint byte ranges and their last user
    for name in sorted(sizes, key=lambda n: (lives[n], n)):
        low, high = offsets[name], offsets[name] + sizes[name]
        kept: list[tuple[int, int, str]] = [(low, high, name)]
        for begin, end, owner in owners:
            if end <= low or high <= begin:
                kept.append((begin, end, owner))
                continue
            if owner not in found.setdefault(name, []):
                found[name].append(owner)
            kept.extend(piece for piece in ((begin, low, owner), (high, end, owner)) if piece[0] < piece[1])
        owners = kept
    return found
