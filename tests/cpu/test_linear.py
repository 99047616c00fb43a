"""linear.h and linear_columns.h against torch: odd sizes, strides, tails, K ranges, and the same bits for any tile."""

from __future__ import annotations

import ctypes

import pytest
import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TOKENS = [1, 2, 3, 4, 5, 8, 16, 19]


class Call(ctypes.Structure):
    _fields_ = [
        ("x", ctypes.c_void_p),
        ("x_stride", ctypes.c_int64),
        ("w", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("row_stride", "length", "k0", "k1", "n0", "n1")],
        ("acc", ctypes.c_void_p),
        ("acc_stride", ctypes.c_int64),
        ("accumulate", ctypes.c_int32),
        ("columns", ctypes.c_int32),
    ]


@pytest.fixture(scope="module")
def lib(native) -> ctypes.CDLL:
    return native.library("linear.cpp")


def run(lib, kind, x, w, acc, k, n, *, columns=False, accumulate=False):
    """`w` is a 2-d view with unit stride along its rows; acc is written in place, from its column 0."""
    call = Call(x.data_ptr(), x.stride(0), w.data_ptr(), w.stride(0), x.shape[1], k[0], k[1], n[0], n[1],
                acc.data_ptr(), acc.stride(0), accumulate, columns)  # fmt: skip
    assert getattr(lib, f"linear_{kind}")(x.shape[0], ctypes.byref(call)) == 0


def weights(kind, rows, width, stride):
    """A view of a larger buffer full of NaN: reading anything outside the view poisons the result."""
    whole = torch.full((rows, stride), float("nan"))
    whole[:, :width] = torch.randn(rows, width)
    return whole.to(DTYPES[kind])[:, :width]


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_matches_torch(lib, kind, tokens, columns):
    torch.manual_seed(tokens)
    for n, k in [(1, 1), (7, 31), (9, 32), (17, 33), (33, 80), (72, 127), (3, 576), (130, 200), (5, 2100)]:
        x = torch.randn(tokens, k + 3)[:, :k]
        w = weights(kind, k if columns else n, n if columns else k, (n if columns else k) + 5)
        acc = torch.full((tokens, n + 2), 7.0)
        run(lib, kind, x, w, acc, (0, k), (0, n), columns=columns)
        wide = w.double() if columns else w.double().T
        expected = x.double() @ wide
        tolerance = 4e-7 * (x.double().abs() @ wide.abs()) + 1e-30
        assert ((acc[:, :n] - expected).abs() <= tolerance).all(), (n, k)
        assert (acc[:, n:] == 7.0).all()


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("kind", DTYPES)
def test_bits_do_not_depend_on_tile_or_tokens(lib, kind, columns):
    torch.manual_seed(1)
    n, k = 101, 147
    x = torch.randn(19, k)
    w = weights(kind, k if columns else n, n if columns else k, (n if columns else k))
    whole = torch.empty(19, n)
    run(lib, kind, x, w, whole, (0, k), (0, n), columns=columns)
    for tokens in TOKENS:
        for cut in (1, 3, 8, 37, 100):
            for n0, n1 in ((0, cut), (cut, n)):
                acc = torch.empty(tokens, n1 - n0)
                run(lib, kind, x[:tokens], w, acc, (0, k), (n0, n1), columns=columns)
                assert torch.equal(acc, whole[:tokens, n0:n1]), (tokens, cut)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("kind", DTYPES)
def test_split_k_accumulates(lib, kind, columns):
    torch.manual_seed(2)
    n, k, tokens = 45, 203, 4
    x = torch.randn(tokens, k)
    w = weights(kind, k if columns else n, n if columns else k, 300)
    acc = torch.full((tokens, n), 3.0)
    for index, part in enumerate([(0, 64), (64, 64), (64, 192), (192, k)]):
        run(lib, kind, x, w, acc, part, (0, n), columns=columns, accumulate=index > 0)
    expected = x.double() @ (w.double() if columns else w.double().T)
    assert (acc - expected).abs().max() < 1e-4
    empty = torch.full((tokens, n), 3.0)
    run(lib, kind, x, w, empty, (64, 64), (0, n), columns=columns)
    assert (empty == 0).all()


def test_infinity_and_nan_stay_in_their_rows(lib):
    x = torch.randn(2, 40)
    w = torch.randn(9, 40).bfloat16()
    w[3, 39] = float("inf")
    w[5, 0] = float("nan")
    acc = torch.empty(2, 9)
    run(lib, "bf16", x, w, acc, (0, 40), (0, 9))
    assert acc[:, 3].isinf().all() and acc[:, 5].isnan().all()
    assert acc[:, [0, 1, 2, 4, 6, 7, 8]].isfinite().all()


def test_every_half_converts_exactly(lib):
    bits = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    for kind, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        ours = torch.empty(65536)
        getattr(lib, f"{kind}_to_float")(ctypes.c_void_p(bits.data_ptr()), ctypes.c_void_p(ours.data_ptr()),
                                         ctypes.c_int64(65536))  # fmt: skip
        theirs = bits.view(dtype).float()
        assert torch.equal(ours.isnan(), theirs.isnan())
        keep = ~theirs.isnan()
        assert torch.equal(ours[keep].view(torch.int32), theirs[keep].view(torch.int32))


def test_rounding_matches_torch(lib):
    torch.manual_seed(3)
    bits = torch.randint(-(2**31), 2**31, (1 << 20,), dtype=torch.int64).to(torch.int32)
    # Ties and their neighbours in both formats, subnormals and overflows included.
    near = (torch.arange(65536, dtype=torch.int64) << 16)[:, None] + torch.tensor([0x7FFF, 0x8000, 0x8001, 0xFFFF])
    half = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.float16).float().view(torch.int32)
    ties = half[:, None] + torch.tensor([0x0FFF, 0x1000, 0x1001], dtype=torch.int32)
    values = torch.cat([bits, near.flatten().to(torch.int32), ties.flatten()]).view(torch.float32).contiguous()
    for kind, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        ours = torch.empty(len(values), dtype=dtype)
        getattr(lib, f"float_to_{kind}")(ctypes.c_void_p(values.data_ptr()), ctypes.c_void_p(ours.data_ptr()),
                                         ctypes.c_int64(len(values)))  # fmt: skip
        theirs = values.to(dtype)
        assert torch.equal(ours.isnan(), values.isnan())
        keep = ~values.isnan()
        assert torch.equal(ours[keep].view(torch.int16), theirs[keep].view(torch.int16))
