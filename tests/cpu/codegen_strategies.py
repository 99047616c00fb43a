"""Random loop nests, and programs made of them: what the generated C++ and the reference must agree on."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import strategies as st

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Buffer
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import Symbol
from onelaunch.program.program import maximum
from tests.programs import Builder
from tests.programs import cut

FLOATS = [DType.F32, DType.BF16, DType.F16, DType.F64]
SYMBOL = Symbol("n", 1, 19)
N = b.sym("n", 1, 19)
CHOICES = 23  # values of the buffers that pick indices
UNARY = [Op.NEG, Op.ABS, Op.TANH, Op.SIGMOID, Op.SIN, Op.COS, Op.ERF, Op.FLOOR, Op.CEIL, Op.TRUNC, Op.SIGN, Op.ROUND]


@dataclasses.dataclass
class Case:
    """A nest with the shapes and types of what it loads."""

    nest: Nest
    operands: dict[str, tuple[DType, tuple[Expr, ...]]]
    cuts: list[int]


class Maker:
    """Draws one nest."""

    def __init__(self, draw, wide: bool) -> None:
        self.draw, self.wide = draw, wide
        self.operands: dict[str, tuple[DType, tuple[Expr, ...]]] = {}
        self.reductions = 0
        self.floats = [DType.F64] if wide else [DType.F32, DType.BF16, DType.F16]

    def pick(self, items):
        return self.draw(st.sampled_from(list(items)))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def operand(self, dtype: DType, shape: tuple[Expr, ...]) -> str:
        name = f"x{len(self.operands)}"
        self.operands[name] = (dtype, shape)
        return name

    def index(self, variables: list[Expr]) -> tuple[Expr, int]:
        """An integer expression of variables, and an exclusive upper bound of it (it is never negative)."""
        kind = self.number(0, 7)
        v = self.pick(variables)
        n = maximum(v.args[0])
        if kind <= 2 or not v.args[0].is_const:
            return v, n
        if kind == 3:
            d = self.pick([2, 3, 8, 9])
            return b.mod(v, d), d
        if kind == 4:
            d = self.pick([2, 3, 8, 9])
            return b.floordiv(v, d), (n - 1) // d + 1
        if kind == 5:
            return b.sub(b.const(n - 1), v), n
        if kind == 6:
            w, m = self.index([x for x in variables if x.args[0].is_const] or [v])
            d = self.pick([3, 4, 8])
            flat = b.add(b.mul(v, b.const(m)), w)
            return (b.mod(flat, d), d) if self.number(0, 1) else (b.floordiv(flat, d), (n * m - 1) // d + 1)
        c = self.number(1, 3)
        return b.add(v, b.const(c)), n + c

    def load(self, variables: list[Expr], dtype: DType | None = None) -> Expr:
        dtype = dtype or self.pick(self.floats)
        pairs = []
        for _ in range(self.number(1, 3)):
            if self.number(0, 9) == 0:
                chosen, n = self.index(variables)
                where = self.operand(DType.I64, (b.const(n),))
                pairs.append((b.load(where, (chosen,), DType.I64), b.const(CHOICES)))
                continue
            i, n = self.index(variables)
            pairs.append((i, i.args[0] if i.op is Op.VAR else b.const(n)))
        name = self.operand(dtype, tuple(n for _, n in pairs))
        return b.load(name, tuple(i for i, _ in pairs), dtype)

    def split(self, variables: list[Expr], depth: int) -> Expr:
        """where(v < c, x[v], y[v - c]): a concatenation; neither load is in bounds on the other side."""
        v = self.pick([v for v in variables if v.args[0].is_const] or [b.var("none", 1)])
        n = maximum(v.args[0])
        if n < 2 or v not in variables:
            return self.load(variables)
        c = self.number(1, n - 1)
        dtype = self.pick(self.floats)
        sides = (b.load(self.operand(dtype, (b.const(c),)), (v,), dtype),
                 b.load(self.operand(dtype, (b.const(n - c),)), (b.sub(v, b.const(c)),), dtype))  # fmt: skip
        if self.number(0, 1):
            sides = (b.mul(sides[0], self.value(variables, depth - 1)), sides[1])
        condition = b.lt(v, b.const(c)) if self.number(0, 1) else b.le(v, b.const(c - 1))
        if self.number(0, 3) == 0:
            return b.where(b.pointwise(Op.NOT, condition), sides[1], sides[0])
        return b.where(condition, *sides)

    def guarded(self, variables: list[Expr], depth: int) -> Expr:
        """where(limit <= v, a, b) with a limit that is data, around a load that needs it."""
        v = self.pick(variables)
        limit = b.load(self.operand(DType.I64, (b.const(1),)), (b.const(0),), DType.I64)
        n = maximum(v.args[0])
        dtype = self.pick(self.floats)
        source = b.load(self.operand(dtype, (b.const(n),)), (b.sub(v, limit),), dtype)
        return b.where(b.le(limit, v), source, self.value(variables, depth - 1))

    def reduce(self, variables: list[Expr], depth: int) -> Expr:
        self.reductions += 1
        extent = N if self.number(0, 5) == 0 else self.pick([2, 3, 7, 16, 33])
        r = b.var(f"r{self.number(0, 1)}", extent)
        inner = [v for v in variables if v.attr != r.attr] + [r, r]
        return b.reduce(self.pick(["sum", "sum", "max", "min"]), r, self.value(inner, depth - 1))

    def value(self, variables: list[Expr], depth: int) -> Expr:
        if depth <= 0:
            return self.load(variables)
        kind = self.number(0, 11)
        sub = lambda: self.value(variables, depth - 1)  # noqa: E731
        if kind <= 3:
            op = self.pick([b.add, b.sub, b.mul])
            return op(sub(), sub())
        if kind == 4:
            return b.pointwise(self.pick([Op.MIN, Op.MAX]), sub(), sub())
        if kind == 5:
            x = sub()  # steps only of what both sides compute to the same bit
            return b.pointwise(self.pick(UNARY if x.op is Op.LOAD else UNARY[:7]), x)
        if kind == 6:
            i, _ = self.index(variables)
            return b.cast(i, self.floats[0])
        if kind == 7:
            return b.cast(sub(), self.pick(self.floats))
        if kind == 8:
            x, y = self.load(variables), self.load(variables)
            return b.where(b.lt(x, y), sub(), sub())
        if kind == 9:
            return self.guarded(variables, depth)
        return self.split(variables, depth) if kind == 10 or self.reductions > 2 else self.reduce(variables, depth)


@st.composite
def cases(draw) -> Case:
    m = Maker(draw, wide=draw(st.integers(0, 5)) == 0)
    extents = [m.pick([1, 2, 3, 5, 8, 16, 24, 33]) for _ in range(m.number(0, 3))]
    variables = [b.var(f"i{d}", N if m.number(0, 7) == 0 else e) for d, e in enumerate(extents)]
    known = variables or [b.var("unit", 1)]
    body = m.value(known, m.number(1, 4)) if variables else m.reduce([], 2)
    dtype = m.pick(m.floats)
    if m.number(0, 4) == 0:
        dtype = m.pick([DType.I64, DType.I32, DType.I16, DType.BOOL])
        i, _ = m.index(known) if variables else (b.const(3), 4)
        body = b.cast(i, dtype) if dtype is not DType.BOOL else b.lt(i, b.const(4))
    else:
        body = b.cast(body, dtype)
    nest = Nest(tuple(variables), "y", dtype, tuple(variables), body)
    return Case(nest, m.operands, [m.number(1, maximum(v.args[0])) for v in variables])


def program(made: list[Case], strides: list[int]) -> Program:
    """Every nest on its own buffers; the last dimension of float inputs is strided by what ``strides`` says."""
    p = Builder("cases", 1, (SYMBOL,))
    for c, case in enumerate(made):
        bound = {}
        for number, (name, (dtype, shape)) in enumerate(case.operands.items()):
            bound[name] = p.buffer(f"{name}.{c}", shape, Role.INPUT, dtype)
            _stretch(p, strides[(number + c) % len(strides)])
        shape = tuple(v.args[0] for v in case.nest.vars)
        bound["y"] = p.buffer(f"y.{c}", shape, Role.OUTPUT, case.nest.dtype)
        _stretch(p, strides[c % len(strides)])
        p.op(f"case{c}")
        tiles: list[tuple] = [()]
        for v, size in zip(case.nest.vars, case.cuts, strict=True):
            tiles = [(*t, span) for t in tiles for span in cut(maximum(v.args[0]), size)]
        for tile in tiles[:64] if len(tiles) <= 64 else [tuple((0, maximum(v.args[0])) for v in case.nest.vars)]:
            p.task(case.nest, bound, tile, 0)
    return p.link()


def _stretch(p: Builder, factor: int) -> None:
    last = p.buffers[-1]
    p.buffers[-1] = dataclasses.replace(last, strides=tuple(b.mul(s, b.const(factor)) for s in last.strides))


def memory(program: Program, seed: int) -> list[torch.Tensor]:
    """Flat memory of every buffer: floats, or small integers that are valid indices."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for buffer in program.buffers:
        count = max(buffer.nbytes // buffer.dtype.itemsize, 1) + 3
        if buffer.role is Role.OUTPUT:
            out.append(torch.full((count,), 77, dtype=buffer.dtype.torch))
        elif buffer.dtype.is_float:
            out.append(torch.randn(count, generator=generator).to(buffer.dtype.torch))
        else:
            high = CHOICES if maximum(buffer.shape[0]) > 1 else 9
            out.append(torch.randint(0, high, (count,), generator=generator).to(buffer.dtype.torch))
    return out


def view(buffer: Buffer, flat: torch.Tensor, symbols: dict[str, int]) -> torch.Tensor:
    """The elements that a launch with these symbols writes."""
    from onelaunch.targets.cpu.executable import evaluate

    shape = [evaluate(e, symbols) for e in buffer.shape]
    return flat.as_strided(shape, [maximum(s) for s in buffer.strides])
