"""Inputs of products that the copy engine brings (fetch.cuh), emulated: parts, several products, what breaks when it
does not wait.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onelaunch.check import check
from onelaunch.errors import CompilerError
from onelaunch.graph.dtype import DType
from onelaunch.program import machine as machines
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda import dataflow
from onelaunch.targets.cuda.emit import generate
from onelaunch.transform import compile_graph
from tests import programs as P
from tests.cuda.emulate import Emulated
from tests.cuda.emulate import EmulatedOps
from tests.cuda.emulate import Stopped
from tests.cuda.emulate import aligned
from tests.transform.graphs import graph_of


@pytest.fixture(autouse=True)
def _compiler():
    try:
        cpu_compiler.find()
    except CompilerError as error:
        pytest.skip(str(error))


def layers(x, first, gate, up, down):
    h = x @ first.T
    return x + (torch.nn.functional.silu(h @ gate.T) * (h @ up.T)) @ down.T


def made_of(function, given, weights, workers):
    """A function's program, with most inputs of products in 16 bits, and its arguments by name."""
    machine = dataclasses.replace(machines.cuda(workers), staged=64)
    program = compile_graph(graph_of(function, *given, weights=weights), machine, verified=True)
    check(program)
    return program, {f"arg{n}_1": aligned(t) for n, t in enumerate(given)}


def step(tokens, dtype=torch.bfloat16, workers=3):
    """A program of three products, two of which take what another has stored, and its arguments by name."""
    torch.manual_seed(0)
    given = [torch.randn(n).to(dtype) / 8 for n in ((tokens, 32), (128, 32), (64, 128), (64, 128), (32, 64))]
    return made_of(layers, given, (1, 2, 3, 4), workers)


def equal(program, named, emulated, launches=2):
    want = P.run(program, named)
    for _ in range(launches):
        got = P.run(program, named, executable=emulated)
        for key in want:
            torch.testing.assert_close(got[key].float(), want[key].float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("tokens", "most", "parts", "made"),
    [
        (1, 34 << 10, 1, Emulated), (3, 700, 2, Emulated), (7, 2 << 10, 2, Emulated), (20, 4 << 10, 2, Emulated),
        (7, 2 << 10, 2, EmulatedOps),
    ],
)  # fmt: skip
def test_inputs_that_are_fetched(monkeypatch, tokens, most, parts, made):
    monkeypatch.setattr(dataflow, "SLOT_MOST", most)
    program, named = step(tokens)
    kept = {b.name: b.dtype for b in program.buffers if b.name not in named}
    assert list(kept.values()).count(DType.BF16) >= 2, "inputs of products are kept as the graph has them"
    assert f"part < {parts}" in generate(program).text() if parts > 1 else "fetcher.rows" in generate(program).text()
    equal(program, named, made(program))


def test_half_precision_is_fetched_too():
    """(The emulator has no fp16.)"""
    assert "fetcher.rows<fp16>" in generate(step(4, torch.float16)[0]).text()


def test_inputs_that_fit_no_slot_are_read_where_they_lie(monkeypatch):
    monkeypatch.setattr(dataflow, "SLOT_MOST", 64)
    program, named = step(2)
    assert "fetcher.rows" not in generate(program).text()
    equal(program, named, Emulated(program))


def test_events_that_are_not_waited_for_are_noticed():
    """The inputs change from launch to launch, so what the one before has left is wrong."""
    wait = "while (!stopped && !try_wait(approved[task % kRecords], task / kRecords % 2)) stopped = *abort_at <= task;"
    text = (compiler.INCLUDE / "onelaunch" / "fetch.cuh").read_text()
    assert text.count(wait) == 1
    program, named = step(3)
    emulated = Emulated(program, {"fetch.cuh": text.replace(wait, "")})
    with pytest.raises((Stopped, AssertionError)):
        for turn in range(6):
            named["arg0_1"].mul_(-1.5)
            equal(program, named, emulated, launches=1 + turn % 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_blocks_own_stores_are_waited_for(workers):
    """The order of a queue needs no event, and the fetcher runs ahead of it."""
    program, named = step(3, workers=workers)
    emulated = Emulated(program)
    for _ in range(3):
        named["arg0_1"].mul_(-1.5)
        equal(program, named, emulated, launches=1)


ORDERS = {
    "flip": lambda h: h.flip(0), "roll": lambda h: torch.roll(h, 1, 0),
    "transpose": lambda h: h.reshape(8, 32).T.reshape(4, 64), "gather": lambda h: h[torch.arange(4) * 3 % 4],
    "slice": lambda h: h[1:3],
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_rows_in_another_order(order):
    torch.manual_seed(0)
    given = [torch.randn(n).bfloat16() / 8 for n in ((4, 32), (64, 32), (16, 64))]
    program, named = made_of(lambda x, a, b: ORDERS[order](x @ a.T) @ b.T, given, (1, 2), 3)
    equal(program, named, Emulated(program), launches=1)


def test_a_matrix_that_the_same_block_has_stored():
    """The producer runs ahead of its queue, too, and needs no event for what its own block stores."""
    torch.manual_seed(0)
    given = [torch.randn(n).bfloat16() / 4 for n in ((40, 32), (64, 32), (3, 64))]
    program, named = made_of(lambda x, a, y: y @ (x @ a.T).T.reshape(64, 40), given, (1,), 1)
    emulated = Emulated(program)
    for _ in range(3):
        named["arg0_1"].mul_(-1.5)
        equal(program, named, emulated, launches=1)


@pytest.mark.parametrize("columns", [8, 96])
def test_an_abort_ends_who_waits_for_room(columns):
    """The task before a product picks an element that is not there; the ring is full, and nobody will empty it."""
    torch.manual_seed(0)
    x, w = torch.randn(2, 512).bfloat16(), torch.randn(columns, 512).bfloat16()
    given = [torch.randn(8, 64), torch.tensor([0, 1]), x, w]
    program, named = made_of(lambda table, i, x, w: (table[i] * 2, x @ w.T), given, (3,), 1)
    emulated, memory = Emulated(program), P.tensors(program, named)
    index = next(t for b, t in zip(program.buffers, memory, strict=True) if b.name == "arg1_1")
    pointers = [t.data_ptr() for t in memory]
    for picked, status in ((99, 2), (1, 0)):
        index[1] = picked
        for seed in range(2):
            assert emulated.launch(pointers, [], seed).status == status


def test_inputs_are_not_cut_into_crumbs():
    """A part is what the copy engine and the tensor cores take at a time."""
    assert dataflow.parts_of(8, 2048) == 1
    assert dataflow.parts_of(16, 4096) == 4
    assert dataflow.parts_of(9, 2056) == 0, "2,056 = 8 * 257: nothing between 8 and all"
    for tokens, size in ((1, 8), (9, 2040), (32, 14336), (33, 11008)):
        parts = dataflow.parts_of(tokens, size)
        assert parts > 0
        assert size % parts == 0
        assert parts == 1 or size // parts >= dataflow.UNIT
