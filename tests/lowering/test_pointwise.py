"""Every line of the pointwise table against eager torch."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.frontend.pointwise import POINTWISE
from tests.lowering.single import assert_eager
from tests.lowering.single import run

aten = torch.ops.aten
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.uint8)


def real(*shape: int, dtype: torch.dtype = torch.float32, low: float = -3.0, high: float = 3.0) -> torch.Tensor:
    """Numbers between ``low`` and ``high``, the same at every call."""
    generator = torch.Generator().manual_seed(sum(shape) + 1)
    return (torch.rand(shape, generator=generator, dtype=torch.float32) * (high - low) + low).to(dtype)


def whole(*shape: int, dtype: torch.dtype = torch.int64, low: int = -9, high: int = 10) -> torch.Tensor:
    """Integers from ``low`` to ``high`` - 1."""
    if dtype is torch.uint8:
        low = 0
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(sum(shape) + 1)).to(dtype)


def truth(*shape: int) -> torch.Tensor:
    return whole(*shape) % 2 == 0


SPECIAL = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 0.5, -0.5, 1e-30, 1e30])
ANY = [
    "abs", "neg", "sign", "exp", "exp2", "expm1", "sin", "cos", "tanh", "sigmoid", "silu", "gelu", "relu",
    "leaky_relu", "softplus", "hardtanh", "erf", "floor", "ceil", "trunc", "round", "square", "isnan", "isinf",
    "clone", "alias", "detach", "lift_fresh_copy", "logical_not", "reciprocal", "sgn", "tan", "atan", "asin", "acos",
    "sinh", "cosh", "elu", "asinh", "atanh",
]  # fmt: skip
POSITIVE = ["sqrt", "rsqrt", "log", "log2", "log10", "log1p", "acosh"]
INTEGER_UNARY = ["abs", "neg", "sign", "floor", "ceil", "trunc", "round", "square", "isnan", "isinf", "clone",
                 "exp", "sqrt", "sin", "reciprocal", "relu", "bitwise_not", "logical_not"]  # fmt: skip
BINARY = ["add", "sub", "rsub", "mul", "div", "true_divide", "floor_divide", "remainder", "fmod", "atan2", "minimum",
          "maximum", "copysign"]  # fmt: skip
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]
BITWISE = ["bitwise_and", "bitwise_or", "bitwise_xor"]
OTHERS = {"erfinv", "pow", "clamp", "clamp_min", "clamp_max", "bitwise_not", "contiguous", "signbit", "hypot"}


def test_every_operation_of_the_table_is_tested_here() -> None:
    assert set(POINTWISE) == {*ANY, *POSITIVE, *BINARY, *COMPARISONS, *LOGICAL, *BITWISE, *OTHERS}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ANY)
def test_unary(name: str, dtype: torch.dtype) -> None:
    assert_eager(getattr(aten, name).default, real(7, 3, dtype=dtype))


@pytest.mark.parametrize("name", [*ANY, *POSITIVE, "erfinv"])
def test_unary_of_special_values(name: str) -> None:
    # At infinity torch's own gelu differs from CPU to CPU (with AVX-512 it is NaN).
    assert_eager(getattr(aten, name).default, SPECIAL[~SPECIAL.isinf()] if name == "gelu" else SPECIAL)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", POSITIVE)
def test_unary_of_positive(name: str, dtype: torch.dtype) -> None:
    assert_eager(getattr(aten, name).default, real(1009, dtype=dtype, low=0.1, high=100.0))


def test_signs_of_zeros() -> None:
    assert_eager(aten.signbit.default, SPECIAL)
    assert_eager(aten.signbit.default, whole(7))
    sizes, signs = SPECIAL[:, None], SPECIAL[~SPECIAL.isnan()]
    assert_eager(aten.reciprocal.default, run(aten.copysign.Tensor, sizes, signs)[0])
    assert_eager(aten.copysign.Tensor, sizes, signs)
    assert_eager(aten.copysign.Scalar, real(5), -0.0)
    assert torch.equal(run(aten.signbit.default, run(aten.asinh.default, SPECIAL)[0])[0], SPECIAL.signbit())


@pytest.mark.parametrize("dtype", FLOATS)
def test_hypot(dtype: torch.dtype) -> None:
    assert_eager(aten.hypot.default, real(7, 3, dtype=dtype), real(3, dtype=dtype))
    if dtype is torch.float32:
        assert_eager(aten.hypot.default, SPECIAL[:, None], SPECIAL)


def test_erfinv() -> None:
    assert_eager(aten.erfinv.default, real(1009, low=-0.999, high=0.999))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", INTEGER_UNARY)
def test_unary_of_integers(name: str, dtype: torch.dtype) -> None:
    low = 1 if name in ("sqrt", "reciprocal") else -9
    assert_eager(getattr(aten, name).default, whole(5, 3, dtype=dtype, low=low))


@pytest.mark.parametrize("name", ["logical_not", "bitwise_not", "sigmoid", "clone"])
def test_unary_of_bool(name: str) -> None:
    assert_eager(getattr(aten, name).default, truth(9))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*BINARY, *COMPARISONS])
def test_binary(name: str, dtype: torch.dtype) -> None:
    op = getattr(aten, name).Tensor if hasattr(getattr(aten, name), "Tensor") else getattr(aten, name).default
    assert_eager(op, real(7, 9, dtype=dtype), real(7, 9, dtype=dtype).flip(0).contiguous() + 0.25)
    assert_eager(op, real(7, 1, 3, dtype=dtype), real(5, 1, dtype=dtype, low=0.5))


@pytest.mark.parametrize("name", [*BINARY, *COMPARISONS])
def test_binary_of_special_values(name: str) -> None:
    op = getattr(aten, name).Tensor if hasattr(getattr(aten, name), "Tensor") else getattr(aten, name).default
    assert_eager(op, SPECIAL[:, None].contiguous(), SPECIAL)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", [*(n for n in BINARY if n != "atan2"), *COMPARISONS, *LOGICAL, *BITWISE])
def test_binary_of_integers(name: str, dtype: torch.dtype) -> None:
    op = getattr(aten, name).Tensor if hasattr(getattr(aten, name), "Tensor") else getattr(aten, name).default
    divisor = whole(7, dtype=dtype, low=1)
    assert_eager(op, whole(13, 7, dtype=dtype), divisor)
    if dtype is not torch.uint8:
        assert_eager(op, whole(13, 7, dtype=dtype), -divisor)


@pytest.mark.parametrize("name", [*LOGICAL, *BITWISE, *COMPARISONS])
def test_binary_of_bool(name: str) -> None:
    op = getattr(aten, name).Tensor if hasattr(getattr(aten, name), "Tensor") else getattr(aten, name).default
    assert_eager(op, truth(4, 1), truth(1, 7))


@pytest.mark.parametrize("name", LOGICAL)
def test_logic_of_numbers(name: str) -> None:
    assert_eager(getattr(aten, name).default, real(7).round(), whole(5, 1))


@pytest.mark.parametrize("name", ["add", "sub", "rsub", "mul", "div", "remainder", "fmod", *COMPARISONS])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.int32])
@pytest.mark.parametrize("number", [2, -3, 0.1, -2.5])
def test_a_number_as_second_operand(name: str, dtype: torch.dtype, number: float) -> None:
    op = getattr(aten, name).Scalar
    x = whole(7, 3, dtype=dtype) if dtype in INTEGERS else real(7, 3, dtype=dtype)
    if number == 0.1 and dtype in FLOATS:
        x[0, :] = 0.1  # equal to the number only once that is rounded to the tensor's type
    if name in ("remainder", "fmod") and dtype in FLOATS:
        number = 2 if number == 2 else -2.5  # exactly representable: no quotient near an integer is decided by rounding
    assert_eager(op, x, number)


@pytest.mark.parametrize("pair", [
    (torch.float32, torch.int64), (torch.bfloat16, torch.int64), (torch.bfloat16, torch.float32),
    (torch.float16, torch.bfloat16), (torch.int32, torch.int64), (torch.bool, torch.int64), (torch.bool, torch.float16),
    (torch.uint8, torch.int32), (torch.float64, torch.float32),
])  # fmt: skip
@pytest.mark.parametrize("name", ["add", "mul", "lt", "eq", "div", "maximum"])
def test_promotion(name: str, pair: tuple[torch.dtype, torch.dtype]) -> None:
    op = getattr(aten, name).Tensor if hasattr(getattr(aten, name), "Tensor") else getattr(aten, name).default
    a, b = (whole(6, 5, low=0).to(d) for d in pair)
    assert_eager(op, a, b.flip(1).contiguous() + torch.ones((), dtype=b.dtype))


def test_zero_dimensional_tensors() -> None:
    assert_eager(aten.add.Tensor, torch.tensor(2.5), torch.tensor(4))
    assert_eager(aten.mul.Tensor, real(7), torch.tensor(0.3))
    assert_eager(aten.exp.default, torch.tensor(0.7, dtype=torch.bfloat16))


@pytest.mark.parametrize("alpha", [1, 2, -0.5])
@pytest.mark.parametrize("name", ["add", "sub", "rsub"])
def test_alpha(name: str, alpha: float) -> None:
    assert_eager(getattr(aten, name).Tensor, real(5, 1), real(5, 3), alpha=alpha)


def test_alpha_of_integers() -> None:
    assert_eager(aten.add.Tensor, whole(7), whole(7).flip(0), alpha=3)


@pytest.mark.parametrize("mode", ["floor", "trunc", None])
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_rounded_division(dtype: torch.dtype, mode: str | None) -> None:
    x = whole(9, 7, dtype=dtype) if dtype in INTEGERS else real(9, 7, dtype=dtype).mul(8).round()
    y = torch.tensor([1, 2, 3, 5, 4, 7, 6], dtype=dtype)
    assert_eager(aten.div.Tensor_mode, x, y, rounding_mode=mode)
    if dtype is not torch.uint8:
        assert_eager(aten.div.Tensor_mode, x, -y, rounding_mode=mode)
    assert_eager(aten.div.Scalar_mode, x, 3, rounding_mode=mode)


def test_floor_division_of_floats_is_exact_where_the_quotient_rounds() -> None:
    x = torch.tensor([1.0, 2.0, -1.0, 0.3, 6.0, 1.0, 0.0, math.inf])
    assert_eager(aten.floor_divide.default, x, torch.tensor([0.1, 0.1, 0.1, 0.1, -0.2, 0.0, 0.0, 2.0]))


def test_arithmetic_of_narrow_integers_wraps() -> None:
    x = torch.tensor([250, 3, 128], dtype=torch.uint8)
    assert_eager(aten.add.Tensor, x, x)
    assert_eager(aten.mul.Tensor, torch.tensor([2**30, -7], dtype=torch.int32), torch.tensor(4, dtype=torch.int32))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [2, 3, 0.5, -0.5, -1, -2, 1, 0, 4, 1.7, 2.0])
def test_pow_of_a_number(dtype: torch.dtype, exponent: float) -> None:
    assert_eager(aten.pow.Tensor_Scalar, real(7, 5, dtype=dtype, low=0.1), exponent)


@pytest.mark.parametrize("exponent", [2, 3, -1, 0.5, -0.5, 1.7, 5])
def test_pow_of_special_values(exponent: float) -> None:
    assert_eager(aten.pow.Tensor_Scalar, SPECIAL, exponent)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5])
def test_pow_of_integers(exponent: int) -> None:
    assert_eager(aten.pow.Tensor_Scalar, whole(7, 3), exponent)
    assert_eager(aten.pow.Tensor_Tensor, whole(7, 3), torch.full((3,), exponent))


def test_pow_of_tensors() -> None:
    assert_eager(aten.pow.Tensor_Tensor, real(7, 5, low=0.1), real(5))
    assert_eager(aten.pow.Scalar, 10000.0, real(1009))
    assert_eager(aten.pow.Scalar, 2, whole(9, low=0))


def test_clamp() -> None:
    x = real(7, 9)
    for dtype in FLOATS:
        assert_eager(aten.clamp.default, x.to(dtype), -0.3, 0.7)
    assert_eager(aten.clamp.default, x, None, 0.7)
    assert_eager(aten.clamp.default, x, 0.5)
    assert_eager(aten.clamp.default, SPECIAL, -1, 2)
    assert_eager(aten.clamp.default, x, 0.7, -0.3)
    assert_eager(aten.clamp.default, x, min=0.1)
    assert_eager(aten.clamp.default, x, max=0.1)
    assert_eager(aten.clamp.Tensor, x, real(9, low=-1, high=0), real(7, 1, low=0, high=1))
    assert_eager(aten.clamp.Tensor, x, max=real(9))
    assert_eager(aten.clamp.default, whole(7), -2, 3)
    assert_eager(aten.clamp_min.default, x, 0.25)
    assert_eager(aten.clamp_max.default, x, 0.25)
    assert_eager(aten.clamp_min.default, whole(7), 2)


def test_parameters_of_activations() -> None:
    x = real(7, 9)
    assert_eager(aten.gelu.default, x, approximate="tanh")
    assert_eager(aten.gelu.default, x.bfloat16(), approximate="tanh")
    assert_eager(aten.leaky_relu.default, x, 0.2)
    assert_eager(aten.elu.default, x, 1.3, 0.7, 2)
    assert_eager(aten.softplus.default, x * 30, 2, 10)
    assert_eager(aten.hardtanh.default, x, -0.5, 2)


def test_contiguous_and_clone_in_another_layout() -> None:
    x = real(3, 4, 5).permute(2, 0, 1)
    assert_eager(aten.contiguous.default, x)
    assert_eager(aten.clone.default, x, memory_format=torch.contiguous_format)
    assert run(aten.clone.default, x)[0].stride() == aten.clone.default(x).stride()
