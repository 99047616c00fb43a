"""Attention on tensor cores and lane by lane, emulated: sizes of heads, groups of queries, odd addresses, lengths."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.errors import CompilerError
from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda.emit import generate
from onelaunch.transform.split import split_node
from tests.cpu.codegen_run import one_kernel
from tests.cpu.test_codegen_attend import Setup
from tests.cpu.test_codegen_attend import close
from tests.cuda.emulate import Emulated
from tests.cuda.emulate import aligned


@pytest.fixture(autouse=True)
def _compiler():
    try:
        cpu_compiler.find()
    except CompilerError as error:
        pytest.skip(str(error))


def ready(s: Setup, odd: bool = False) -> None:
    """Tensors where a GPU would have them, or an element further; keys and values that do not count are NaN."""
    s.tensors = {n: aligned(t) for n, t in s.tensors.items()}
    for name in ("k", "v"):
        t = s.tensors[name]
        t.masked_fill_(~s.tensors["mask"][:, None], math.nan)
        s.tensors[name] = aligned(torch.nn.functional.pad(t.flatten(), (1, 0)))[1:].view(t.shape) if odd else t


def counted(s: Setup) -> dict:
    """What a nest says of positions: only those of the mask count."""
    return {"scan": s.seen, "score": b.where(s.seen, s.parts["score"], b.const(-math.inf, DType.F32))}


def run(program, tensors):
    report = Emulated(program).launch([t.data_ptr() for t in tensors.values()], ())
    assert report.status == 0


def want(s: Setup) -> torch.Tensor:
    s.tensors["k"].nan_to_num_(0)
    s.tensors["v"].nan_to_num_(0)
    return s.want(s.tensors["mask"])


@pytest.mark.parametrize(
    ("heads", "kv", "d", "dv", "positions", "odd"),
    [
        (9, 3, 64, 64, 178, False), (8, 1, 128, 128, 65, False), (2, 2, 16, 16, 40, False), (7, 1, 80, 80, 300, False),
        (4, 2, 96, 64, 131, False), (2, 1, 256, 256, 70, False), (3, 1, 64, 64, 150, True), (5, 1, 20, 12, 90, False),
    ],
)  # fmt: skip
def test_heads(heads, kv, d, dv, positions, odd):
    s = Setup(heads, kv, d, positions, torch.bfloat16, dv)
    ready(s, odd)
    program = one_kernel(s.nest(**counted(s)), s.tensors, (heads // kv,))
    assert f"attend<{heads // kv}, {d}, {dv}, kEmptyIsZero" in generate(program).text()
    run(program, s.tensors)
    close(s.tensors["y"], want(s), 3e-5)


@pytest.mark.parametrize("length", [0, 1, 64, 65, 200])
def test_parts_share_their_keys(length):
    """Three parts, one pass over each for the three queries of a head; some parts are empty."""
    s = Setup(6, 2, 16, 200, torch.bfloat16)
    s.tensors["mask"][:] = torch.arange(200) < length
    ready(s)
    whole = Node(Value("y", DType.F32, (b.const(6), b.const(16))), s.nest(**counted(s)))
    merge, unfinished = split_node(whole, 3)
    parts = aligned(torch.full((6, 3, 18), 77.0))
    tensors = {**s.tensors, unfinished.out.name: parts}
    program = one_kernel(unfinished.nest, tensors, (3, 1))
    assert "attend<3, 16, 16, kUnfinished" in generate(program).text()
    run(program, tensors)
    merged = {"y": s.tensors["y"], unfinished.out.name: parts}
    run(one_kernel(merge.nest, merged), merged)
    close(s.tensors["y"], want(s), 3e-5)


@pytest.mark.parametrize(
    ("heads", "kv", "d", "dv", "length", "at", "odd"),
    [
        (9, 3, 64, 64, 178, 177, False), (9, 3, 64, 64, 1, 0, False), (8, 1, 128, 128, 65, 64, False),
        (7, 1, 80, 80, 130, 40, False), (2, 1, 256, 256, 70, 69, False), (4, 2, 96, 64, 131, 131, False),
        (3, 1, 64, 64, 150, 149, True), (5, 1, 20, 12, 90, 89, False), (2, 2, 16, 16, 40, 8, False),
    ],
)  # fmt: skip
def test_a_newest_position_that_is_not_in_the_cache(heads, kv, d, dv, length, at, odd):
    """It takes part as if it were there: first, last, in the middle, alone, or beyond those that count. What the cache
    holds at its place is NaN.
    """
    s = Setup(heads, kv, d, 200, torch.bfloat16, dv)
    s.tensors["mask"][:] = torch.arange(200) < length
    k, v = s.tensors["k"][:, at].clone(), s.tensors["v"][:, at].clone()
    s.tensors["k"][:, at] = s.tensors["v"][:, at] = math.nan
    ready(s, odd)
    y = s.tensors.pop("y")
    s.tensors |= {"new_k": aligned(k), "new_v": aligned(v), "at": aligned(torch.tensor([at])), "y": y}
    place, group = b.load("at", (b.const(0),), DType.I64), b.floordiv(s.h, heads // kv)
    parts = {
        name: b.where(b.eq(s.key, place), b.load(f"new_{name}", (group, last), s.dtype), s.parts[name])
        for name, last in (("k", s.head), ("v", s.e))
    }
    stop = b.load("length", (b.const(0),), DType.I64)
    s.tensors = {"length": aligned(torch.tensor([length])), **s.tensors}
    program = one_kernel(s.nest(**parts, stop=stop), s.tensors, (heads // kv,))
    assert f"attend<{heads // kv}, {d}, {dv}, kEmptyIsZero" in generate(program).text()
    assert "Newest{" in generate(program).text()
    run(program, s.tensors)
    s.tensors["k"][:, at], s.tensors["v"][:, at] = k, v
    close(s.tensors["y"], want(s), 3e-5)


@pytest.mark.parametrize("length", [1, 64, 65, 200])
def test_parts_of_which_one_holds_the_newest_position(length):
    s = Setup(6, 2, 16, 200, torch.bfloat16)
    s.tensors["mask"][:] = torch.arange(200) < length
    at = length - 1
    k, v = s.tensors["k"][:, at].clone(), s.tensors["v"][:, at].clone()
    s.tensors["k"][:, at] = s.tensors["v"][:, at] = math.nan
    ready(s)
    y = s.tensors.pop("y")
    s.tensors |= {"new_k": aligned(k), "new_v": aligned(v), "at": aligned(torch.tensor([at]))}
    place, group = b.load("at", (b.const(0),), DType.I64), b.floordiv(s.h, 3)
    new = {
        name: b.where(b.eq(s.key, place), b.load(f"new_{name}", (group, last), s.dtype), s.parts[name])
        for name, last in (("k", s.head), ("v", s.e))
    }
    nest = s.nest(**new, stop=b.add(place, b.const(1)))
    merge, unfinished = split_node(Node(Value("y", DType.F32, (b.const(6), b.const(16))), nest), 3)
    parts = aligned(torch.full((6, 3, 18), 77.0))
    tensors = {**s.tensors, unfinished.out.name: parts}
    program = one_kernel(unfinished.nest, tensors, (3, 1))
    assert "Newest{" in generate(program).text()
    run(program, tensors)
    merged = {"y": y, unfinished.out.name: parts}
    run(one_kernel(merge.nest, merged), merged)
    s.tensors["y"] = y
    s.tensors["k"][:, at], s.tensors["v"][:, at] = k, v
    close(y, want(s), 3e-5)
