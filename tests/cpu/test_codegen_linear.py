"""Linear kernels against torch in double precision: layouts, types, token counts, offsets, shared prologues."""

from __future__ import annotations

import pytest
import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Symbol
from tests.cpu import codegen_run
from tests.cpu.codegen_run import one_kernel
from tests.cpu.codegen_run import run


def nest_of(t, n, k, x_dtype, w_dtype, w_index=None, tokens=None):
    i, j, r = b.var("t", tokens or t), b.var("n", n), b.var("k", k)
    x = b.load("x", (i, r), x_dtype)
    w = b.load("w", w_index(j, r) if w_index else (j, r), w_dtype)
    return Nest(
        (i, j), "y", DType.F32, (i, j), b.add(b.acc(0), b.load("bias", (j,), DType.F32)), (Contraction(r, x, w),)
    )


def tensors_of(t, n, k, x_dtype, w):
    return {
        "x": torch.randn(t, k).to(x_dtype), "w": w, "bias": torch.randn(n), "y": torch.full((t, n), float("nan")),
    }  # fmt: skip


LIMIT = 1e-6  # of the sum of products' sizes


def close(tensors, w, y, rows=None):
    want = tensors["x"].double()[:rows] @ w.double().T + tensors["bias"].double()
    scale = (tensors["x"].double()[:rows].abs() @ w.double().abs().T).clamp(min=1e-9)
    assert float(((y[:rows].double() - want).abs() / scale).max()) < LIMIT


@pytest.mark.parametrize("w_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("t", "n", "k"), [(1, 1009, 72), (3, 24, 33), (8, 40, 576), (11, 7, 100)])
def test_out_in(t, n, k, w_dtype):
    torch.manual_seed(0)
    w = torch.randn(n, k).to(w_dtype)
    tensors = tensors_of(t, n, k, torch.float32, w)
    nest = nest_of(t, n, k, DType.F32, from_torch(w_dtype))
    close(tensors, w, run(nest, tensors, (0, 8), weights=("w",)))


@pytest.mark.parametrize(("t", "n", "k"), [(1, 100, 72), (5, 33, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_out(t, n, k, dtype):
    w = torch.randn(k, n).to(dtype)
    tensors = tensors_of(t, n, k, dtype, w)
    nest = nest_of(t, n, k, from_torch(dtype), from_torch(dtype), lambda j, r: (r, j))
    codegen_run.expect("linear_columns<", one_kernel(nest, tensors, (0, 16), weights=("w",)))
    close(tensors, w.T, run(nest, tensors, (0, 16), weights=("w",)))


def test_a_part_of_a_fused_projection():
    whole = torch.randn(60, 48)
    tensors = tensors_of(2, 20, 48, torch.float32, whole)
    nest = nest_of(2, 20, 48, DType.F32, DType.F32, lambda j, r: (b.add(j, b.const(30)), r))
    codegen_run.expect(" linear<", one_kernel(nest, tensors))
    close(tensors, whole[30:50], run(nest, tensors, (0, 8)))


def test_strided_weights_take_the_plain_loop():
    whole = torch.randn(20, 96)
    tensors = tensors_of(2, 20, 48, torch.float32, whole[:, ::2])
    nest = nest_of(2, 20, 48, DType.F32, DType.F32)
    codegen_run.expect(" linear<", one_kernel(nest, tensors), 0)
    close(tensors, whole[:, ::2], run(nest, tensors, (0, 8)))


def test_interleaved_rows_take_the_plain_loop():
    whole = torch.randn(20, 48)
    tensors = tensors_of(2, 20, 48, torch.float32, whole)
    nest = nest_of(2, 20, 48, DType.F32, DType.F32, lambda j, r: (b.floordiv(j, 2), r))
    close(tensors, whole[torch.arange(20) // 2], run(nest, tensors, (0, 8)))


@pytest.mark.parametrize("used", [1, 5, 8])
def test_fewer_tokens_than_the_bucket(used):
    tokens = b.sym("T", 1, 8)
    w = torch.randn(40, 64).to(torch.bfloat16)
    tensors = tensors_of(8, 40, 64, torch.float32, w)
    nest = nest_of(8, 40, 64, DType.F32, DType.BF16, tokens=tokens)
    shapes = {"x": (tokens, b.const(64)), "y": (tokens, b.const(40))}
    y = run(nest, tensors, (0, 16), (used,), shapes=shapes, symbols=(Symbol("T", 1, 8),))
    close(tensors, w, y, used)
    assert y[used:].isnan().all()


def test_many_tokens():
    w = torch.randn(24, 40).to(torch.bfloat16)
    tensors = tensors_of(150, 24, 40, torch.float32, w)
    close(tensors, w, run(nest_of(150, 24, 40, DType.F32, DType.BF16), tensors, (0, 8)))


def test_tokens_in_tiles_and_two_variables():
    i, s, j, r = b.var("b", 3), b.var("s", 2), b.var("n", 20), b.var("k", 48)
    x, w = torch.randn(3, 2, 48), torch.randn(20, 48)
    nest = Nest(
        (i, s, j), "y", DType.F32, (i, s, j), b.acc(0),
        (Contraction(r, b.load("x", (i, s, r), DType.F32), b.load("w", (j, r), DType.F32)),),
    )  # fmt: skip
    y = run(nest, {"x": x, "w": w, "y": torch.zeros(3, 2, 20)}, (2, 1, 8), weights=("w",))
    torch.testing.assert_close(y, x @ w.T, rtol=1e-5, atol=1e-4)


def test_gate_and_up_share_a_prologue():
    i, j, r = b.var("t", 2), b.var("n", 24), b.var("k", 40)
    x = b.pointwise(Op.TANH, b.load("x", (i, r), DType.F32))
    sides = tuple(Contraction(r, x, b.load(w, (j, r), DType.F32)) for w in ("gate", "up"))
    gate = b.acc(0)
    body = b.mul(b.mul(gate, b.pointwise(Op.SIGMOID, gate)), b.acc(1))
    nest = Nest((i, j), "y", DType.F32, (i, j), body, sides)
    tensors = {"x": torch.randn(2, 40), "gate": torch.randn(24, 40), "up": torch.randn(24, 40), "y": torch.zeros(2, 24)}
    codegen_run.expect("prepare<", one_kernel(nest, tensors), 1)
    want = torch.nn.functional.silu(tensors["x"].tanh() @ tensors["gate"].T) * (tensors["x"].tanh() @ tensors["up"].T)
    torch.testing.assert_close(run(nest, tensors, (0, 8)), want, rtol=1e-4, atol=1e-4)


def test_double_precision_stays_double():
    w = torch.randn(10, 30, dtype=torch.float64)
    tensors = {"x": torch.randn(2, 30, dtype=torch.float64), "w": w, "y": torch.zeros(2, 10, dtype=torch.float64)}
    i, j, r = b.var("t", 2), b.var("n", 10), b.var("k", 30)
    c = Contraction(r, b.load("x", (i, r), DType.F64), b.load("w", (j, r), DType.F64))
    nest = Nest((i, j), "y", DType.F64, (i, j), b.cast(b.acc(0), DType.F64), (c,))
    torch.testing.assert_close(run(nest, tensors), tensors["x"] @ w.T, rtol=1e-6, atol=1e-5)


def test_scattered_rows():
    """Columns of a Linear stored at slots picked by data, one of them negative."""
    i, j, r = b.var("t", 3), b.var("n", 16), b.var("k", 40)
    c = Contraction(r, b.load("x", (i, r), DType.F32), b.load("w", (j, r), DType.F32))
    nest = Nest((i, j), "y", DType.BF16, (b.load("slots", (i,), DType.I64), j), b.acc(0), (c,))
    x, w = torch.randn(3, 40), torch.randn(16, 40)
    tensors = {"x": x, "w": w, "slots": torch.tensor([4, -1, 2]), "y": torch.zeros(6, 16, dtype=torch.bfloat16)}
    y = run(nest, tensors, (0, 8))
    want = torch.zeros(6, 16)
    want[[4, 2]] = (x @ w.T)[[0, 2]]
    torch.testing.assert_close(y.float(), want, rtol=1e-2, atol=1e-2)
