"""Keys or values of an attention as memory: where the row of a position begins.

A cache in one piece has rows ``stride`` elements apart. In a cache in pages, data say where a page begins: ``base`` is
an expression of the position, and only rows of one page are ``stride`` elements apart.
"""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.index import from_terms
from onelaunch.graph.index import terms
from onelaunch.program.program import maximum
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.loops import ALONE
from onelaunch.targets.source.matrix import STREAMED
from onelaunch.targets.source.matrix import stored
from onelaunch.targets.source.memory import Memory
from onelaunch.targets.source.newest import loaded
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.writer import Writer


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """``base``: the element of ``operand`` at which the first row begins or, where ``page`` is not 0, the row of the
    position ``key``. ``page``: so many positions, from a multiple of it on, have their rows ``stride`` elements apart.
    """

    dtype: DType
    operand: str
    base: Expr
    stride: int
    page: int = 0

    def at(self, key: Expr) -> Expr:
        """The element at which the row of position ``key`` begins."""
        return self.base if self.page else build.add(self.base, build.mul(key, build.const(self.stride)))

    @property
    def grain(self) -> int:
        """Elements: each row begins at a multiple of them from the operand's first."""
        parts, constant = terms(self.base)
        return math.gcd(constant, *parts.values(), *(() if self.page else (self.stride,)))


def in_place(memory: Memory, e: Expr, key: Expr, element: Expr, low: Expr) -> Rows | None:
    """Keys or values ``e`` of position ``key`` where they lie with unit stride along ``element``, from ``low`` on."""
    source = stored(e)
    if source.op is not Op.LOAD or source.dtype not in STREAMED:
        return None
    parts, constant = terms(memory.lower(source).args[0])
    if parts.pop(element, 0) != 1 or any(element in t.free for t in parts):
        return None
    stride = parts.pop(key, 0)
    if any(key in t.free for t in parts):
        base = build.add(from_terms({**parts, key: stride}, constant), low)
        if any(node.op is Op.REDUCE for node in walk(base)):  # each lane would reduce for itself
            return None
        return Rows(source.dtype, source.attr, base, *_pages(base, key))
    if stride <= 0:
        return None
    base = build.add(build.const(constant), low)
    for term, factor in parts.items():
        base = build.add(base, build.mul(term, build.const(factor)))
    return Rows(source.dtype, source.attr, base, stride)


def row_in_place(memory: Memory, e: Expr, element: Expr, low: Expr) -> Rows | None:
    """One row of keys or values ``e`` where it lies with unit stride along ``element``, from ``low`` on."""
    source = loaded(e)
    if source is None or source.dtype not in STREAMED:
        return None
    parts, constant = terms(memory.lower(source).args[0])
    if parts.pop(element, 0) != 1 or any(element in t.free for t in parts):
        return None
    return Rows(source.dtype, source.attr, build.add(from_terms(parts, constant), low), 0)


def _pages(base: Expr, key: Expr) -> tuple[int, int]:
    """(stride, page) of rows that begin at ``base``; a page of one position where nothing larger is proved."""
    sizes = [
        int(e.args[1].value)
        for e in walk(base)
        if e.op in (Op.FLOORDIV, Op.MOD) and e.args[0] is key and e.args[1].is_const
    ]
    size = math.gcd(*sizes)
    if size > 1:
        page, place = build.var("page", -(-maximum(key.args[0]) // size)), build.var("place", size)
        parts, _ = terms(substitute(base, {key: build.add(build.mul(page, build.const(size)), place)}))
        stride = parts.pop(place, 0)
        if stride > 0 and not any(place in t.free for t in parts):
            return stride, size
    return 0, 1


def write_start(writer: Writer, rows: Rows, block: Block) -> str:
    """The address of the first row."""
    writer.count((rows.base,))
    return f"{writer.memory.places[rows.operand].pointer} + {bare(writer.value(rows.base, block))}"


def write_starts(writer: Writer, rows: Rows, key: Expr, block: Block) -> str:
    """The operand's address, and the element at which the row of a position begins, as a function of it. What data pick
    is tested there.
    """
    row = rows.at(key)
    name, position = writer.fresh("row", numbered=False), writer.fresh("position", numbered=False)
    body = Block(block, f"const auto {name} = [&](int64_t {position}) -> int64_t", key)
    body.end, body.shared = "};", ALONE
    body.names[key] = position
    writer.count((row,))
    text = writer.value(row, body)
    body.items.append(f"return {bare(text)};")
    block.items.append(body)
    return f"{writer.memory.places[rows.operand].pointer}, {name}"
