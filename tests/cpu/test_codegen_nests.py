"""Rows and Scatter kernels: indices picked by data, faults, types, and what NaN and infinity do."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Nest
from onelaunch.targets.cpu.target import CpuTarget
from tests.cpu.codegen_run import folder
from tests.cpu.codegen_run import one_kernel
from tests.cpu.codegen_run import run

F32, I64, BF16 = DType.F32, DType.I64, DType.BF16


def rows(extents, body, dtype=F32):
    variables = tuple(b.var(f"i{d}", n) for d, n in enumerate(extents))
    return Nest(variables, "y", dtype, variables, body(*variables))


def lookup():
    return rows((4, 9), lambda i, j: b.load("table", (b.load("ids", (i,), I64), j), F32))


def test_embedding():
    table, ids = torch.randn(11, 9), torch.tensor([3, 10, 0, 3])
    assert torch.equal(run(lookup(), {"ids": ids, "table": table, "y": torch.zeros(4, 9)}, (1, 4)), table[ids])


@pytest.mark.parametrize("bad", [-1, 11, 2**40, -(2**40)])
def test_an_index_outside_the_table_is_an_error(bad):
    tensors = {"ids": torch.tensor([3, bad, 0, 3]), "table": torch.randn(11, 9), "y": torch.zeros(4, 9)}
    built = CpuTarget().build(one_kernel(lookup(), tensors), folder())
    with pytest.raises(IndexError, match=rf"index {bad} is out of bounds for dimension 0 of table with size 11"):
        built.launch([t.data_ptr() for t in tensors.values()], ())
    tensors["ids"][1] = 5
    built.launch([t.data_ptr() for t in tensors.values()], ())
    assert torch.equal(tensors["y"], tensors["table"][tensors["ids"]])


def test_an_index_that_is_not_chosen_is_not_checked():
    chosen = lambda i: b.lt(b.load("ids", (i,), I64), b.const(11))  # noqa: E731
    nest = rows(
        (4, 9),
        lambda i, j: b.where(chosen(i), b.load("table", (b.load("ids", (i,), I64), j), F32), b.const(0.0, F32)),
    )
    table, ids = torch.randn(11, 9), torch.tensor([3, 2**50, 0, 12])
    want = torch.stack([table[3], torch.zeros(9), table[0], torch.zeros(9)])
    assert torch.equal(run(nest, {"ids": ids, "table": table, "y": torch.ones(4, 9)}), want)


def scatter():
    i, j = b.var("i", 4), b.var("j", 9)
    return Nest((i, j), "y", F32, (b.load("slots", (i,), I64), j), b.load("x", (i, j), F32))


def test_scatter_leaves_out_negative_slots():
    x, y = torch.randn(4, 9), torch.zeros(6, 9)
    slots = torch.tensor([5, -1, 0, -7])
    run(scatter(), {"x": x, "slots": slots, "y": y}, (2, 4))
    want = torch.zeros(6, 9)
    want[[5, 0]] = x[[0, 2]]
    assert torch.equal(y, want)


def test_scatter_past_the_end_is_an_error_and_stores_nothing():
    room = torch.zeros(8, 9)
    tensors = {"x": torch.randn(4, 9), "slots": torch.tensor([0, 6, 1, 2]), "y": room[:6]}
    with pytest.raises(IndexError, match=r"index 6 .* dimension 0 of y with size 6"):
        run(scatter(), tensors)
    assert not room[6:].any()


def test_stores_at_computed_columns():
    """A Scatter inside the innermost loop: every other column, and none where the index is negative."""
    i = b.var("i", 7)
    nest = Nest((i,), "y", F32, (b.sub(b.mul(i, b.const(2)), b.const(4)),), b.load("x", (i,), F32))
    x = torch.randn(7)
    y = run(nest, {"x": x, "y": torch.zeros(9)})
    want = torch.zeros(9)
    want[::2] = x[2:]
    assert torch.equal(y, want)


SPECIAL = torch.tensor([0.0, -0.0, 1.5, -1.5, 2.5, 1e-40, -3e38, math.inf, -math.inf, math.nan, 0.3, -7.25])


@pytest.mark.parametrize("kind", ["max", "min", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("at", [None, 0, 17, 36])
def test_reductions_propagate_nan(kind, dtype, at):
    r = b.var("r", 37)
    nest = rows((2,), lambda i: b.reduce(kind, r, b.load("x", (i, r), from_torch(dtype))), from_torch(dtype))
    x = torch.randn(2, 37).to(dtype)
    if at is not None:
        x[1, at] = math.nan
    want = {"max": x.amax, "min": x.amin, "sum": x.sum}[kind](1)
    got = run(nest, {"x": x, "y": torch.zeros(2, dtype=dtype)})
    torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-2)


POINTWISE = {
    Op.MIN: torch.minimum, Op.MAX: torch.maximum, Op.FMOD: torch.fmod, Op.MOD: torch.remainder,
    Op.FLOORDIV: lambda x, y: torch.div(x, y, rounding_mode="floor"), Op.POW: torch.pow, Op.ATAN2: torch.atan2,
    Op.DIV: torch.div,
}  # fmt: skip
UNARY = {
    Op.ROUND: torch.round, Op.TRUNC: torch.trunc, Op.FLOOR: torch.floor, Op.CEIL: torch.ceil, Op.SIGN: torch.sign,
    Op.ABS: torch.abs, Op.NEG: torch.neg, Op.EXP: torch.exp, Op.EXPM1: torch.expm1, Op.LOG: torch.log,
    Op.LOG1P: torch.log1p, Op.LOG2: torch.log2, Op.SQRT: torch.sqrt, Op.RSQRT: torch.rsqrt, Op.SIN: torch.sin,
    Op.COS: torch.cos, Op.TANH: torch.tanh, Op.SIGMOID: torch.sigmoid, Op.ERF: torch.erf, Op.ERFINV: torch.erfinv,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_unary_operation(dtype):
    d, n = from_torch(dtype), len(SPECIAL)
    x = SPECIAL.to(dtype)
    k = b.var("k", n)
    stack = None
    which = b.var("op", len(UNARY))
    for number, op in enumerate(UNARY):
        value = b.pointwise(op, b.load("x", (k,), d))
        stack = value if stack is None else b.where(b.lt(which, b.const(number)), stack, value)
    nest = Nest((which, k), "y", d, (which, k), stack)
    got = run(nest, {"x": x, "y": torch.zeros(len(UNARY), n, dtype=dtype)})
    for row, (op, f) in zip(got, UNARY.items(), strict=True):
        finite = x.abs() < 1e30 if op in (Op.SIN, Op.COS) else torch.ones(n, dtype=torch.bool)
        torch.testing.assert_close(row[finite], f(x)[finite], equal_nan=True, rtol=3e-6, atol=1e-9, msg=str(op))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int32])
def test_every_binary_operation(dtype):
    d = from_torch(dtype)
    x = (SPECIAL if dtype.is_floating_point else torch.tensor([-7, -3, -1, 0, 1, 2, 5, 2**30])).to(dtype)
    ops = [o for o in POINTWISE if d.is_float or o not in (Op.ATAN2, Op.DIV, Op.POW)]
    i, j, which = b.var("i", len(x)), b.var("j", len(x)), b.var("op", len(ops))
    stack = None
    for number, op in enumerate(ops):
        value = b.pointwise(op, b.load("x", (i,), d), b.load("x", (j,), d))
        stack = value if stack is None else b.where(b.lt(which, b.const(number)), stack, value)
    nest = Nest((which, i, j), "y", d, (which, i, j), stack)
    got = run(nest, {"x": x, "y": torch.zeros(len(ops), len(x), len(x), dtype=dtype)})
    for table, op in zip(got, ops, strict=True):
        columns = x != 0 if not d.is_float else torch.ones(len(x), dtype=torch.bool)
        want = POINTWISE[op](x[:, None], x[None, columns])
        torch.testing.assert_close(table[:, columns], want, equal_nan=True, rtol=3e-6, atol=1e-9, msg=str(op))


def test_integer_division_by_zero_does_not_stop_the_process():
    nest = rows((3,), lambda i: b.add(b.floordiv(i, b.load("z", (i,), I64)), b.mod(i, b.load("z", (i,), I64))), I64)
    assert run(nest, {"z": torch.zeros(3, dtype=torch.int64), "y": torch.ones(3, dtype=torch.int64)}).tolist() == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("to", [torch.bfloat16, torch.float16, torch.int32, torch.int8, torch.uint8, torch.bool])
def test_casts_round_as_torch_does(to):
    x = torch.randn(300) * 50
    nest = rows((300,), lambda i: b.cast(b.cast(b.load("x", (i,), F32), from_torch(to)), F32))
    assert torch.equal(run(nest, {"x": x, "y": torch.zeros(300)}), x.to(to).float())


def test_zero_dimensions_and_empty_ranges():
    nest = Nest((), "y", F32, (), b.reduce("sum", b.var("r", 5), b.load("x", (b.var("r", 5),), F32)))
    assert float(run(nest, {"x": torch.ones(5), "y": torch.zeros(())})) == 5.0
