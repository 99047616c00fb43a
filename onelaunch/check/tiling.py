"""Tiling: the tasks of an op are tiles of one nest over the same operands, and together do all of it exactly once."""

from __future__ import annotations

import numpy as np

from onelaunch.check.findings import Findings
from onelaunch.program.program import Program
from onelaunch.program.program import maximum

Tile = tuple[tuple[int, int], ...]


def check_tiling(program: Program, findings: Findings) -> None:
    """Report ops whose tasks leave something out, do something twice, or do different things."""
    members: list[list[int]] = [[] for _ in program.ops]
    for number, task in enumerate(program.tasks):
        members[task.op].append(number)
    memo: dict[tuple[int, tuple[Tile, ...]], str] = {}
    for op, numbers in enumerate(members):
        if not numbers:
            findings.add("tiling", f"op {op} ({program.ops[op]}) has no task")
            continue
        first = program.tasks[numbers[0]]
        for number in numbers[1:]:
            task = program.tasks[number]
            if (task.kernel, task.operands) != (first.kernel, first.operands):
                findings.add("tiling", f"tasks {numbers[0]} and {number} of op {op} have other kernels or operands")
                break
        else:
            key = (first.kernel, tuple(program.tasks[n].tile for n in numbers))
            if key not in memo:
                whole = tuple((0, maximum(v.args[0])) for v in program.kernels[first.kernel].nest.vars)
                memo[key] = _fault(whole, key[1])
            if memo[key]:
                findings.add("tiling", f"the tasks of op {op} ({program.ops[op]}) {memo[key]}")


def _fault(whole: Tile, tiles: tuple[Tile, ...]) -> str:
    """What is wrong with a tiling, or nothing: every cell between borders must be in exactly one tile."""
    cuts = []
    for d, full in enumerate(whole):
        borders = sorted({*full, *(x for tile in tiles for x in tile[d])})
        cuts.append({b: i for i, b in enumerate(borders)})
    counts = np.zeros([max(len(c) - 1, 0) for c in cuts], dtype=np.int32)
    for tile in tiles:
        counts[tuple(slice(c[lo], c[hi]) for c, (lo, hi) in zip(cuts, tile, strict=True))] += 1
    if (counts == 0).any():
        return "leave elements out"
    return "compute elements twice" if (counts > 1).any() else ""
