"""Attention over caches in pages, emulated: layouts, sizes of pages and heads, lengths, tables that name no block."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onelaunch.check import check
from onelaunch.errors import CompilerError
from onelaunch.program import machine as machines
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda.emit import generate
from onelaunch.transform import compile_graph
from onelaunch.transform.split import split_node
from tests import programs as P
from tests.cpu.codegen_run import one_kernel
from tests.cpu.paged import Paged
from tests.cpu.test_codegen_attend import close
from tests.cpu.test_codegen_paged import LIMITS
from tests.cuda.emulate import Emulated
from tests.cuda.emulate import aligned
from tests.lowering import test_paged
from tests.transform.graphs import graph_of

BF16, FP32 = torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def _compiler():
    try:
        cpu_compiler.find()
    except CompilerError as error:
        pytest.skip(str(error))


def launch(program, tensors, odd=()):
    """Tensors where a GPU would have them, those named ``odd`` an element further; returns the report."""
    for name, t in tensors.items():
        moved = aligned(torch.nn.functional.pad(t.flatten(), (1, 0)))[1:].view(t.shape) if name in odd else aligned(t)
        tensors[name] = moved
    return Emulated(program).launch([t.data_ptr() for t in tensors.values()], ())


@pytest.mark.parametrize(
    ("layout", "lengths", "heads", "kv", "size", "page", "dtype"),
    [
        ("of a row, heads first", [178], 9, 3, 64, 16, BF16), ("of a row", [65, 0, 96], 8, 1, 128, 32, BF16),
        ("of a position", [288, 100], 7, 1, 80, 48, BF16), ("apart", [131, 0, 64], 4, 2, 96, 4, BF16),
        ("of a row, heads first", [70], 2, 1, 256, 64, BF16), ("apart", [40, 256], 2, 2, 16, 128, BF16),
        ("of a row", [50, 0, 32], 6, 2, 64, 16, FP32), ("of a position", [90], 5, 1, 20, 16, BF16),
        ("of a row", [9], 4, 2, 64, 1, BF16),
    ],
)  # fmt: skip
def test_pages(layout, lengths, heads, kv, size, page, dtype):
    s = Paged(lengths, heads, kv, size, page, layout, dtype)
    program = s.program()
    text = generate(program).text()
    assert "const Pages cache" in text and f"attend<{heads // kv}, {size}, {size}, kEmptyIsZero" in text
    assert launch(program, s.tensors).status == 0
    close(s.out, s.want(), LIMITS[dtype])


def test_memory_that_is_not_aligned():
    s = Paged([150, 3], 3, 1, 64)
    assert launch(s.program(), s.tensors, odd=("arg1_1",)).status == 0
    close(s.out, s.want(), LIMITS[BF16])


def test_a_window_that_begins_inside_a_page():
    s = Paged([150, 9, 0], window=37)
    assert launch(s.program(), s.tensors).status == 0
    close(s.out, s.want(), LIMITS[BF16])


@pytest.mark.parametrize(("length", "page"), [(0, 16), (1, 16), (64, 48), (65, 128), (200, 48), (200, 4)])
def test_parts(length, page):
    s = Paged([length], page=page, pages=-(-200 // page))
    merge, unfinished = split_node(s.node(), 3)
    tensors = {**s.tensors, unfinished.out.name: torch.full((6, 3, 18), 77.0)}
    program = one_kernel(unfinished.nest, tensors, (3, 1))
    text = generate(program).text()
    assert "const Pages cache" in text and "attend<3, 16, 16, kUnfinished" in text
    assert launch(program, tensors).status == 0
    merged = {"paged_attend": s.out, unfinished.out.name: tensors[unfinished.out.name]}
    assert launch(one_kernel(merge.nest, merged), merged).status == 0
    close(merged["paged_attend"], s.want(), LIMITS[BF16])


@pytest.mark.parametrize("size", [20, 64])
@pytest.mark.parametrize("block", [-1, 5])
def test_a_block_that_is_not_there(block, size):
    s = Paged([20, 30], size=size)
    assert len(s.cache) == 5
    s.table[1, 1] = block
    report = launch(s.program(), s.tensors)
    assert (report.status, report.fault.value, report.fault.size) == (2, block, 5)


@pytest.mark.parametrize("lengths", [[17], [5, 0, 20]])
def test_a_step_with_its_store(lengths):
    """A row that pads stores nothing and gives zeros; attention waits for the store."""
    given = test_paged.inputs(lengths, BF16)
    machine = dataclasses.replace(machines.cuda(3), attend_parts=2, position=1000.0)
    program = compile_graph(graph_of(test_paged.step(), *given), machine, verified=True)
    check(program)
    emulated, named = Emulated(program), {f"arg{n}_1": t for n, t in enumerate(given)}
    for _ in range(2):
        got, want = P.run(program, named, executable=emulated), P.run(program, named)
        for key in want:
            torch.testing.assert_close(got[key].float(), want[key].float(), rtol=2e-2, atol=2e-2)
