"""The CUDA target's own code, emulated: programs and products of many chunks, under several schedules."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from onelaunch.check import check
from onelaunch.errors import CompilerError
from onelaunch.graph.dtype import DType
from onelaunch.program import machine as machines
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda import linear
from onelaunch.targets.cuda.dataflow import dataflow
from onelaunch.targets.cuda.emit import generate
from onelaunch.transform import compile_graph
from tests import programs as P
from tests.cpu.codegen_run import one_kernel
from tests.cpu.test_codegen_linear import close
from tests.cpu.test_codegen_linear import nest_of
from tests.cpu.test_codegen_linear import tensors_of
from tests.cuda.emulate import STEPS
from tests.cuda.emulate import Emulated
from tests.cuda.emulate import Stopped
from tests.cuda.emulate import aligned
from tests.transform import test_forward
from tests.transform.graphs import graph_of


@pytest.fixture(autouse=True)
def _compiler():
    try:
        cpu_compiler.find()
    except CompilerError as error:
        pytest.skip(str(error))


def product(columns=88, size=1100, tile=88, workers=1, tokens=1):
    torch.manual_seed(0)
    w = torch.randn(columns, size).bfloat16()
    tensors = {n: aligned(t) for n, t in tensors_of(tokens, columns, size, torch.bfloat16, w).items()}
    nest = nest_of(tokens, columns, size, DType.BF16, DType.BF16)
    return one_kernel(nest, tensors, (0, tile), weights=("w",), workers=workers), tensors, w


def launch(emulated, tensors, seed, steps=STEPS):
    tensors["y"].fill_(float("nan"))
    report = emulated.launch([t.data_ptr() for t in tensors.values()], (), seed, steps)
    assert report.status == 0


@pytest.mark.parametrize(
    ("columns", "size", "tile", "tokens"),
    [(88, 1100, 88, 1), (32, 2080, 16, 3), (40, 9, 8, 1), (48, 300, 48, 7), (80, 300, 80, 12), (80, 300, 80, 20)],
)
def test_products(columns, size, tile, tokens):
    program, tensors, w = product(columns, size, tile, 2, tokens)
    emulated = Emulated(program)
    for seed in range(3):
        launch(emulated, tensors, seed)
        close(tensors, w, tensors["y"])


@pytest.mark.parametrize(("tile", "tokens"), [(24, 1), (40, 4)])
def test_products_with_columns(tile, tokens):
    """Tiles that are no power of two, as tiles of equal size mostly are."""
    torch.manual_seed(0)
    w = torch.randn(90, 104).bfloat16()
    tensors = {n: aligned(t) for n, t in tensors_of(tokens, 104, 90, torch.bfloat16, w).items()}
    nest = nest_of(tokens, 104, 90, DType.BF16, DType.BF16, lambda j, r: (r, j))
    program = one_kernel(nest, tensors, (0, tile), weights=("w",), workers=2)
    launch(Emulated(program), tensors, 0)
    close(tensors, w.T, tensors["y"])


@pytest.mark.parametrize("tokens", [1, 3, 4])
def test_products_in_the_order_of_tensor_cores(tokens):
    """Whole units of the contraction, of several chunks, with fewer units than warps and with more."""
    for size in (64, 576, 2112):
        program, tensors, w = product(24, size, 24, 1, tokens)
        assert "Ordered<bf16>" in generate(program).text()
        launch(Emulated(program), tensors, 0)
        close(tensors, w, tensors["y"])


def test_warps_that_are_not_waited_for_are_noticed():
    """A stage that is free when one warp has read it, not all of them."""
    ring = (compiler.INCLUDE / "onelaunch" / "ring.cuh").read_text()
    broken = ring.replace("init(empty[i], kWarps);", "init(empty[i], 1);").replace(
        "if (leads) arrive(barriers->empty", "if (thread_of_block() == 0) arrive(barriers->empty"
    )
    assert broken.count("thread_of_block() == 0") == 1
    program, tensors, w = product()
    emulated = Emulated(program, {"ring.cuh": broken})
    with pytest.raises((Stopped, AssertionError)):
        for seed in range(8):
            launch(emulated, tensors, seed, steps=2_000_000)
            close(tensors, w, tensors["y"])


@pytest.mark.parametrize("name", ["mlp", "attention", "embed"])
def test_programs(name):
    given = getattr(P, f"{name}_inputs", dict)()
    program = getattr(P, name)(style="op")
    emulated = Emulated(program)
    for _ in range(2):
        got, want = P.run(program, given, executable=emulated), P.run(program, given)
        for key in want:
            torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)


def test_an_abort_leaves_a_clean_slate():
    program = P.embed(workers=3)
    emulated = Emulated(program)
    memory = P.tensors(program, P.embed_inputs())
    ids = next(t for b, t in zip(program.buffers, memory, strict=True) if b.name == "ids")
    pointers, symbols = [t.data_ptr() for t in memory], [s.maximum for s in program.symbols]
    for seed in range(4):
        ids[1] = 7
        report = emulated.launch(pointers, symbols, seed)
        assert (report.status, report.fault.value, report.fault.size) == (2, 7, 7)
        assert not emulated.memory.parts["events"].any() and not emulated.memory.parts["control"][:3].any()
        ids[1] = 0
        assert emulated.launch(pointers, symbols, seed).status == 0


@pytest.mark.parametrize("function", [test_forward.step, test_forward.normed])
@pytest.mark.parametrize(("batch", "position", "parts"), [(1, 0, 1), (1, 70, 2), (3, 37, 1)])
def test_a_step_whose_newest_position_is_not_read_from_the_cache(batch, position, parts, function):
    """Products, attention and the store of a key and a value, with flags between them."""
    given = test_forward.inputs(batch, torch.bfloat16, position)
    machine = dataclasses.replace(
        machines.cuda(3), attend_parts=parts, position=1000.0, forwards=True, dependency=100.0, task=10.0
    )
    program = compile_graph(graph_of(function, *given, weights=(1, 2, 3)), machine, verified=True)
    check(program)
    assert dataflow(program).places, "values have flags"
    text = generate(program).text()
    assert "Newest{" in text
    early = re.search(r"const auto fill = \[&\] \{\n +stage<\d+>.*, true>\(fill", text, re.DOTALL)
    assert early or (batch, parts, function) != (1, 1, test_forward.step), (
        "keys are asked for before queries are looked for"
    )
    emulated, named = Emulated(program), {f"arg{n}_1": aligned(t) for n, t in enumerate(given)}
    for _ in range(3):
        got, want = P.run(program, named, executable=emulated), P.run(program, named)
        for key in want:
            torch.testing.assert_close(got[key].float(), want[key].float(), rtol=2e-2, atol=2e-2)


QUERIES = {
    "each scaled": lambda q, t: q * torch.sigmoid(t).view(-1, 2, 1, 1),
    "each normed": lambda q, t: q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 1e-5),
    "all normed": lambda q, t: q * torch.rsqrt(q.pow(2).mean((1, 3), keepdim=True) + 1e-5),
    "all scaled": lambda q, t: q * torch.sigmoid(t[:, :1]).view(-1, 1, 1, 1),
}


@pytest.mark.parametrize(("kind", "scaled"), [*((kind, False) for kind in QUERIES), ("each scaled", True)])
def test_what_all_elements_of_a_query_share(kind, scaled):
    """It may be computed before the queries are, and then must not be looked at before it is there."""
    torch.manual_seed(0)

    def step(x, wq, wt, keys, values):
        t = (x @ wt.T).float()
        q = QUERIES[kind]((x @ wq.T).view(-1, 2, 1, 16).float(), t).to(keys.dtype)
        score = (q @ keys.mT).float() * (torch.sigmoid(t[:, :1]).view(-1, 1, 1, 1) if scaled else 0.3)
        return torch.softmax(score, -1).to(values.dtype) @ values

    given = [torch.randn(n).bfloat16() for n in ((1, 16), (32, 16), (2, 16), (1, 2, 70, 16), (1, 2, 70, 16))]
    machine = dataclasses.replace(machines.cuda(4), attend_parts=1, position=1e5, dependency=10.0, task=1.0, grain=1.0)
    program = compile_graph(graph_of(step, *given, weights=(1, 2)), machine, verified=True)
    check(program)
    assert ", true>(fill" in generate(program).text()
    emulated, named = Emulated(program), {f"arg{n}_1": aligned(t) for n, t in enumerate(given)}
    for _ in range(3):
        named["arg0_1"].mul_(-1.5)
        got, want = P.run(program, named, executable=emulated), P.run(program, named)
        for key in want:
            torch.testing.assert_close(got[key].float(), want[key].float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("tokens", "most", "blocks"), [(1, 72 << 10, 1), (7, 72 << 10, 1), (7, 3 << 10, 2), (20, 4 << 10, 4)]
)
def test_inputs_in_blocks_of_the_contraction(monkeypatch, tokens, most, blocks):
    """A product of what another has written: copied straight to where it is multiplied, in blocks where it is large."""
    monkeypatch.setattr(linear, "INPUTS_MOST", most)

    def chain(x, first, second):
        return (x @ first.T) @ second.T

    torch.manual_seed(0)
    given = [torch.randn(n).bfloat16() / 8 for n in ((tokens, 64), (256, 64), (24, 256))]
    program = compile_graph(graph_of(chain, *given, weights=(1, 2)), machines.cuda(2), verified=True)
    text = generate(program).text()
    assert "stage_rows<" in text and (f"part < {blocks}" in text) == (blocks > 1)
    emulated, named = Emulated(program), {f"arg{n}_1": aligned(t) for n, t in enumerate(given)}
    got, want = P.run(program, named, executable=emulated), P.run(program, named)
    for key in want:
        torch.testing.assert_close(got[key].float(), want[key].float(), rtol=2e-2, atol=2e-2)
