"""Attend kernels against torch: grouped heads, layouts, masks, ranges, computed keys."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Nest
from onelaunch.targets.cpu.emit import source
from onelaunch.transform.split import split_node
from tests.cpu.codegen_run import one_kernel
from tests.cpu.codegen_run import run

F32, I64 = DType.F32, DType.I64


class Setup:
    """One token of ``heads`` queries over a cache [kv, capacity, d]."""

    def __init__(self, heads=6, kv=2, d=16, capacity=40, dtype=torch.float32, dv=None):
        torch.manual_seed(1)
        dv = dv or d
        self.heads, self.kv, self.d, self.capacity, self.dtype = heads, kv, d, capacity, from_torch(dtype)
        self.tensors = {
            "q": torch.randn(heads, d).to(dtype), "k": torch.randn(kv, capacity, d).to(dtype),
            "v": torch.randn(kv, capacity, dv).to(dtype), "pos": torch.tensor([capacity - 7]),
            "mask": torch.rand(capacity) < 0.5, "y": torch.zeros(heads, dv),
        }  # fmt: skip
        self.h, self.e = b.var("h", heads), b.var("e", dv)
        self.key, self.head = b.var("s", capacity), b.var("d", d)
        group = b.floordiv(self.h, heads // kv)
        self.pos = b.load("pos", (b.const(0),), I64)
        self.seen = b.load("mask", (self.key,), DType.BOOL)
        self.parts = {
            "q": b.load("q", (self.h, self.head), self.dtype),
            "k": b.load("k", (group, self.key, self.head), self.dtype),
            "v": b.load("v", (group, self.key, self.e), self.dtype), "score": b.mul(b.acc(0), b.const(0.25, F32)),
            "start": None, "stop": None, "scan": None, "masked": "zero",
        }  # fmt: skip

    def nest(self, **parts):
        a = Attention(self.key, self.head, **{**self.parts, **parts})
        return Nest((self.h, self.e), "y", F32, (self.h, self.e), b.acc(0), (), a)

    def want(self, keep=None, scale=0.25, bias=None, masked=0.0):
        t = {n: x.double() if x.is_floating_point() else x for n, x in self.tensors.items()}
        k, v = (t[n].repeat_interleave(self.heads // self.kv, 0) for n in ("k", "v"))
        score = torch.einsum("hd,hsd->hs", t["q"], k) * scale
        score = score if bias is None else score + bias
        if keep is not None:
            score = score.masked_fill(~keep, -math.inf)
        return torch.einsum("hs,hse->he", score.softmax(-1).nan_to_num(masked), v).float()

    def run(self, nest, sizes=(0, 0)):
        self.tensors["y"].fill_(77)
        return run(nest, self.tensors, sizes)


def close(a, w, tolerance=1e-5):
    torch.testing.assert_close(a, w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("heads_a_task", [0, 1, 2, 3])
def test_grouped_heads(dtype, heads_a_task):
    s = Setup(dtype=dtype)
    nest = s.nest()
    assert f"attend<{heads_a_task or 3 if heads_a_task != 2 else 1}>" in source(
        one_kernel(nest, s.tensors, (heads_a_task,))
    )
    close(s.run(nest, (heads_a_task,)), s.want())


@pytest.mark.parametrize(("heads", "kv", "d", "dv"), [(7, 1, 80, 80), (4, 4, 16, 16), (16, 1, 64, 32), (9, 3, 5, 3)])
def test_odd_shapes(heads, kv, d, dv):
    s = Setup(heads, kv, d, 131, dv=dv)
    close(s.run(s.nest()), s.want())


def test_stop_before_the_end_of_the_cache():
    s = Setup()
    keep = torch.arange(s.capacity) <= s.tensors["pos"]
    stop = b.add(s.pos, b.const(1))
    score = b.where(b.le(s.key, s.pos), s.parts["score"], b.const(-math.inf, F32))
    s.tensors["k"][:, int(s.tensors["pos"]) + 1 :] = math.nan
    s.tensors["v"][:, int(s.tensors["pos"]) + 1 :] = math.nan
    got = s.run(s.nest(stop=stop, score=score))
    s.tensors["k"].nan_to_num_(0)
    s.tensors["v"].nan_to_num_(0)
    close(got, s.want(keep))


def test_window():
    s = Setup()
    place = torch.arange(s.capacity)
    keep = (place <= s.tensors["pos"]) & (place > s.tensors["pos"] - 5)
    start = b.sub(s.pos, b.const(4))
    close(s.run(s.nest(start=start, stop=b.add(s.pos, b.const(1)))), s.want(keep))


@pytest.mark.parametrize("masked", ["zero", "nan", "all"])
@pytest.mark.parametrize("empty", [False, True])
def test_scanned_mask(masked, empty):
    s = Setup()
    if empty:
        s.tensors["mask"][:] = False
    if masked == "all":
        low = -1e30
        score = b.add(s.parts["score"], b.where(s.seen, b.const(0.0, F32), b.const(low, F32)))
        bias = torch.where(s.tensors["mask"], 0.0, low).double()
        return close(s.run(s.nest(scan=s.seen, score=score, masked=masked)), s.want(bias=bias), 1e-4)
    score = b.where(s.seen, s.parts["score"], b.const(-math.inf, F32))
    got = s.run(s.nest(scan=s.seen, score=score, masked=masked))
    if empty and masked == "nan":
        return torch.testing.assert_close(got, torch.full_like(got, math.nan), equal_nan=True)
    return close(got, s.want(s.tensors["mask"]))


def test_score_of_head_and_position():
    """ALiBi: a slope a head, and a soft cap."""
    s = Setup()
    s.tensors["slope"] = torch.rand(s.heads)
    far = b.cast(b.sub(s.key, s.pos), F32)
    capped = b.mul(b.pointwise(Op.TANH, b.mul(b.acc(0), b.const(0.05, F32))), b.const(5.0, F32))
    score = b.add(capped, b.mul(b.load("slope", (s.h,), F32), far))
    y = s.tensors.pop("y")
    s.tensors["y"] = y
    q, k = s.tensors["q"].double(), s.tensors["k"].double().repeat_interleave(3, 0)
    place = torch.arange(s.capacity) - s.tensors["pos"]
    want = (torch.einsum("hd,hsd->hs", q, k) * 0.05).tanh() * 5 + s.tensors["slope"][:, None].double() * place
    want = torch.einsum("hs,hse->he", want.softmax(-1), s.tensors["v"].double().repeat_interleave(3, 0)).float()
    close(s.run(s.nest(score=score)), want)


def test_computed_keys_and_transposed_values():
    """The last position comes from elsewhere (a concatenation), and values lie with a stride along the head."""
    s = Setup()
    last = b.const(s.capacity - 1)
    s.tensors = {"new": torch.randn(s.kv, s.d), **s.tensors}
    group = b.floordiv(s.h, 3)
    k = b.where(b.lt(s.key, last), s.parts["k"], b.load("new", (group, s.head), F32))
    s.tensors["v"] = s.tensors["v"].transpose(1, 2).contiguous().transpose(1, 2)
    got = s.run(s.nest(k=k))
    s.tensors["k"][:, -1] = s.tensors["new"]
    close(got, s.want())


def test_double_precision():
    s = Setup(dtype=torch.float64)
    close(s.run(s.nest()), s.want())


def test_a_part_of_the_values():
    s = Setup()
    close(s.run(s.nest(), (3, 8)), s.want())


@pytest.mark.parametrize(
    ("masked", "dtype"),
    [("zero", torch.float32), ("nan", torch.float32), ("all", torch.float32), ("zero", torch.bfloat16)],
)
def test_parts(masked, dtype):
    """Three parts of up to 300 positions, merged as ``transform/split.py`` merges them; some parts are empty."""
    for length in (0, 1, 64, 65, 200, 300):
        s = Setup(capacity=300, dtype=dtype)
        s.tensors["mask"][length:] = False
        score = b.where(s.seen, s.parts["score"], b.const(-math.inf, F32))
        if masked == "all":
            score = b.add(s.parts["score"], b.where(s.seen, b.const(0.0, F32), b.const(-1e30, F32)))
        whole = Node(Value("y", F32, (b.const(6), b.const(16))), s.nest(scan=s.seen, score=score, masked=masked))
        merge, unfinished = split_node(whole, 3)
        parts, again = (
            run(unfinished.nest, {**s.tensors, unfinished.out.name: torch.full((6, 3, 18), 77.0)}, sizes)
            for sizes in ((0, 0, 0), (3, 1, 0))
        )
        assert torch.equal(parts, again)
        merged = run(merge.nest, {"y": s.tensors["y"].clone(), unfinished.out.name: parts})
        torch.testing.assert_close(merged, run(whole.nest, s.tensors), rtol=1e-5, atol=1e-5, equal_nan=True)
