"""Nests as text: equal nests come back, and the text stays as small as the nest."""

from __future__ import annotations

import pytest
from expecttest import assert_expected_inline
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.build import acc
from onelaunch.graph.build import cast
from onelaunch.graph.build import const
from onelaunch.graph.build import load
from onelaunch.graph.build import mul
from onelaunch.graph.build import pointwise
from onelaunch.graph.build import reduce
from onelaunch.graph.build import var
from onelaunch.graph.build import where
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.graph.nest_text import parse_nest
from onelaunch.graph.nest_text import print_nest
from onelaunch.graph.text import Scope
from tests.graph.strategies import LOADED
from tests.graph.strategies import SYMBOLS
from tests.graph.strategies import nests

ROW, J, K, R = var("i", SYMBOLS["s"]), var("j", 16), var("k", 8), var("r", 8)
F32 = DType.F32


def scope() -> Scope:
    return Scope({}, SYMBOLS, LOADED.__getitem__)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(nests())
def test_every_nest_comes_back(nest: Nest):
    assert parse_nest(print_nest(nest).splitlines(), scope()) == nest


def test_linear_with_a_norm_before_it():
    x = cast(load("w.0", [ROW, K], DType.BF16), F32)
    square = load("w.0", [ROW, R], DType.BF16)
    scale = pointwise(Op.RSQRT, reduce("sum", R, mul(cast(square, F32), cast(square, F32))))
    nest = Nest(
        (ROW, J), "y", DType.BF16, (ROW, J), mul(acc(0), pointwise(Op.SIGMOID, acc(1))),
        (Contraction(K, mul(x, scale), load("w.0", [J, K], DType.BF16)),
         Contraction(K, mul(x, scale), load("half", [J, K], DType.F16))),
    )  # fmt: skip
    assert_expected_inline(
        print_nest(nest),
        """\
for i < $s, j < 16
  let t0[k < 8] = f32(%w.0[i, k]) * rsqrt(sum(r < 8: f32(%w.0[i, r]) * f32(%w.0[i, r])))
  contract k < 8
    x = t0
    w = %w.0[j, k]
  contract k < 8
    x = t0
    w = %half[j, k]
  store bf16 %y[i, j] = @0 * sigmoid(@1)""",
    )


def test_attention():
    key, head = var("key", 128), var("head", 4)
    stop = load("ids", [], DType.I64)
    nest = Nest(
        (ROW, J), "y", F32, (ROW, J), acc(0), (),
        Attention(
            key, head, load("x", [ROW, head], F32), load("w.0", [key, head], DType.BF16),
            load("w.0", [key, J], DType.BF16),
            where(load("mask", [key], DType.BOOL), acc(0), const(-float("inf"), F32)), None, stop, None, "zero",
        ),
    )  # fmt: skip
    assert_expected_inline(
        print_nest(nest, "  "),
        """\
  for i < $s, j < 16
    attend key < 128, head < 4, masked zero
      q = %x[i, head]
      k = %w.0[key, head]
      v = %w.0[key, j]
      score = where(%mask[key], @0, -inf)
      stop = %ids[]
    store f32 %y[i, j] = @0""",
    )
    assert parse_nest(print_nest(nest, "  ").splitlines(), scope()) == nest


def test_text_of_a_shared_expression_is_small():
    e = load("x", [ROW], F32)
    for _ in range(200):
        e = mul(pointwise(Op.SIGMOID, e), e)
    nest = Nest((ROW,), "y", F32, (ROW,), e)
    assert len(print_nest(nest)) < 20_000
    assert parse_nest(print_nest(nest).splitlines(), scope()) == nest


def test_a_nest_without_variables():
    nest = Nest((), "y", DType.I64, (), load("ids", [], DType.I64))
    assert print_nest(nest) == "for\n  store i64 %y[] = %ids[]"
    assert parse_nest(print_nest(nest).splitlines(), scope()) == nest


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "lacks its 'store'"),
        (["for i < 4"], "lacks its 'store'"),
        (["store f32 %y[i] = 0.0"], "expected 'for'"),
        (["for i < 4", "store f33 %y[i] = 0.0"], "expected 'store type %target"),
        (["for i < 4", "store f32 i = 0.0"], "expected a place"),
        (["for i < 4", "store f32 %y[i] = k"], "'k', which is not declared"),
        (["for i < 4", "store f32 %y[i] = 0.0", "store f32 %y[i] = 0.0"], "ends with its store"),
        (["for i < 4", "contract k < 2", "x = 1.0", "store f32 %y[i] = @0"], "contract lacks 'w'"),
        (["for i < 4", "contract k < 2", "x = 1.0", "x = 1.0"], "expected let, contract"),
        (["for i < 4", "attend key < 2, head < 2, masked one", "store f32 %y[i] = @0"], "expected 'attend"),
        (["for i < 4", "attend key < 2, head < 2, masked nan", "q = 1.0", "store f32 %y[i] = @0"], "attend lacks 'k'"),
        (["for i < 4", "let t0 1.0"], "expected 'let"),
        (["for i < 4", "x = 1.0"], "expected let, contract"),
    ],
)
def test_what_is_no_nest_is_refused(lines: list[str], message: str):
    with pytest.raises(ProgramFormatError, match=message):
        parse_nest(lines, scope())
