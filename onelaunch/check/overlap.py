"""Workspace buffers that share bytes.

Almost always one buffer's last access is ordered before the other's first; that is one comparison of clocks a pair.
Buffers whose lives interleave are swept together, granule by granule, which is exact.
"""

from __future__ import annotations

import math

import numpy as np

from onelaunch.check.access import Accesses
from onelaunch.check.clock import Clocks
from onelaunch.check.findings import Findings
from onelaunch.check.memory import Memory
from onelaunch.check.sweep import Cells
from onelaunch.check.sweep import order
from onelaunch.program.program import Role

LARGEST = 1 << 26  # granules times workers of one exact sweep


def check_overlap(memory: Memory, accesses: Accesses, clocks: Clocks, findings: Findings) -> tuple[int, int]:
    """Report conflicts between buffers that share bytes. Returns (pairs ordered by their lives, pairs swept)."""
    program = memory.program
    used = [n for n in accesses.of if program.buffers[n].role is Role.WORKSPACE and program.buffers[n].nbytes]
    if not used:
        return 0, 0
    first, last = _lives(used, accesses, clocks)
    low = np.array([program.buffers[n].offset for n in used])
    high = low + np.array([program.buffers[n].nbytes for n in used])
    a, b = np.nonzero(np.triu((low[:, None] < high[None, :]) & (low[None, :] < high[:, None]), 1))
    apart = np.zeros(len(a), dtype=bool)
    for i in range(0, len(a), 4096):
        x, y = a[i : i + 4096], b[i : i + 4096]
        apart[i : i + 4096] = (last[x] <= first[y]).all(1) | (last[y] <= first[x]).all(1)
    mixed = [(used[x], used[y]) for x, y in zip(a[~apart], b[~apart], strict=True)]
    for group in _groups(mixed):
        _sweep(memory, group, accesses, clocks, findings)
    return int(apart.sum()), len(mixed)


def _lives(used: list[int], accesses: Accesses, clocks: Clocks) -> tuple[np.ndarray, np.ndarray]:
    """For each buffer and worker: tasks finished before every access, and the place after the last access."""
    worker, place = np.array(clocks.worker), np.array(clocks.place)
    first = np.zeros((len(used), clocks.at.shape[1]), dtype=np.int32)
    last = np.zeros_like(first)
    for i, n in enumerate(used):
        tasks = np.unique(np.array([a[0] for a in accesses.of[n]]))
        first[i] = clocks.at[tasks].min(0)
        np.maximum.at(last[i], worker[tasks], place[tasks].astype(np.int32) + 1)
    return first, last


def _groups(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Buffers joined by pairs."""
    leader: dict[int, int] = {}

    def find(n: int) -> int:
        while leader.setdefault(n, n) != n:
            n = leader[n]
        return n

    for a, b in pairs:
        leader[find(a)] = find(b)
    table: dict[int, list[int]] = {}
    for n in leader:
        table.setdefault(find(n), []).append(n)
    return [sorted(g) for g in table.values()]


def _sweep(memory: Memory, group: list[int], accesses: Accesses, clocks: Clocks, findings: Findings) -> None:
    buffers = [memory.program.buffers[n] for n in group]
    name = ", ".join(b.name for b in buffers[:4]) + (", ..." if len(buffers) > 4 else "")
    size = math.gcd(*(b.dtype.itemsize for b in buffers), *(b.offset for b in buffers))
    start = min(b.offset for b in buffers) // size
    count = -(-max(b.offset + b.nbytes for b in buffers) // size) - start
    if count * clocks.at.shape[1] > LARGEST:
        findings.add("race", f"buffers {name} share memory and are in use at the same time")
        return
    cells = Cells((count,), clocks, findings, f"memory shared by {name}", shared=True)
    records = [(task, n, box, flags) for n in group for task, box, _, flags in accesses.of[n]]
    places: dict[tuple[int, object], np.ndarray] = {}
    for task, n, box, flags in order(records, clocks):
        where = places.get((n, box))
        if where is None:
            where = places[n, box] = memory.granules((n, box), size) - start
        cells.step(task, where, flags, n)
