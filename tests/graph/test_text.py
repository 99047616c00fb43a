"""Expressions as text: the very same object comes back, and what is no expression is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.build import add
from onelaunch.graph.build import const
from onelaunch.graph.build import lt
from onelaunch.graph.build import mul
from onelaunch.graph.build import reduce
from onelaunch.graph.build import sub
from onelaunch.graph.build import var
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.text import Scope
from onelaunch.graph.text import parse_expr
from onelaunch.graph.text import print_expr
from tests.graph.strategies import LOADED
from tests.graph.strategies import SYMBOLS
from tests.graph.strategies import expressions

ROW, R = var("i", 4), var("r", 5)


def scope() -> Scope:
    return Scope({"i": ROW, "r": R}, SYMBOLS, LOADED.__getitem__)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions((ROW,)))
def test_every_expression_comes_back(e: Expr):
    assert parse_expr(print_expr(e), scope()) is e


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-5, 1e22, -1.5, math.inf, -math.inf, math.nan, 3.0e-300])
@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16, DType.F64])
def test_every_literal_comes_back(value: float, dtype: DType):
    e = const(value, dtype)
    again = parse_expr(print_expr(e), scope())
    assert repr(again.value) == repr(e.value) and again.dtype is dtype


def test_reads_as_one_would_write_it():
    x = Expr.make(Op.LOAD, (ROW, R), "x", DType.F32)
    assert print_expr(reduce("sum", R, mul(x, x))) == "sum(r < 5: %x[i, r] * %x[i, r])"
    assert print_expr(sub(x, sub(x, const(1.0, DType.F32)))) == "%x[i, r] - (%x[i, r] - 1.0)"
    assert print_expr(add(mul(ROW, const(-5)), const(3))) == "i * (-5) + 3"
    assert print_expr(lt(ROW, SYMBOLS["s"])) == "i < $s"


def test_variables_that_would_capture_each_other_are_not_printed():
    inner = Expr.make(Op.REDUCE, (var("r", 7), Expr.make(Op.ADD, (R, var("r", 7)), None, DType.I64)), "sum", DType.I64)
    with pytest.raises(ValueError, match="two variables r"):
        print_expr(inner)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks 'an operand'"),
        ("i +", "lacks 'an operand'"),
        ("(i", r"lacks '\)'"),
        ("i i", "'i' after its end"),
        ("j", "'j', which is not declared"),
        ("$t", "'t', which is not declared"),
        ("frobnicate(i)", "unknown operation 'frobnicate'"),
        ("var(i)", "unknown operation 'var'"),
        ("load(i)", "unknown operation 'load'"),
        ("exp(i, i)", "gives exp 2 operands, not 1"),
        ("where(i, i)", "gives where 2 operands, not 3"),
        ("bf16()", "gives bf16 0 operands, not 1"),
        ("add.f31(i, i)", "'f31' is not a valid DType"),
        ("1:f31", "'f31' is not a valid DType"),
        ("%unknown[i]", "unknown"),
        ("i # 4", "not understood at ' # 4'"),
        ("sum(3 < 4: i)", "'3' where a variable belongs"),
        ("(" * 5000, "nested too deeply"),
        ("9" * 5000, "not understood"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, message: str):
    with pytest.raises(ProgramFormatError, match=message) as caught:
        parse_expr(text, scope())
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
