"""Siblings: products that follow one another and do not wait for each other share the workers.

Query, key and value projections are three ops of unequal size. Cut for all workers each, every worker would run three
small tasks; shared out by their bytes, it runs one, and all end at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.graph.graph import Node
from onelaunch.graph.nest import Kind
from onelaunch.program.machine import Machine
from onelaunch.transform import cost

FEWEST = 8  # workers that the smallest sibling must get: with fewer, rounding costs more than a task


def worker_shares(nodes: Sequence[Node], machine: Machine) -> list[int]:
    """For each of the ordered ``nodes``, the number of workers that its tasks are cut for."""
    shares = [machine.workers] * len(nodes)
    for run in _runs(nodes):
        found = _share_out([cost.matrix_bytes(nodes[i].nest) for i in run], machine.workers)
        if min(found) >= FEWEST:
            for i, share in zip(run, found, strict=True):
                shares[i] = share
    return shares


def _runs(nodes: Sequence[Node]) -> Iterator[range]:
    """Ranges of at least two neighbouring products of which none reads or writes what another writes."""
    start, written, read = 0, set[str](), set[str]()
    for i in range(len(nodes) + 1):
        node = nodes[i] if i < len(nodes) else None
        if node is not None and node.nest.kind is Kind.LINEAR:
            target = node.nest.target
            if not written & {target, *node.reads} and target not in read:
                written.add(target)
                read.update(node.reads)
                continue
        if i - start > 1:
            yield range(start, i)
        start, written, read = i + 1, set(), set()
        if node is not None and node.nest.kind is Kind.LINEAR:
            start, written, read = i, {node.nest.target}, set(node.reads)


def _share_out(sizes: Sequence[float], workers: int) -> list[int]:
    """``workers`` divided in proportion to ``sizes``, by largest remainders."""
    exact = [size * workers / sum(sizes) for size in sizes]
    shares = [int(e) for e in exact]
    for i in sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])[: workers - sum(shares)]:
        shares[i] += 1
    return shares
