"""Simplification against brute force: every simplified expression equals its plain form for all values of variables."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from onelaunch.frontend import views
from onelaunch.graph import build
from onelaunch.graph import index
from onelaunch.graph.build import const
from onelaunch.graph.build import sym
from onelaunch.graph.build import var
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute

VARIABLES = (var("i", 3), var("j", 7), var("k", 4), sym("s", -2, 3))
VALUES = (range(3), range(7), range(4), range(-2, 4))
Tree = tuple  # ("var", n), ("const", c) or (operation, tree, tree)


def trees() -> st.SearchStrategy[Tree]:
    """Integer expressions as plain data. Divisors are constants but now and then a positive variable expression."""
    leaves = st.one_of(st.tuples(st.just("var"), st.integers(0, 3)), st.tuples(st.just("const"), st.integers(-12, 12)))

    def grow(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        return st.one_of(
            st.tuples(st.sampled_from(["add", "sub", "mul", "min", "max"]), inner, inner),
            st.tuples(
                st.sampled_from(["floordiv", "mod"]),
                inner,
                st.tuples(st.just("const"), st.sampled_from([1, 2, 3, 4, 6, 7, 12, 84])),
            ),
            st.tuples(st.sampled_from(["floordiv", "mod"]), inner, st.just(("add", ("var", 1), ("const", 1)))),
            st.tuples(st.just("where"), st.sampled_from(["lt", "le"]), inner, inner),
        )

    return st.recursive(leaves, grow, max_leaves=10)


PYTHON: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv, "mod": operator.mod,
    "min": min, "max": max, "lt": operator.lt, "le": operator.le,
}  # fmt: skip
BUILD: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": build.add, "sub": build.sub, "mul": build.mul, "floordiv": build.floordiv, "mod": build.mod,
    "min": lambda a, b: build.pointwise(Op.MIN, a, b), "max": lambda a, b: build.pointwise(Op.MAX, a, b),
    "lt": build.lt, "le": build.le,
}  # fmt: skip


def truth(tree: Tree, values: tuple[int, ...]) -> int:
    """The value of a tree, by Python alone."""
    if tree[0] == "var":
        return values[tree[1]]
    if tree[0] == "const":
        return tree[1]
    if tree[0] == "where":
        a, b = truth(tree[2], values), truth(tree[3], values)
        return a if PYTHON[tree[1]](a, b) else b - 1
    return PYTHON[tree[0]](truth(tree[1], values), truth(tree[2], values))


def built(tree: Tree) -> Expr:
    """The simplified expression of a tree."""
    if tree[0] == "var":
        return VARIABLES[tree[1]]
    if tree[0] == "const":
        return const(tree[1])
    if tree[0] == "where":
        a, b = built(tree[2]), built(tree[3])
        return build.where(BUILD[tree[1]](a, b), a, build.sub(b, const(1)))
    return BUILD[tree[0]](built(tree[1]), built(tree[2]))


EVALUATE: dict[Op, Callable[..., int]] = {
    Op.ADD: operator.add, Op.SUB: operator.sub, Op.MUL: operator.mul, Op.FLOORDIV: operator.floordiv,
    Op.MOD: operator.mod, Op.MIN: min, Op.MAX: max, Op.NEG: operator.neg, Op.LT: operator.lt, Op.LE: operator.le,
    Op.EQ: operator.eq, Op.NE: operator.ne, Op.WHERE: lambda c, a, b: a if c else b, Op.CAST: int,
}  # fmt: skip


def value(e: Expr, table: dict[Expr, int]) -> int:
    """The value of an expression, node by node."""
    if e in table:
        return table[e]
    if e.is_const:
        return e.value
    return EVALUATE[e.op](*(value(a, table) for a in e.args))


def assignments() -> list[tuple[int, ...]]:
    return list(itertools.product(*VALUES))


@settings(max_examples=250, deadline=None)
@given(trees())
def test_simplified_equals_plain(tree: Tree) -> None:
    e = built(tree)
    found = index.bounds(e)
    seen = []
    for values in assignments():
        wanted = truth(tree, values)
        seen.append(wanted)
        assert value(e, dict(zip(VARIABLES, values, strict=True))) == wanted, (str(e), values)
    assert found is not None
    assert found[0] <= min(seen) <= max(seen) <= found[1]


@settings(max_examples=100, deadline=None)
@given(
    trees(), st.tuples(*(st.integers(0, len(v) - 1) for v in VALUES)), st.tuples(*(st.integers(1, 4) for _ in VALUES))
)
def test_bounds_over_a_part_of_the_range(tree: Tree, start: tuple[int, ...], length: tuple[int, ...]) -> None:
    parts = [list(v)[a : a + n] for v, a, n in zip(VALUES, start, length, strict=True)]
    e = built(tree)
    found = index.bounds(e, {v: (p[0], p[-1]) for v, p in zip(VARIABLES, parts, strict=True)})
    seen = [truth(tree, values) for values in itertools.product(*parts)]
    assert found is not None
    assert found[0] <= min(seen) <= max(seen) <= found[1]


@settings(max_examples=100, deadline=None)
@given(trees(), trees(), st.integers(0, 3))
def test_substitution_is_evaluation_of_the_replaced(tree: Tree, other: Tree, which: int) -> None:
    e, replacement = built(tree), built(other)
    replaced = substitute(e, {VARIABLES[which]: replacement})
    for values in assignments()[::7]:
        inner = [*values]
        inner[which] = truth(other, values)
        # A variable's range is a promise: rules may rely on it, so only values inside it count.
        if inner[which] in VALUES[which]:
            assert value(replaced, dict(zip(VARIABLES, values, strict=True))) == truth(tree, tuple(inner))


@settings(max_examples=100, deadline=None)
@given(trees())
def test_terms_are_the_expression(tree: Tree) -> None:
    e = built(tree)
    assert index.from_terms(*index.terms(e)) is e


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 5]), max_size=4), st.randoms(use_true_random=False))
def test_reshape_is_the_flat_order(factors: list[int], random) -> None:
    def grouped() -> list[int]:
        shape, size = [], 1
        for f in factors:
            size *= f
            if random.random() < 0.5:
                shape.append(size)
                size = 1
        return [*shape, size, *([1] if random.random() < 0.3 else [])]

    random.shuffle(factors)
    view, source = grouped(), grouped()
    variables = [const(0) if n == 1 else var(f"v{d}", n) for d, n in enumerate(view)]
    mapped = views.reshape(tuple(variables), [const(n) for n in view], [const(n) for n in source])
    for flat, place in enumerate(itertools.product(*map(range, view))):
        table = {v: n for v, n in zip(variables, place, strict=True) if v.op is Op.VAR}
        at = [value(e, table) for e in mapped]
        assert sum(n * math.prod(source[d + 1 :]) for d, n in enumerate(at)) == flat


def test_views_of_views_vanish() -> None:
    i, j = var("i", 6), var("j", 64)
    flat = build.add(build.mul(i, const(64)), j)
    assert build.floordiv(flat, 64) is i
    assert build.mod(flat, 64) is j
    assert build.add(build.mul(build.floordiv(flat, 16), const(16)), build.mod(flat, 16)) is flat
    assert build.floordiv(build.floordiv(flat, 4), 16) is i
    assert build.mod(build.mod(flat, 64), 16) is build.mod(j, 16)


def test_extents_read_at_run_time_cancel() -> None:
    s = sym("s", 1, 1024)
    i, j = var("i", s), var("j", const(5))
    assert build.floordiv(i, s) is const(0)
    assert build.mod(i, s) is i
    assert build.lt(j, build.add(s, const(4))) is not None
    assert index.bounds(build.mul(s, j)) == (0, 4096)


def test_comparisons_are_decided_by_ranges_alone() -> None:
    i = var("i", 7)
    assert build.lt(i, const(7)) is const(True, DType.BOOL)
    assert build.le(const(0), i) is const(True, DType.BOOL)
    assert build.lt(const(6), i) is const(False, DType.BOOL)
    assert not build.lt(i, const(6)).is_const
