"""What lies in shared memory where it is scarce: sums of products always, their inputs if there is room besides."""

from __future__ import annotations

import re

import pytest
import torch

from onelaunch.errors import CompilerError
from onelaunch.program import machine as machines
from onelaunch.program.program import Program
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda import kernel
from onelaunch.targets.cuda import linear
from onelaunch.targets.cuda.emit import generate
from onelaunch.transform import compile_graph
from tests import programs as P
from tests.cuda.emulate import Emulated
from tests.cuda.emulate import aligned
from tests.transform.graphs import graph_of


def gated(x, gate, up):
    return torch.nn.functional.silu((x * 2) @ gate.T) * ((x * 2) @ up.T)


def normed(x, first, second):
    scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
    return (x * scale).to(x.dtype) @ first.T + (x * 3) @ second.T


def widened(x, first, second):
    return x.float() @ first.float().T + second[0, 0]


STEPS = {"gated": gated, "normed": normed, "widened": widened}
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def program_of(step: str, dtype: str, tokens: int, size: int, columns: int, workers: int = 132) -> Program:
    given = [torch.zeros(n, size, dtype=TYPES[dtype]) for n in (tokens, columns, columns)]
    return compile_graph(graph_of(STEPS[step], *given, weights=(1, 2)), machines.cuda(workers))


@pytest.mark.parametrize(
    ("step", "dtype", "tokens", "size", "columns"),
    [
        ("gated", "fp32", 56, 512, 100), ("gated", "fp32", 17, 896, 24), ("normed", "fp32", 32, 768, 2500),
        ("normed", "bf16", 56, 896, 100), ("widened", "fp16", 64, 896, 16), ("gated", "bf16", 64, 896, 384),
        ("gated", "bf16", 16, 3584, 336), ("gated", "bf16", 1, 1024, 2048),
    ],
)  # fmt: skip
def test_sums_lie_in_shared_memory(step, dtype, tokens, size, columns):
    text = generate(program_of(step, dtype, tokens, size, columns)).text()
    homes = re.findall(r"\bsums\d+ = reinterpret_cast<float\*>\((\S+)", text)
    assert homes
    assert set(homes) == {"scratch.shared"}


@pytest.mark.parametrize(("tokens", "size", "columns"), [(56, 1024, 336), (64, 896, 336), (63, 832, 1000)])
def test_products_of_both_layouts(tokens, size, columns):
    given = [torch.zeros(n, dtype=torch.bfloat16) for n in ((tokens, size), (size, columns), (columns, size))]
    graph = graph_of(lambda x, a, b: (x * 2) @ a + (x * 3) @ b.T, *given, weights=(1, 2))
    text = generate(compile_graph(graph, machines.cuda())).text()
    (sums,) = re.findall(r"\blinear<[^;]*\b(sums\d+)", text)
    assert f"{sums} = reinterpret_cast<float*>(scratch.shared" in text


def test_parts_of_inputs_come_one_by_one_where_two_do_not_fit():
    shape = generate(program_of("normed", "bf16", 64, 768, 300)).shape
    assert shape.slots == 1
    assert shape.stages >= 2


@pytest.mark.parametrize(("step", "dtype"), [("gated", "bf16"), ("gated", "fp32"), ("normed", "bf16")])
def test_inputs_beside_which_no_sums_fit(monkeypatch, step, dtype):
    """They lie in global memory then, and the result is the same."""
    try:
        cpu_compiler.find()
    except CompilerError as error:
        pytest.skip(str(error))
    for module in (kernel, linear):
        monkeypatch.setattr(module, "SHARED_MOST", 4096)
    program = program_of(step, dtype, 5, 128, 24, workers=2)
    text = generate(program).text()
    assert "scratch.global" in text
    assert "Global>" in text
    torch.manual_seed(0)
    shapes = {b.name: b.extents for b in program.buffers if b.name.startswith("arg")}
    given = {name: aligned(torch.randn(shape).to(TYPES[dtype]) / 8) for name, shape in shapes.items()}
    got, want = P.run(program, given, executable=Emulated(program)), P.run(program, given)
    for key in want:
        torch.testing.assert_close(got[key].float(), want[key].float(), rtol=2e-2, atol=2e-2)
