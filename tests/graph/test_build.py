"""Smart constructors: exact folding, promotion, casts; rewriting and the kinds of nests."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from onelaunch.graph import build
from onelaunch.graph.build import acc
from onelaunch.graph.build import const
from onelaunch.graph.build import load
from onelaunch.graph.build import var
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import rewrite
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.fold import fold_constants
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest
from onelaunch.targets.reference import scalar

F32, I64, BOOL, BF16 = DType.F32, DType.I64, DType.BOOL, DType.BF16
I = var("i", 7)  # noqa: E741
X = load("x", [I], F32)
single = st.floats(width=32)
FOLDED = [Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.MIN, Op.MAX, Op.LT, Op.LE, Op.EQ, Op.NE]


def bits(x: float) -> bytes:
    return struct.pack("f", x)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FOLDED), single, single)
def test_folding_changes_no_bit(op: Op, a: float, b: float) -> None:
    e = build.pointwise(op, const(a, F32), const(b, F32))
    if not e.is_const:
        return
    wanted = scalar.POINTWISE[op](torch.tensor(a), torch.tensor(b)).item()
    if isinstance(wanted, bool):
        assert e.value is wanted
    else:
        assert bits(e.value) == bits(wanted) or (e.value == wanted == 0 and op in (Op.MIN, Op.MAX))


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**40), 2**40), st.sampled_from([DType.I8, DType.U8, DType.I16, DType.I32, F32, DType.F64, BOOL]))
def test_casts_of_integers_are_torchs(value: int, dtype: DType) -> None:
    assert build.cast(const(value), dtype).value == torch.tensor(value).to(dtype.torch).item()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Op.FLOORDIV, Op.MOD, Op.AND, Op.OR, Op.XOR]), st.integers(-99, 99), st.integers(-9, 9))
def test_integers_fold_as_torch_computes(op: Op, a: int, b: int) -> None:
    found = fold_constants(op, [a, b], I64)
    if b == 0 and op in (Op.FLOORDIV, Op.MOD):
        assert found is None
    else:
        assert found == scalar.POINTWISE[op](torch.tensor(a), torch.tensor(b)).item()


@pytest.mark.parametrize("a", list(DType))
@pytest.mark.parametrize("b", list(DType))
def test_promotion_is_torchs(a: DType, b: DType) -> None:
    known = {(DType.U8, DType.I8): DType.I16}  # torch widens where neither holds the other
    wanted = from_torch(torch.promote_types(a.torch, b.torch))
    assert build.promote(a, b) is wanted or known.get((a, b)) is wanted or known.get((b, a)) is wanted


def test_floats_keep_their_signed_zeros_and_rounding() -> None:
    assert build.mul(X, const(1.0, F32)) is X
    assert build.add(X, const(0.0, F32)) is not X  # -0.0 + 0.0 is 0.0
    narrow = build.cast(X, BF16)
    assert build.cast(narrow, F32) is not X  # the rounding stays
    assert build.cast(build.cast(load("n", [I], DType.I32), I64), DType.I32) is load("n", [I], DType.I32)
    assert build.where(const(True, BOOL), X, const(1.0, F32)) is X


def test_equal_expressions_are_one_object() -> None:
    a = build.add(build.mul(X, X), const(1.0, F32))
    b = build.add(build.mul(load("x", [I], F32), X), const(1.0, F32))
    assert a is b
    assert const(True, BOOL) is not const(1)
    assert const(0.0, F32) is not const(-0.0, F32)
    with pytest.raises(TypeError, match="interned"):
        Expr()


def test_reductions() -> None:
    one, r = var("r", 1), var("r", 9)
    body = build.mul(load("x", [I, r], F32), load("w", [r], F32))
    total = build.reduce("sum", r, body)
    assert total.free == {I}
    assert substitute(build.reduce("sum", one, load("x", [one], F32)), {}) is load("x", [0], F32)
    upto = var("r", build.add(I, const(1)))
    assert build.reduce("sum", upto, load("x", [upto], F32)).free == {I}
    assert loads(total) == (load("x", [I, r], F32), load("w", [r], F32))


def test_rewriting_visits_operands_first_and_once() -> None:
    e = build.add(build.pointwise(Op.EXP, X), build.pointwise(Op.SIN, X))
    seen: list[Expr] = []
    assert rewrite(e, lambda n: seen.append(n)) is e
    assert len(seen) == len(set(seen)) == len(list(walk(e)))
    assert seen[-1] is e
    doubled = rewrite(e, lambda n: build.add(n, n) if n.op is Op.LOAD else None)
    assert loads(doubled) == (X,)
    assert sum(n.op is Op.ADD for n in walk(doubled)) == 2


def test_rebuilding_follows_wider_operands() -> None:
    half = load("h", [I], BF16)
    e = build.pointwise(Op.EXP, build.add(half, half))
    wide = substitute(e, {half: X})
    assert wide.dtype is F32
    assert substitute(build.lt(half, half), {half: X}).dtype is BOOL


def nest(**parts: object) -> Nest:
    given = {"vars": (I,), "target": "y", "dtype": F32, "index": (I,), "body": X, **parts}
    return Nest(**given)  # type: ignore[arg-type]


def test_kinds_of_nests() -> None:
    j, k = var("j", 5), var("k", 3)
    assert nest().kind is Kind.ROWS
    assert nest(vars=(I, j), index=(j, const(0), I)).kind is Kind.ROWS
    assert nest(vars=(), index=(const(0),), body=const(1.0, F32)).kind is Kind.ROWS
    assert nest(index=(build.add(I, const(1)),)).kind is Kind.SCATTER
    assert nest(index=(I, I)).kind is Kind.SCATTER
    assert nest(index=(load("ids", [I], I64),)).kind is Kind.SCATTER
    matrix = Contraction(k, load("x", [k], F32), load("w", [I, k], F32))
    assert nest(contractions=(matrix,), body=acc(0)).kind is Kind.LINEAR
    q = load("q", [k], F32)
    attention = Attention(j, k, q, load("k", [j, k], F32), load("v", [j, I], F32), acc(0), None, None, None, "nan")
    attend = nest(attention=attention, body=acc(0))
    assert attend.kind is Kind.ATTEND
    assert {e.attr for e in attend.loads()} == {"q", "k", "v"}
    renamed = attend.map(lambda e: rewrite(e, lambda n: load(f"{n.attr}2", n.args, F32) if n.op is Op.LOAD else None))
    assert {e.attr for e in renamed.loads()} == {"q2", "k2", "v2"}
    assert {e.attr for e in attend.loads()} == {"q", "k", "v"}


@pytest.mark.parametrize("dtype", list(DType))
def test_element_types_are_torchs(dtype: DType) -> None:
    assert from_torch(dtype.torch) is dtype
    assert dtype.itemsize == dtype.torch.itemsize
    assert dtype.compute.is_float == dtype.is_float
    assert from_torch(torch.complex64) is None


def test_infinite_constants_stay_for_run_time() -> None:
    assert not build.add(const(math.inf, F32), const(-math.inf, F32)).is_const
