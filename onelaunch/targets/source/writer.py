"""Writing the values of expressions into blocks.

A value is computed in the outermost block in which its variables are bound, once; what a condition guards stays inside
it. A reduction becomes a loop in that same place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.index import from_terms
from onelaunch.graph.index import terms
from onelaunch.targets.source import printer
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import Dialect
from onelaunch.targets.source.memory import Memory
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.reserved import RESERVED

if TYPE_CHECKING:
    from onelaunch.targets.source.loops import Members

LONGEST_INLINE = 100  # characters: a longer text gets a name, even where it is used once


class Writer:
    """Values of lowered expressions as C++ names and texts, inside one function."""

    def __init__(self, memory: Memory, dialect: Dialect, symbols: dict[str, str]) -> None:
        self.memory, self.dialect, self.symbols = memory, dialect, symbols
        self.taken: set[str] = set(RESERVED) | set(symbols.values())
        self.counters: Counter[str] = Counter()
        self.uses: Counter[Expr] = Counter()

    def fresh(self, prefix: str, numbered: bool = True) -> str:
        """A name not used before in this function."""
        while True:
            name = f"{prefix}{self.counters[prefix]}" if numbered or self.counters[prefix] else prefix
            self.counters[prefix] += 1
            if name not in self.taken:
                self.taken.add(name)
                return name

    def variable_name(self, variable: Expr) -> str:
        """A name for the loop over ``variable``."""
        text = "".join(c if c.isalnum() else "_" for c in str(variable.attr))
        return self.fresh(text if text[:1].isalpha() else f"i{text}", numbered=False)

    def count(self, roots: Sequence[Expr]) -> None:
        """Learns how often each value is used below ``roots``, to decide what gets a name."""
        self.uses = Counter()
        seen: set[Expr] = set()
        for root in roots:
            self.uses[root] += 1
            for node in walk(root):
                if node not in seen:
                    seen.add(node)
                    self.uses.update(node.args)

    def value(self, e: Expr, block: Block) -> str:
        """The text of ``e``'s value in ``block``; what it needs is written there or further out."""
        if e.op is Op.CONST:
            return printer.literal(e)
        if e.op is Op.SYM:
            return self.symbols[e.attr[0]]
        known = block.find(e)
        if known is not None:
            return known
        assert e.op not in (Op.VAR, Op.ACC), f"{e} is not bound where it is used"
        place = self.place(e, block)
        text = self._text(e, place)
        if text.isidentifier():
            place.names[e] = text
            return text
        if place is block and self.uses[e] <= 1 and len(text) <= LONGEST_INLINE:
            return text
        return self.define(e, text, place)

    def named(self, e: Expr, block: Block) -> str:
        """The value of ``e`` as a name or literal."""
        text = self.value(e, block)
        return text if text.isidentifier() or e.is_const else self.define(e, text, block)

    def define(self, e: Expr, text: str, block: Block) -> str:
        """Gives the value of ``e``, computed by ``text``, a name in ``block``."""
        name = self.fresh("t")
        block.items.append(f"const {self.dialect.compute(e.dtype)} {name} = {bare(text)};")
        block.names[e] = name
        return name

    def dealt(self, block: Block) -> Members | None:
        """How a reduction in ``block`` goes to a team of threads (see ``Loop``); None: one thread does all of it."""
        return None

    def combined(self, name: str, e: Expr, block: Block) -> str:
        """The statement that makes the reduction ``e`` of its members' parts, each in its own ``name``."""
        raise NotImplementedError

    def place(self, e: Expr, block: Block) -> Block:
        """The outermost block that may compute ``e``; a condition is left only together with a loop around it."""
        found = block
        guarded = self.memory.unsafe(e)
        for b in block.outwards():
            found = b
            if any(v in b.names for v in e.free):
                break
            if guarded and not b.is_loop and b.parent is not None:
                break
        return block if found.loop() is block.loop() and not block.is_loop else found

    def _text(self, e: Expr, block: Block) -> str:
        match e.op:
            case Op.LOAD:
                return self._load(e, block)
            case Op.WHERE:
                return self._where(e, block)
            case Op.REDUCE:
                from onelaunch.targets.source.loops import write_reduction

                return write_reduction(self, e, block)
            case Op.ADD | Op.SUB | Op.MUL if e.dtype is DType.I64:
                return self._sum(e, block)
        twice = e.op is Op.POW and e.args[1].is_const
        operands = [self.named(a, block) if twice else self.value(a, block) for a in e.args]
        return printer.operation(e, operands, self.dialect)

    def _sum(self, e: Expr, block: Block) -> str:
        """Integer sums: what is known further out is added there."""
        outer, inner = self._hoistable(e, block)
        if outer is None or inner is None:
            return printer.operation(e, [self.value(a, block) for a in e.args], self.dialect)
        return f"({self.value(outer, block)} + {self.value(inner, block)})"

    def _hoistable(self, e: Expr, block: Block) -> tuple[Expr | None, Expr | None]:
        """``e`` as a sum of what can be computed outside ``block`` and the rest; None where a part is empty."""
        parts, constant = terms(e)
        varies = bound(block)
        here = {
            t: k for t, k in parts.items()
            if t.free & varies or (self.place(t, block) is block and block.find(t) is None)
        }  # fmt: skip
        outside = {t: k for t, k in parts.items() if t not in here}
        if not outside:
            return None, e
        if not here:
            return e, None
        if all(t.op is Op.SYM for t in outside) and len(outside) + bool(constant) == 1:
            return None, e
        return from_terms(outside, constant), from_terms(here, 0)

    def _load(self, e: Expr, block: Block) -> str:
        if e.attr.startswith("?"):
            return self._checked(e, block)
        where = self.memory[e.attr]
        place = f"{self.pointer(e.attr.lstrip('!'), e.args[0], block)}"
        return self.dialect.load(where.operand.dtype, place)

    def pointer(self, name: str, address: Expr, block: Block) -> str:
        """The element at ``address`` as an lvalue, from a pointer computed as far out as possible."""
        base = self.memory.places[name].pointer
        outer, inner = self._hoistable(address, block)
        if outer is None or inner is None or outer.is_const:
            return f"{base}[{bare(self.value(address, block))}]"
        home = self.place(outer, block)
        key = (name, outer)
        shifted = block.find(key)
        if shifted is None:
            offset = bare(self.value(outer, home))
            shifted = self.fresh("p")
            home.items.append(f"const auto {shifted} = {base} + {offset};")
            home.names[key] = shifted
        return f"{shifted}[{bare(self.value(inner, block))}]"

    def _checked(self, e: Expr, block: Block) -> str:
        """An index picked by data: inside its dimension, or a fault is noted and the access clamped."""
        name, _, d = e.attr[1:].rpartition(".")
        where = self.memory.places[name]
        index = self.named(e.args[0], block)
        size = self.value(self.memory.lower(where.operand.shape[int(d)]), block)
        name = self.fresh("t")
        block.items.append(f"const int64_t {name} = checked({index}, {bare(size)}, {where.number}, {d}, scratch);")
        return name

    def _where(self, e: Expr, block: Block) -> str:
        condition, *sides = e.args
        chosen = self.value(condition, block)
        if not any(self.memory.unsafe(a) for a in sides):
            then, other = (self.named(a, block) for a in sides)
            return f"({chosen} ? {then} : {other})"
        name = self.fresh("t")
        block.items.append(f"{self.dialect.compute(e.dtype)} {name};")
        branches = []
        for header, side in ((f"if ({bare(chosen)})", sides[0]), ("else", sides[1])):
            inner = Block(block, header)
            inner.items.append(f"{name} = {bare(self.value(side, inner))};")
            branches.append(inner)
        block.items.extend(branches)  # together: what the second hoists must not come between them
        return name


def bound(block: Block) -> frozenset[Expr]:
    """The variable that the innermost loop around ``block`` binds."""
    loop = block.loop()
    return frozenset() if loop is None or loop.variable is None else frozenset((loop.variable,))


def identifier(name: str) -> str:
    """A C++ name that resembles ``name``."""
    text = "".join(c if c.isalnum() else "_" for c in name)
    return text if text[:1].isalpha() else f"x{text}"
