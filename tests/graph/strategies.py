"""Hypothesis strategies: expressions and nests of every form, well-typed but not necessarily sensible."""

from __future__ import annotations

from hypothesis import strategies as st

from onelaunch.graph.build import acc
from onelaunch.graph.build import const
from onelaunch.graph.build import load
from onelaunch.graph.build import sym
from onelaunch.graph.build import var
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import COMPARISONS
from onelaunch.graph.expr import REDUCTIONS
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import MASKED
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.graph.text import default_dtype

SYMBOLS = {"s": sym("s", 1, 8), "pos": sym("pos", -(2**62), 2**62)}
LOADED = {"x": DType.F32, "w.0": DType.BF16, "half": DType.F16, "ids": DType.I64, "mask": DType.BOOL, "d": DType.F64}
UNARY = [Op.NEG, Op.ABS, Op.EXP, Op.TANH, Op.SIGMOID, Op.NOT, Op.ISNAN, Op.ROUND, Op.TRUNC]
BINARY = [Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.FLOORDIV, Op.MOD, Op.MIN, Op.MAX, Op.POW, Op.LT, Op.LE, Op.EQ, Op.AND]

dtypes = st.sampled_from(list(DType))
floats = st.floats(allow_nan=True, allow_infinity=True)
numbers = st.one_of(
    st.integers(-(2**62), 2**62).map(const),
    st.tuples(st.integers(-100, 100), dtypes).map(lambda pair: const(*pair)),
    st.tuples(floats, st.sampled_from([DType.F32, DType.BF16, DType.F64])).map(lambda pair: const(*pair)),
    st.booleans().map(lambda b: const(b, DType.BOOL)),
)


def leaves(variables: tuple[Expr, ...]) -> st.SearchStrategy[Expr]:
    """Constants, symbols, sums of contractions, variables."""
    return st.one_of(numbers, st.sampled_from([*SYMBOLS.values(), acc(0), acc(1), *variables]))


def expressions(variables: tuple[Expr, ...] = ()) -> st.SearchStrategy[Expr]:
    """Any expression over ``variables``, built without simplification."""
    fresh = var("r", 5)

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        return st.one_of(
            st.tuples(st.sampled_from(UNARY), inner, dtypes, st.booleans()).map(
                lambda t: _typed(t[0], (t[1],), *t[2:])
            ),
            st.tuples(st.sampled_from(BINARY), inner, inner, dtypes, st.booleans()).map(
                lambda t: _typed(t[0], (t[1], t[2]), *t[3:])
            ),
            st.tuples(inner, inner, inner, dtypes, st.booleans()).map(lambda t: _typed(Op.WHERE, t[:3], *t[3:])),
            st.tuples(inner, dtypes).map(lambda t: Expr.make(Op.CAST, (t[0],), None, t[1])),
            st.tuples(st.sampled_from(sorted(LOADED)), st.lists(inner, max_size=3)).map(
                lambda t: Expr.make(Op.LOAD, tuple(t[1]), t[0], LOADED[t[0]])
            ),
            st.tuples(st.sampled_from(sorted(REDUCTIONS)), inner).map(
                lambda t: Expr.make(Op.REDUCE, (fresh, t[1]), t[0], t[1].dtype)
            ),
        )

    return st.recursive(leaves((*variables, fresh)), grow, max_leaves=12)


def _typed(op: Op, args: tuple[Expr, ...], dtype: DType, explicit: bool) -> Expr:
    default = default_dtype(Expr.make(op, args, None, DType.F32))
    return Expr.make(op, args, None, dtype if explicit and op not in COMPARISONS else default)


def closed(e: Expr, allowed: frozenset[Expr]) -> Expr:
    """``e`` with the variables it may not use summed away."""
    for v in sorted(e.free - allowed, key=str):
        e = Expr.make(Op.REDUCE, (v, e), "sum", e.dtype)
    return e


@st.composite
def nests(draw: st.DrawFn) -> Nest:
    """Rows, scatters, linears and attentions."""
    extents = draw(st.lists(st.one_of(st.integers(0, 70), st.just(SYMBOLS["s"])), max_size=3))
    variables = tuple(var(f"i{n}", extent) for n, extent in enumerate(extents))
    k, key, head = var("k", draw(st.integers(2, 9))), var("key", 128), var("head", SYMBOLS["s"])

    def expression(*extra: Expr) -> Expr:
        usable = (*variables, *extra)
        return closed(draw(expressions(usable)), frozenset(usable))

    def matrix() -> Expr:
        return load("w.0", [expression(k), k], DType.BF16)

    form = draw(st.sampled_from(["rows", "linear", "attend"]))
    contractions = tuple(
        Contraction(k, expression(k), matrix()) for _ in range(draw(st.integers(1, 2)) if form == "linear" else 0)
    )
    attention = None
    if form == "attend":
        maybe = [expression() if draw(st.booleans()) else None for _ in range(3)]
        attention = Attention(
            key, head, expression(head), expression(key, head), expression(key), expression(key), *maybe,
            masked=draw(st.sampled_from(MASKED)), part=draw(st.sampled_from([None, *variables])),
        )  # fmt: skip
    index = tuple(draw(st.one_of(st.just(v), st.builds(expression))) for v in variables)
    return Nest(
        variables, draw(st.sampled_from(["x", "y"])), draw(dtypes), index, expression(), contractions, attention
    )
