"""Loops around one store, dealt out to the threads of a block.

``for i, j: y[i, j] = x[i, j] / sum(k: x[i, k])`` has a reduction that depends on ``i`` alone. So the loop over ``i``
leads: all threads go through it together (or each warp takes some of its steps, where there are enough), and share each
reduction; the steps of ``j`` go to single threads. Without such reductions no loop leads, and the steps of all loops
are numbered through and go to single threads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.targets.cuda.writer import BLOCK
from onelaunch.targets.cuda.writer import MEMBERS
from onelaunch.targets.cuda.writer import WARP
from onelaunch.targets.cuda.writer import WARPS
from onelaunch.targets.cuda.writer import TeamWriter
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.loops import ALONE
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.loops import Members
from onelaunch.targets.source.nests import close
from onelaunch.targets.source.nests import lower_store
from onelaunch.targets.source.nests import open_loop
from onelaunch.targets.source.nests import ready
from onelaunch.targets.source.printer import bare

FEW = 32  # steps, each with a reduction of its own, that are worth a team each
WARPS_FROM = 4  # leading steps from which each is for one warp
_NUMBERED = 2**31  # steps that a 32-bit number can count


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """A loop and how many steps it has at most."""

    loop: Loop
    most: int


def write_shared_store(
    writer: TeamWriter,
    block: Block,
    steps: Sequence[Steps],
    target: str,
    index: Sequence[Expr],
    body: Expr,
    trusted: bool = False,
    walked: frozenset[Expr] = frozenset(),
) -> None:
    """Writes ``for steps: target[index] = body``, for all threads of a block to run (see ``write_store``).

    Steps of the variables ``walked`` may meet at one place: whichever thread takes them takes them in order.
    """
    made = lower_store(writer, target, index, body, trusted)
    roots = (made.address, made.value, *(i for _, i in made.guards))
    count = _leading(steps, roots)
    leading, others = steps[:count], steps[count:]
    if walked:
        leading = [s for s in steps if s.loop.variable in walked]
        others = [s for s in steps if s.loop.variable not in walked]
    elif math.prod(max(s.most, 1) for s in others) >= _NUMBERED:
        leading, others = steps[:-1], steps[-1:]
    home, waiting = ready(writer, block, target, list(made.guards))
    team = BLOCK
    if leading and not walked and WARPS_FROM <= math.prod(s.most for s in leading) < _NUMBERED:
        home, team = deal(writer, home, leading, WARPS, WARP), WARP
        home, waiting = ready(writer, home, target, waiting)
    else:
        for step in leading:
            home = open_loop(writer, home, step.loop)
            home, waiting = ready(writer, home, target, waiting)
    inner = deal(writer, home, others, MEMBERS[team], ALONE)
    parts = (made.address, made.value, *(i for _, i in waiting))
    writer.count(parts)
    made.write(writer, inner, parts, waiting)
    close(inner, block)


def _leading(steps: Sequence[Steps], roots: Sequence[Expr]) -> int:
    """How many loops all threads go through together."""
    variables = [s.loop.variable for s in steps]
    depths = {
        max((n + 1 for n, v in enumerate(variables) if v in e.free), default=0)
        for root in roots for e in walk(root) if e.op is Op.REDUCE
    }  # fmt: skip
    if len(steps) in depths and math.prod(s.most for s in steps) <= FEW:
        return len(steps)
    return max((d for d in depths if d < len(steps)), default=0)


def deal(writer: TeamWriter, block: Block, steps: Sequence[Steps], members: Members, shared: str) -> Block:
    """A block for the steps of some loops, numbered through and dealt out to ``members`` in turn. The caller appends it
    to ``block`` when it is complete.
    """
    if len(steps) == 0:  # one step; it counts as a loop, or reductions would be computed inside by its only thread
        inner = Block(block, f"if ({members.number} == 0)", build.var("once", 1))
        inner.shared = shared
        return inner
    writer.count([e for s in steps for e in (s.loop.low, s.loop.high)])
    bounds = [(bare(writer.value(s.loop.low, block)), bare(writer.value(s.loop.high, block))) for s in steps]
    variables = [s.loop.variable for s in steps]
    names = [writer.variable_name(v) for v in variables]
    if len(steps) == 1:
        low, high = bounds[0]
        size = _size(writer, block, steps[0], low, high)
        inner, step = _turns(writer, block, size, steps[0].most, members, variables[0])
        inner.items.append(f"const int64_t {names[0]} = {_from(low, step)};")
    else:
        sizes = [_size(writer, block, s, low, high) for s, (low, high) in zip(steps, bounds, strict=True)]
        total = math.prod(max(s.most, 1) for s in steps)
        inner, rest = _turns(writer, block, " * ".join(sizes), total, members, variables[-1])
        for name, size, (low, _) in reversed(list(zip(names[1:], sizes[1:], bounds[1:], strict=True))):
            inner.items.append(f"const int64_t {name} = {_from(low, f'{rest} % {size}')};")
            left = writer.fresh("left")
            inner.items.append(f"const uint32_t {left} = {rest} / {size};")
            rest = left
        inner.items.append(f"const int64_t {names[0]} = {_from(bounds[0][0], rest)};")
    inner.shared = shared
    inner.names.update(zip(variables, names, strict=True))
    return inner


def _turns(
    writer: TeamWriter, block: Block, size: str, most: int, members: Members, variable: Expr
) -> tuple[Block, str]:
    """A block for the steps 0 to ``size`` - 1 (at most ``most``), and the name of a step's number. Where every member
    has one at most, there is no loop.
    """
    step = writer.fresh("step")
    if most <= members.size:
        block.items.append(f"const uint32_t {step} = {members.number};")
        return Block(block, f"if ({step} < {size})", variable), step
    if size != f"{most}u":
        header = f"for (uint32_t {step} = {members.number}; {step} < {size}; {step} += {members.count})"
        return Block(block, header, variable), step
    turn = writer.fresh("turn")  # see loops.py: _write_dealt
    condition = f"{turn} < {-(-most // members.size)}"
    inner = Block(block, f"for (uint32_t {turn} = 0; {condition}; ++{turn})", variable)
    inner.items.append(f"const uint32_t {step} = {turn} * {members.count} + {members.number};")
    if most % members.size:
        inner.items.append(f"if ({step} >= {most}) break;")
    return inner, step


def _size(writer: TeamWriter, block: Block, step: Steps, low: str, high: str) -> str:
    if step.loop.low.is_const and step.loop.high.is_const:
        return f"{max(int(step.loop.high.value) - int(step.loop.low.value), 0)}u"
    name = writer.fresh("count")
    block.items.append(f"const uint32_t {name} = steps({low}, {high});")
    return name


def _from(low: str, text: str) -> str:
    return text if low == "0" else f"{low} + ({text})" if " " in text else f"{low} + {text}"
