"""In which type intermediates are kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onelaunch.check import check
from onelaunch.graph.dtype import DType
from onelaunch.program import machine as machines
from onelaunch.program.program import Role
from onelaunch.transform import compile_graph
from tests import programs as P
from tests.transform.graphs import graph_of

MACHINE = dataclasses.replace(machines.cuda(4), staged=1024)


def kept(step, tokens, machine=MACHINE, dtype=torch.bfloat16):
    """A program, and the types of its intermediates by extents."""
    torch.manual_seed(0)
    given = [torch.randn(n).to(dtype) / 8 for n in ((tokens, 48), (64, 48), (40, 64))]
    program = compile_graph(graph_of(step, *given, weights=(1, 2)), machine, verified=True)
    check(program)
    types = {b.extents: b.dtype for b in program.buffers if b.role is Role.WORKSPACE}
    return program, types, {f"arg{n}_1": t for n, t in enumerate(given)}


def chain(x, first, second):
    return (x @ first.T) @ second.T


def used_twice(x, first, second):
    h = x @ first.T
    return h @ second.T, h.float().sum(-1)


@pytest.mark.parametrize(("tokens", "own"), [(4, False), (5, True)])
def test_inputs_beyond_one_trip_keep_their_type(tokens, own):
    """A trip is 1,024 bytes: 4 rows of 64 in fp32."""
    program, types, given = kept(chain, tokens)
    assert types == {(tokens, 64): DType.BF16 if own else DType.F32}
    want = chain(*(t.float() for t in given.values()))
    (got,) = [t for name, t in P.run(program, given).items() if name not in given]
    torch.testing.assert_close(got.float(), want, rtol=2e-2, atol=2e-2)


def test_what_something_else_reads_too_does_not():
    assert kept(used_twice, 8)[1][8, 64] is DType.F32


def test_fp32_stays_fp32_and_machines_without_trips_keep_theirs():
    assert set(kept(chain, 8, dtype=torch.float32)[1].values()) == {DType.F32}
    assert set(kept(chain, 8, machines.cpu(4))[1].values()) == {DType.F32}


def test_such_values_share_memory_with_no_others():
    def deep(x, first, second):
        for _ in range(9):
            x = (x @ first.T) @ second.T @ torch.eye(40, 48, dtype=x.dtype)
        return x

    program, _, _ = kept(deep, 8)
    own = [b for b in program.buffers if b.role is Role.WORKSPACE]
    alone = [b for b in own if b.dtype is DType.BF16]
    assert alone
    for b in alone:
        assert all(o is b or o.offset >= b.offset + b.nbytes or b.offset >= o.offset + o.nbytes for o in own)
