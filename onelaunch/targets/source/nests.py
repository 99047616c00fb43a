"""Writing nests of loops around one store: the whole of a Rows or Scatter kernel, and the prologues and epilogues of
the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.targets.source import printer
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.loops import write_loop
from onelaunch.targets.source.memory import in_bounds
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.writer import Writer


@dataclasses.dataclass(frozen=True, slots=True)
class Store:
    """``target[index] = body`` with everything lowered. ``guards``: (dimension, index) of those that may be outside."""

    target: str
    address: Expr
    value: Expr
    guards: tuple[tuple[int, Expr], ...]

    def write(self, writer: Writer, block: Block, roots: Sequence[Expr], waiting: Sequence[tuple[int, Expr]]) -> None:
        """Writes the store into ``block``, inside the guards ``waiting``; ``roots``: address, value, their indices."""
        home = block
        for (d, _), i in zip(waiting, roots[2:], strict=True):
            home = guarded(writer, home, self.target, d, i)
        dtype = writer.memory.places[self.target].operand.dtype
        text = printer.convert(writer.value(roots[1], home), roots[1].dtype, dtype, writer.dialect)
        home.items.append(writer.dialect.store(dtype, writer.pointer(self.target, roots[0], home), bare(text)))
        close(home, block)


def lower_store(writer: Writer, target: str, index: Sequence[Expr], body: Expr, trusted: bool = False) -> Store:
    """The store; ``trusted``: no index needs a guard."""
    memory = writer.memory
    operand = memory.places[target].operand
    guards = tuple(
        (d, memory.lower(i)) for d, (i, extent) in enumerate(zip(index, operand.shape, strict=True))
        if not trusted and not in_bounds(i, extent)
    )  # fmt: skip
    address = memory.address(target, [memory.lower(i) for i in index])
    value = memory.lower(body)
    if value.op is Op.CAST and value.dtype is operand.dtype and operand.dtype in (DType.BF16, DType.F16):
        value = value.args[0] if value.args[0].dtype is not DType.F64 else value
    return Store(target, address, value, guards)


def write_store(
    writer: Writer,
    block: Block,
    loops: Sequence[Loop],
    target: str,
    index: Sequence[Expr],
    body: Expr,
    trusted: bool = False,
) -> None:
    """Writes ``for loops: target[index] = body``. Indices that may be outside the target are tested as soon as their
    variables are bound (unless ``trusted``): a negative one stores nothing.
    """
    made = lower_store(writer, target, index, body, trusted)
    home, waiting = block, list(made.guards)
    for loop in loops[:-1]:
        home, waiting = ready(writer, home, target, waiting)
        home = open_loop(writer, home, loop)
    home, waiting = ready(writer, home, target, waiting)
    roots = (made.address, made.value, *(i for _, i in waiting))
    if loops:
        write_loop(writer, home, loops[-1], roots, lambda inner, parts: made.write(writer, inner, parts, waiting))
    else:
        writer.count(roots)
        made.write(writer, home, roots, waiting)
    close(home, block)


def open_loop(writer: Writer, block: Block, loop: Loop) -> Block:
    """A block for the steps of ``loop``; the caller appends it to ``block`` when it is complete."""
    writer.count((loop.low, loop.high))
    low, high = writer.value(loop.low, block), writer.value(loop.high, block)
    name = writer.variable_name(loop.variable)
    inner = Block(block, f"for (int64_t {name} = {bare(low)}; {name} < {bare(high)}; ++{name})", loop.variable)
    inner.names[loop.variable] = name
    return inner


def ready(
    writer: Writer, block: Block, target: str, guards: list[tuple[int, Expr]]
) -> tuple[Block, list[tuple[int, Expr]]]:
    """Opens a condition for every guard whose variables are bound; returns the innermost block and what is left."""
    known = {v for b in block.outwards() for v in b.names if isinstance(v, Expr)}
    left = []
    for d, i in guards:
        if i.free <= known:
            writer.count((i,))
            block = guarded(writer, block, target, d, i)
        else:
            left.append((d, i))
    return block, left


def guarded(writer: Writer, block: Block, target: str, d: int, index: Expr) -> Block:
    """A block for what happens where this index of a store is inside its dimension."""
    place = writer.memory.places[target]
    extent = writer.memory.lower(place.operand.shape[d])
    text = writer.value(index, block)
    size = writer.value(extent, block)
    return Block(block, f"if (storable({bare(text)}, {bare(size)}, {place.number}, {d}, scratch))")


def close(inner: Block, outer: Block) -> None:
    """Appends every finished block to its parent, up to ``outer``."""
    while inner is not outer:
        assert inner.parent is not None
        inner.parent.items.append(inner)
        inner = inner.parent


def full(variable: Expr, pragma: str = "") -> Loop:
    """The loop over all of a variable's range."""
    from onelaunch.program.program import maximum

    extent = variable.args[0]
    return Loop(variable, build.const(0), extent, (0, max(maximum(extent) - 1, 0)), pragma)
