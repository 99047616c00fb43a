"""attend.h against torch in double precision: head sizes, strides, masks, caps, sinks, split ranges, empty rows."""

from __future__ import annotations

import ctypes

import pytest
import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Call(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("queries", "keys", "values")],
        *[(name, ctypes.c_int64) for name in ("key_stride", "value_stride", "key_size", "value_size", "begin", "end")],
        ("scale", ctypes.c_float),
        ("cap", ctypes.c_float),
        *[(name, ctypes.c_void_p) for name in ("mask", "bias", "sinks", "out")],
        ("parts", ctypes.c_int32),
        ("empty_is_zero", ctypes.c_int32),
    ]


@pytest.fixture(scope="module")
def lib(native) -> ctypes.CDLL:
    return native.library("attend.cpp")


def pointer(tensor):
    return None if tensor is None else tensor.data_ptr()


def run(lib, kind, q, k, v, begin=0, *, scale=0.2, cap=0.0, mask=None, bias=None, sinks=None, parts=1, zero=True):
    out = torch.full((q.shape[0], v.shape[1]), float("nan"))
    call = Call(q.data_ptr(), k.data_ptr(), v.data_ptr(), k.stride(0), v.stride(0), k.shape[1], v.shape[1], begin,
                k.shape[0], scale, cap, pointer(mask), pointer(bias), pointer(sinks), out.data_ptr(), parts,
                zero)  # fmt: skip
    assert getattr(lib, f"attend_{kind}")(q.shape[0], ctypes.byref(call)) == 0
    return out


def expected(q, k, v, begin=0, *, scale=0.2, cap=0.0, mask=None, bias=None, sinks=None):
    scores = q.double() @ k.double().T * scale
    if cap:
        scores = cap * torch.tanh(scores / cap)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    scores = scores[:, begin:]
    if sinks is not None:
        scores = torch.cat([scores, sinks.double()[:, None]], dim=1)
    weights = torch.softmax(scores, dim=1).nan_to_num(0.0)
    return weights[:, : k.shape[0] - begin] @ v.double()[begin:]


def inputs(kind, queries, length, key_size, value_size, gap=24):
    """Rows with a gap of NaN between them: reading outside a head poisons the result."""
    k = torch.full((length, key_size + gap), float("nan"))
    v = torch.full((length, value_size + gap), float("nan"))
    k[:, :key_size] = torch.randn(length, key_size)
    v[:, :value_size] = torch.randn(length, value_size)
    return torch.randn(queries, key_size), k.to(DTYPES[kind])[:, :key_size], v.to(DTYPES[kind])[:, :value_size]


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("queries", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("sizes", [(16, 16), (64, 64), (80, 80), (96, 128), (128, 64), (256, 256), (7, 33)])
def test_matches_torch(lib, kind, queries, sizes):
    torch.manual_seed(queries)
    for length in (1, 63, 64, 65, 200):
        q, k, v = inputs(kind, queries, length, *sizes)
        assert torch.allclose(run(lib, kind, q, k, v).double(), expected(q, k, v), atol=5e-6)
        begin = length // 3
        assert torch.allclose(run(lib, kind, q, k, v, begin).double(), expected(q, k, v, begin), atol=5e-6)


@pytest.mark.parametrize("parts", [1, 3])
def test_mask_bias_cap_and_sinks(lib, parts):
    torch.manual_seed(0)
    q, k, v = inputs("bf16", 3, 150, 64, 80)
    options = {
        "mask": torch.rand(3, 150) > 0.5,
        "bias": torch.randn(3, 150),
        "sinks": torch.randn(3),
        "cap": 5.0,
        "scale": 0.4,
    }
    for chosen in [("mask",), ("bias",), ("sinks",), ("cap",), ("mask", "bias", "cap"), tuple(options)]:
        some = {name: options[name] for name in chosen}
        ours = run(lib, "bf16", q, k, v, parts=parts, **some)
        assert torch.allclose(ours.double(), expected(q, k, v, **some), atol=5e-6), chosen


@pytest.mark.parametrize("parts", [1, 4])
def test_rows_without_a_finite_score(lib, parts):
    q, k, v = inputs("fp32", 2, 130, 16, 16)
    mask = torch.ones(2, 130, dtype=torch.bool)
    mask[0] = False
    ours = run(lib, "fp32", q, k, v, mask=mask, parts=parts)
    assert (ours[0] == 0).all() and torch.allclose(ours[1].double(), expected(q, k, v)[1], atol=5e-6)
    assert run(lib, "fp32", q, k, v, mask=mask, parts=parts, zero=False)[0].isnan().all()
    # Half masked in a way that leaves whole blocks empty before the first finite score.
    mask[0, 128:] = True
    ours = run(lib, "fp32", q, k, v, mask=mask, parts=parts)
    assert torch.allclose(ours.double(), expected(q, k, v, mask=mask), atol=5e-6)
    # A bias of finfo.min everywhere is a uniform distribution, as in eager.
    bias = torch.full((2, 130), torch.finfo(torch.float32).min)
    ours = run(lib, "fp32", q, k, v, bias=bias, scale=1e-3, parts=parts)
    assert torch.allclose(ours, v.mean(0).expand(2, -1), atol=1e-5)
    assert (run(lib, "fp32", q, k[:0], v[:0]) == 0).all()


def test_large_scores_do_not_overflow_and_nan_propagates(lib):
    q, k, v = inputs("fp32", 1, 100, 64, 64)
    assert torch.allclose(run(lib, "fp32", q * 1e4, k, v).double(), expected(q * 1e4, k, v), atol=1e-4)
    k[50, 3] = float("nan")
    assert run(lib, "fp32", q, k, v).isnan().all()
