"""Every operation of expressions on the reference target against torch or Python, and the rules of rounding."""

import math

import pytest
import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Op
from onelaunch.program.program import Role
from tests import programs
from tests.programs import F32
from tests.programs import I64

FLOATS = torch.tensor([-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, 3.25, 7.0])
INTS = torch.tensor([-7, -3, -1, 0, 1, 2, 3, 6, 8, 100])

UNARY = {
    Op.NEG: torch.neg, Op.ABS: torch.abs, Op.TRUNC: torch.trunc, Op.FLOOR: torch.floor, Op.CEIL: torch.ceil,
    Op.ROUND: torch.round, Op.SIGN: torch.sign, Op.EXP: torch.exp, Op.EXPM1: torch.expm1, Op.LOG: torch.log,
    Op.LOG1P: torch.log1p, Op.LOG2: torch.log2, Op.SQRT: torch.sqrt, Op.RSQRT: torch.rsqrt, Op.SIN: torch.sin,
    Op.COS: torch.cos, Op.TANH: torch.tanh, Op.SIGMOID: torch.sigmoid, Op.ERF: torch.erf, Op.ERFINV: torch.erfinv,
    Op.ISNAN: torch.isnan,
}  # fmt: skip
BINARY = {
    Op.ADD: torch.add, Op.SUB: torch.sub, Op.MUL: torch.mul, Op.DIV: torch.div, Op.MIN: torch.minimum,
    Op.MAX: torch.maximum, Op.POW: torch.pow, Op.FLOORDIV: torch.floor_divide, Op.MOD: torch.remainder,
    Op.FMOD: torch.fmod, Op.ATAN2: torch.atan2, Op.LT: torch.lt, Op.LE: torch.le, Op.EQ: torch.eq, Op.NE: torch.ne,
}  # fmt: skip


def evaluate(make, inputs, out=F32):
    """``make`` applied to the loads of ``inputs``, element by element, through a whole program."""
    n = len(next(iter(inputs.values()))[0])
    p = programs.Builder("one", 1)
    bound = {name: p.buffer(name, (n,), Role.INPUT, dtype) for name, (_, dtype) in inputs.items()}
    bound["y"] = p.buffer("out", (n,), Role.OUTPUT, out)
    p.op("one")
    nest = programs.rows(
        "y", (n,), lambda i: make(*(b.load(name, (i,), dtype) for name, (_, dtype) in inputs.items())), out
    )
    p.task(nest, bound, ((0, n),), 0)
    return programs.run(p.link(), {name: value for name, (value, _) in inputs.items()}, debug=True)["out"]


@pytest.mark.parametrize("op", UNARY)
def test_unary(op):
    out = DType.BOOL if op is Op.ISNAN else F32
    found = evaluate(lambda x: b.pointwise(op, x), {"x": (FLOATS, F32)}, out)
    torch.testing.assert_close(found, UNARY[op](FLOATS), equal_nan=True)


@pytest.mark.parametrize("op", BINARY)
def test_binary(op):
    other = FLOATS.flip(0)
    out = DType.BOOL if op in (Op.LT, Op.LE, Op.EQ, Op.NE) else F32
    found = evaluate(lambda v, w: b.pointwise(op, v, w), {"v": (FLOATS, F32), "w": (other, F32)}, out)
    torch.testing.assert_close(found, BINARY[op](FLOATS, other), equal_nan=True)


def test_integer_division_is_pythons():
    for d in (3, -3):
        found = evaluate(
            lambda x, d=d: b.add(b.mul(b.floordiv(x, d), b.const(1000)), b.mod(x, d)), {"x": (INTS, I64)}, I64
        )
        assert found.tolist() == [x // d * 1000 + x % d for x in INTS.tolist()]


def test_division_by_zero_is_an_error_only_where_it_happens():
    guarded = lambda x: b.where(b.eq(x, b.const(0)), b.const(-1), b.floordiv(b.const(24), x))  # noqa: E731
    found = evaluate(guarded, {"x": (INTS, I64)}, I64)
    assert found.tolist() == [-1 if x == 0 else 24 // x for x in INTS.tolist()]
    with pytest.raises(ZeroDivisionError):
        evaluate(lambda x: b.floordiv(b.const(24), x), {"x": (INTS, I64)}, I64)


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_half_types_compute_in_fp32_and_round_where_a_cast_says(dtype):
    x = torch.linspace(-3, 3, 31).to(dtype.torch)
    twice = lambda v: b.mul(v, v)  # noqa: E731
    plain = evaluate(lambda v: b.cast(b.add(twice(v), v), F32), {"x": (x, dtype)})
    assert torch.equal(plain, x.float() * x.float() + x.float())
    rounded = evaluate(
        lambda v: b.add(b.cast(b.cast(twice(b.cast(v, F32)), dtype), F32), b.cast(v, F32)), {"x": (x, dtype)}
    )
    assert torch.equal(rounded, (x.float() * x.float()).to(dtype.torch).float() + x.float())
    assert torch.equal(evaluate(twice, {"x": (x, dtype)}, dtype), (x.float() * x.float()).to(dtype.torch))


def test_f64_stays_f64():
    x = torch.tensor([1.0, 1e-12, 3.0], dtype=torch.float64)
    found = evaluate(lambda v: b.add(v, b.const(1.0, DType.F64)), {"x": (x, DType.F64)}, DType.F64)
    assert torch.equal(found, x + 1)


@pytest.mark.parametrize("dtype", [DType.I8, DType.U8, DType.I16, DType.I32])
def test_integer_casts_wrap_and_float_casts_truncate(dtype):
    big = torch.tensor([0, 1, -1, 127, 128, 255, 300, 70000, -70000])
    assert torch.equal(evaluate(lambda v: b.cast(v, dtype), {"x": (big, I64)}, dtype), big.to(dtype.torch))
    small = torch.tensor([0.0, 1.9, 2.5, 100.99])
    assert torch.equal(evaluate(lambda v: b.cast(v, dtype), {"x": (small, F32)}, dtype), small.to(dtype.torch))


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
def test_reductions_whether_or_not_the_body_varies(kind):
    x = torch.randn(3, 5)
    p = programs.Builder("reduce", 1)
    bound = {"x": p.buffer("x", (3, 5), Role.INPUT), "y": p.buffer("out", (3,), Role.OUTPUT)}
    p.op("reduce")
    r = b.var("r", 5)

    def body(i):
        inner = b.reduce(kind, r, b.load("x", (i, r), F32))
        return b.add(inner, b.reduce(kind, b.var("s", 4), b.load("x", (i, b.const(0)), F32)))

    p.task(programs.rows("y", (3,), body), bound, ((0, 3),), 0)
    found = programs.run(p.link(), {"x": x}, debug=True)["out"]
    full = {"sum": x.sum(1), "prod": x.prod(1), "max": x.amax(1), "min": x.amin(1)}[kind]
    same = {"sum": 4 * x[:, 0], "prod": x[:, 0] ** 4, "max": x[:, 0], "min": x[:, 0]}[kind]
    torch.testing.assert_close(found, full + same)


def test_a_reduction_that_ends_where_an_index_says():
    """sum(r < i + 1: x[r]): the extent depends on the nest's variable."""
    x = torch.randn(6)
    p = programs.Builder("triangle", 1)
    bound = {"x": p.buffer("x", (6,), Role.INPUT), "y": p.buffer("out", (6,), Role.OUTPUT)}
    p.op("triangle")
    nest = programs.rows(
        "y", (6,), lambda i: b.reduce("sum", r := b.var("r", b.add(i, b.const(1))), b.load("x", (r,), F32))
    )
    p.task(nest, bound, ((0, 6),), 0)
    torch.testing.assert_close(programs.run(p.link(), {"x": x})["out"], x.cumsum(0))


def test_infinite_scores_leave_positions_out_even_with_nan_behind_them():
    from onelaunch.graph.nest import Attention
    from onelaunch.graph.nest import Nest

    p = programs.Builder("masked", 1)
    q, k, v = (p.buffer(n, s, Role.INPUT) for n, s in (("q", (1, 4)), ("k", (6, 4)), ("v", (6, 4))))
    keep, out = p.buffer("keep", (6,), Role.INPUT, DType.BOOL), p.buffer("out", (1, 4), Role.OUTPUT)
    i, e = programs.grid(1, 4)
    key, head = b.var("key", 6), b.var("head", 4)
    score = b.where(b.load("m", (key,), DType.BOOL), b.acc(0), b.const(-math.inf, F32))
    attention = Attention(
        key, head, b.load("q", (i, head), F32), b.load("k", (key, head), F32), b.load("v", (key, e), F32), score, None,
        None, None, "zero",
    )  # fmt: skip
    p.op("attend")
    nest = Nest((i, e), "y", F32, (i, e), b.acc(0), attention=attention)
    p.task(nest, {"q": q, "k": k, "v": v, "m": keep, "y": out}, ((0, 1), (0, 4)), 0)
    program = p.link()
    given = {"v": torch.randn(6, 4), "keep": torch.tensor([True, False, True, True, False, False])}
    given["v"][1] = math.nan
    m = dict(zip((x.name for x in program.buffers), programs.tensors(program, given), strict=True))
    weight = (m["q"] @ m["k"].T).masked_fill(~m["keep"], -math.inf).softmax(-1)
    torch.testing.assert_close(programs.run(program, given)["out"], weight @ m["v"].nan_to_num())
    none = {"keep": torch.zeros(6, dtype=torch.bool)}
    assert torch.equal(programs.run(program, none)["out"], torch.zeros(1, 4))
