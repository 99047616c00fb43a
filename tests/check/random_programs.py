"""Random small programs: rows of eight elements, moved about, with workspace that is used again."""

from __future__ import annotations

import random

from onelaunch.graph import build as b
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from tests.programs import F32
from tests.programs import Builder
from tests.programs import rows

N = 8


def random_program(seed: int, ops: int = 5, workers: int = 3) -> Program:
    """Correct by construction: events follow from overlapping bytes, no live value is overwritten."""
    rng = random.Random(seed)
    p = Builder(f"random{seed}", rng.randint(2, workers))
    live = {p.buffer("x", (N,), Role.INPUT): N, p.buffer("state", (N,), Role.STATE): N}
    slots: dict[int, int] = {}  # workspace place -> buffer that lives there
    steps = rng.randint(2, ops)
    for step in range(steps + 1):
        final = step == steps
        sources = rng.sample(sorted(live), min(len(live), rng.randint(1, 2)))
        p.op(f"op{step}")
        if final:
            target = p.buffer("out", (N,), Role.OUTPUT)
        elif rng.random() < 0.15:
            target = 1
            sources = [s for s in sources if s != 1] or [0]
        else:
            free = [s for s in range(5) if s not in slots]
            if not free or rng.random() < 0.5:
                dead = rng.choice([s for s in slots if slots[s] not in sources] or [-1])
                if dead >= 0:
                    live.pop(slots.pop(dead), None)
                    free.append(dead)
            place = rng.choice(free)
            target = p.buffer(f"t{step}", (N,), Role.WORKSPACE, offset=place * N * 4)
            slots[place] = target
        shifts = [rng.choice([0, 0, 1, 3]) for _ in sources]

        def body(i: Expr, sources=sources, shifts=shifts) -> Expr:
            total = b.const(0.5, F32)
            for m, shift in enumerate(shifts):
                at = b.mod(b.add(i, b.const(shift)), N) if shift else i
                total = b.add(total, b.pointwise(Op.SIN, b.load(f"s{m}", (at,), F32)))
            return total

        nest = rows("y", (N,), body)
        parts = rng.choice([1, 2, 2, 4])
        for k in range(parts):
            tile = ((k * N // parts, (k + 1) * N // parts),)
            p.task(nest, {**{f"s{m}": s for m, s in enumerate(sources)}, "y": target}, tile, rng.randrange(p.workers))
        live[target] = N
    return p.link(rng.choice(["task", "op"]))
