"""Plain functions and the operations of models, as users call them, through ``torch.compile``."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from onelaunch.frontend.backend import backend
from tests.lowering.compiled import assert_same
from tests.lowering.compiled import compare
from tests.lowering.compiled import compiled
from tests.lowering.test_pointwise import real
from tests.lowering.test_pointwise import truth
from tests.lowering.test_pointwise import whole

BOTH = pytest.mark.parametrize("target", ["reference", "cpu"])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mlp(target: str, dtype: torch.dtype) -> None:
    def mlp(x, gate, up, down):
        return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T

    weights = [real(*s, dtype=dtype, low=-0.1, high=0.1) for s in ((129, 72), (129, 72), (72, 129))]
    assert_same(mlp, real(3, 72, dtype=dtype), *weights, target=target)


@BOTH
def test_norm_linear_softmax(target: str) -> None:
    def chain(x, weight, bias, matrix):
        return torch.softmax(F.layer_norm(x, (72,), weight, bias) @ matrix, -1)

    assert_same(chain, real(5, 72), real(72), real(72), real(72, 1009, low=-0.3, high=0.3), target=target)


@BOTH
def test_residual_block_of_two_inputs(target: str) -> None:
    def block(x, y, w1, w2, scale):
        h = x + y
        n = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * scale
        return h + F.gelu(n @ w1, approximate="tanh") @ w2, h

    args = real(3, 72), real(1, 72), real(72, 97, low=-0.2, high=0.2), real(97, 72, low=-0.2, high=0.2), real(72)
    assert_same(block, *args, target=target)


def test_every_pointwise_operation_as_users_write_it() -> None:
    def functions(x, p, n):
        return (
            x.abs(), -x, x.sign(), x.exp(), x.exp2(), x.expm1(), x.sin(), x.cos(), x.tan(), x.tanh(), x.sigmoid(),
            F.silu(x), F.gelu(x), F.relu(x), F.leaky_relu(x), F.softplus(x), F.elu(x), F.hardtanh(x), x.erf(),
            x.floor(), x.ceil(), x.trunc(), x.round(), x.square(), x.isnan(), x.isinf(), x.reciprocal(), x.clone(),
            p.sqrt(), p.rsqrt(), p.log(), p.log2(), p.log10(), p.log1p(), torch.erfinv(x / 4), x.sinh(), x.cosh(),
            torch.asin(x / 4), torch.acos(x / 4), x.atan(), torch.atan2(x, p), x**2, x**3, p**0.5, p**-0.5, p**1.7,
            2**x, n // 3, n % 3, -7 // n, torch.fmod(n, -3), torch.remainder(x, -1.5), x.clamp(-1, 1), x.clamp(min=0),
            torch.where(x > 0, x, -1), torch.logical_not(n), ~n, n & 3, n | 5, n ^ 3, F.hardswish(x), F.mish(x),
            F.hardsigmoid(x), F.selu(x), F.celu(x), F.softsign(x), F.logsigmoid(x), F.relu6(x), F.threshold(x, 0, 1),
            F.softshrink(x), F.tanhshrink(x), torch.lerp(x, p, 0.3), torch.addcmul(x, p, p, value=0.5), x.frac(),
            torch.addcdiv(x, x, p), torch.nan_to_num(x), x.isfinite(), torch.xlogy(x, p),
            torch.heaviside(x, p), x.deg2rad(),
        )  # fmt: skip

    assert_same(functions, real(7, 3), real(7, 3, low=0.1), whole(7, 3, low=1), limit=4)


def test_every_view_as_users_write_it() -> None:
    def views(x, y):
        a, b, c = x.split([1, 2, 4], -1)
        return (
            x.view(3, -1) + 1, x.permute(2, 0, 1) * 2, x.transpose(0, -1) - 1, x.unsqueeze(1) + y[:5], x[:, 0] * 2,
            x[..., -1] + 1, x[1:, ::2] * 1, x[:, -2:] - 1, torch.cat([a, c, b], -1), torch.stack([y, y + 1], 1),
            y.repeat(2, 3), y.repeat_interleave(3, 0), y[None].expand(4, -1, -1) + x.sum(), x.flip(0, 2), y.roll(2, 0),
            x.flatten(1) + 0.5, x.unflatten(-1, (7, 1)) + 1, F.pad(y, (1, 2, 0, 1)), x.chunk(2, 1)[1] * 2, y.t() + 1,
            torch.stack(x.unbind(1), -1),
            y.tril(), y.triu(1), torch.outer(y[0], y[1]), y.diagonal() + 1, x.movedim(0, 1) * 3,
            torch.roll(x, (1, -2), (0, 2)), y.squeeze() + x.new_zeros(7), torch.zeros_like(x), torch.full((2,), 3.5),
        )  # fmt: skip

    assert_same(views, real(3, 5, 7), real(7, 7))


def test_reductions_as_users_write_them() -> None:
    def reductions(x, n, b):
        return (
            x.sum(), x.sum(-1), x.mean((0, 1), keepdim=True), x.amax(1), x.amin(-1), x.prod(-1), x.var(-1), x.std(0),
            x.var(-1, correction=0), n.sum(), n.prod(0), b.any(), b.all(-1), x.norm(dim=-1), x.logsumexp(-1),
            x.softmax(1), x.log_softmax(-1), x.cumsum(1), n.cumsum(0), x.argmax(-1), x.max(1), x.min(), x.argmin(),
            F.normalize(x, dim=-1), torch.var_mean(x, -1), F.layer_norm(x, (5, 7)),
            F.rms_norm(x, (7,)), x.count_nonzero(),
            torch.linalg.vector_norm(x, dim=0),  b.sum(-1), x.nansum(), F.softmin(x, -1),
        )  # fmt: skip

    assert_same(reductions, real(3, 5, 7), whole(6, 4), truth(5, 3))


def test_products_as_users_write_them() -> None:
    def products(x, w, q, k, v):
        return (
            x @ w, F.linear(x, w.T), torch.addmm(x[0, :1], x, w[:, :1]), torch.einsum("bhd,bkd->bhk", q, k), q @ v.mT,
            torch.bmm(q, k.transpose(1, 2)), torch.baddbmm(q[:, :1, :5], q, k.mT), x[0] @ w, w.T @ x[1], x[0].dot(x[1]),
            torch.tensordot(q, k, ([0, 2], [0, 2])), x @ (w @ w.T),
            torch.matmul(q[None], k.mT), torch.kron(x[:, :2], w[:2]), F.cosine_similarity(x, x.flip(0)),
        )  # fmt: skip

    assert_same(products, real(3, 19), real(19, 33), real(2, 3, 7), real(2, 5, 7), real(2, 3, 7), limit=10)


def test_gathers_as_users_write_them() -> None:
    def gathers(table, ids, x):
        return (
            F.embedding(ids, table), table[ids], table[:, ids[0] % 5], x.index_select(0, ids[1]),
            torch.gather(x, 1, ids.T[:2] % 5), table.index_select(1, ids[0] % 5),
            torch.take_along_dim(x, x.argmax(1)[:, None], 1),
             x[ids[0]] + table[ids[1]], x[-1], x[[0, 2]], torch.take(x, ids),
        )  # fmt: skip

    assert_same(gathers, real(11, 5), torch.tensor([[3, 0, 7], [2, 10, 1]]), real(11, 5))


@BOTH
def test_updates_in_place(target: str) -> None:
    def step(cache, counter, x, slot):
        cache.index_copy_(1, slot, x)
        old = counter.clone()
        counter.add_(1)
        cache[:, 0] = cache[:, 0] * 2
        return cache.sum(1), old, counter + 1

    args = real(2, 11, 5), torch.tensor([3]), real(2, 1, 5), torch.tensor([4])
    assert_same(step, *args, target=target, calls=3)


def test_rolled_window() -> None:
    def step(cache, x):
        rolled = cache.roll(-1, 1)
        rolled[:, -1:] = x
        cache.copy_(rolled)
        return cache.mean(1)

    assert_same(step, real(2, 7, 5), real(2, 1, 5), calls=3)


def test_swapped_arguments() -> None:
    def swap(a, b):
        old = a.clone()
        a.copy_(b)
        b.copy_(old)
        return a + b

    assert_same(swap, real(7), real(7).flip(0), calls=2)


def test_outputs_that_are_arguments_views_and_each_other() -> None:
    def several(x, y):
        z = x + y
        x.mul_(2)
        return x, z, z.view(-1), z.T, y, z[1:], z.expand(2, 3, 5)

    assert_same(several, real(3, 5), real(3, 5))


def test_promotion_as_users_write_it() -> None:
    def mixed(h, i, b, z):
        return (
            h + 1,
            h * 0.1,
            h + i,
            i + 0.5,
            i / 2,
            i // 2,
            b + 1,
            b * h,
            h + z,
            i * z,
            h < 0.1,
            i == 2.0,
            h.float() * i,
        )

    args = real(7, dtype=torch.bfloat16), whole(7), truth(7), torch.tensor(0.3)
    assert_same(mixed, *args)


def test_types_that_torch_does_not_mix_are_refused_as_in_torch() -> None:
    """Tracing lets them through; a result would be a guess."""
    half, ids = real(4, 4).half(), torch.tensor([1])
    for f, args in (
        (torch.mm, (real(4, 4), half)),
        (F.linear, (real(2, 4), half)),
        (F.linear, (real(2, 4), real(4, 4), half[0])),
        (torch.bmm, (real(1, 4, 4), half[None])),
        (torch.mv, (real(4, 4), half[0])),
        (torch.mm, (torch.ones(4, 4, dtype=torch.int64), real(4, 4))),
        (lambda c, i, v: c.index_copy(0, i, v), (real(4, 4), ids, half[:1])),
        (lambda c, i, v: torch.index_put(c, (i,), v), (real(4, 4), ids, half[:1])),
    ):
        with pytest.raises((RuntimeError, IndexError), match=r"dtype|scalar type|same type"):
            f(*args)
        torch._dynamo.reset()
        step = torch.compile(f, backend=backend, options={"target": "reference", "cache": False})
        with pytest.raises((RuntimeError, IndexError), match=r"dtype|scalar type|same type"):
            step(*args)


def test_narrow_integers_wrap_inside_a_chain() -> None:
    def chain(x, y):
        return (x + y) // 2, (x * y) > 100, (x - y).float(), x.int() * y.int()

    a = torch.tensor([250, 3, 128, 0], dtype=torch.uint8)
    assert_same(chain, a, a.flip(0))
    big = torch.tensor([2**31 - 1, -(2**31), 5], dtype=torch.int32)
    assert_same(chain, big, big.flip(0))


@BOTH
def test_sizes_that_change(target: str) -> None:
    def f(x, w):
        h = (x @ w).tanh()
        return torch.cat([h, x[:, :3]], -1).softmax(-1), x.mean(0), torch.arange(x.shape[0]) * 2 + x.shape[0]

    step, w = compiled(f, target, dynamic=None), real(19, 33)
    with torch.no_grad():
        for tokens in (2, 3, 5, 8, 13, 40, 3):
            x = real(tokens, 19)
            torch._dynamo.mark_dynamic(x, 0)
            compare(step(x, w), f(x, w))


@BOTH
def test_attention_that_may_see_nothing(target: str) -> None:
    def attention(q, k, v, position):
        seen = torch.arange(13) <= position[:, None, None, None]
        bias = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
        return torch.softmax(q @ k.mT + bias, -1) @ v

    args = real(3, 4, 1, 16), real(3, 4, 13, 16), real(3, 4, 13, 16), torch.tensor([3, -1, 12])
    assert_same(attention, *args, target=target)


def test_attention_of_every_form() -> None:
    def attention(q, k, v, mask, bias):
        return (
            F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
            F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.5),
            F.scaled_dot_product_attention(q, k[:, :, :3], v[:, :, :3], is_causal=True),
            F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True),
            F.scaled_dot_product_attention(q, k[:, :2].repeat_interleave(2, 1), v[:, :2].repeat_interleave(2, 1)),
        )  # fmt: skip

    mask = truth(1, 1, 3, 13)
    mask[..., 0] = True
    bias = torch.where(mask, 0.0, -math.inf)
    assert_same(attention, real(2, 4, 3, 16), real(2, 4, 13, 16), real(2, 4, 13, 16), mask, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_that_is_written(dtype: torch.dtype) -> None:
    """AOTAutograd loses a store to a float64 number: such a graph stays in torch."""

    def double(x: torch.Tensor) -> torch.Tensor:
        positive = x > 0
        x.mul_(2)
        return positive

    torch._dynamo.reset()
    step = torch.compile(double, backend=backend, options={"target": "reference", "cache": False})
    x = torch.tensor(0.5, dtype=dtype)
    with torch.no_grad():
        assert step(x) and x.item() == 1.0


def test_a_number_that_is_only_read_stands_in_no_store_s_way() -> None:
    def scaled(x: torch.Tensor, cache: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        cache.add_(x * number)
        return cache & 3 if not cache.is_floating_point() else cache * number

    args = real(4), real(4), torch.tensor(0.5, dtype=torch.float64)
    assert_same(scaled, *args)


@pytest.mark.parametrize("write", [lambda x: x.view(1).mul_(2), lambda x: torch.mul(x, 2, out=x)], ids=["view", "out"])
def test_a_number_that_is_written_in_a_roundabout_way(write) -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        write(x)
        return y + 1

    torch._dynamo.reset()
    step = torch.compile(f, backend=backend, options={"target": "reference", "cache": False})
    x = torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        step(x, real(3))
    assert x.item() == 1.0


@pytest.mark.parametrize("f", [lambda x: torch.softmax(x, -1), torch.nn.functional.gelu], ids=["softmax", "gelu"])
def test_functions_that_torch_has_for_no_integers_stay_in_torch(f) -> None:
    torch._dynamo.reset()
    step = torch.compile(f, backend=backend, options={"target": "reference", "cache": False})
    with pytest.raises((RuntimeError, NotImplementedError), match="not implemented for 'Long'"):
        step(torch.tensor([3, 4, 5]))
