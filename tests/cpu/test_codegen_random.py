"""Random nests: the generated C++ against the reference target."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Role
from onelaunch.targets.cpu.target import CpuTarget
from onelaunch.targets.reference.executable import ReferenceExecutable
from tests.cpu import codegen_strategies as s

TOLERANCE = {"f64": 1e-9, "f32": 2e-4, "bf16": 3e-2, "f16": 5e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


def agree(program, folder, symbols, seed=0, spoil=lambda memory: None):
    ours, theirs = s.memory(program, seed), s.memory(program, seed)
    spoil(ours)
    CpuTarget().build(program, folder).launch([t.data_ptr() for t in ours], symbols)
    ReferenceExecutable(program).launch([t.data_ptr() for t in theirs], symbols)
    values = {x.name: v for x, v in zip(program.symbols, symbols, strict=True)}
    for buffer, a, b in zip(program.buffers, ours, theirs, strict=True):
        if buffer.role is not Role.OUTPUT:
            continue
        nest = next(program.kernels[t.kernel].nest for t in program.tasks if program.buffers[t.operands[-1]] is buffer)
        mask = torch.ones(len(a), dtype=torch.bool)
        s.view(buffer, mask, values)[...] = False
        assert torch.equal(a[mask], b[mask]), f"{buffer.name}: stored outside its elements: {nest.body}"
        a, b = s.view(buffer, a, values), s.view(buffer, b, values)
        if not buffer.dtype.is_float:
            assert torch.equal(a, b), f"{buffer.name}: {nest.body}"
            continue
        low = max(TOLERANCE[x.dtype] for k in program.kernels if k.nest is nest for x in k.operands if x.dtype.is_float)
        scale = max(1.0, float(b.double().nan_to_num(0, 0, 0).abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(
            a.double(), b.double(), rtol=low, atol=low * scale, equal_nan=True, msg=lambda m, n=nest: f"{m}\n{n.body}"
        )


# Shrinking would compile hundreds of sources: a failure names the nest, which is small already.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, phases=PHASES)
@given(st.lists(s.cases(), min_size=10, max_size=10), st.sampled_from([[1], [1, 2], [3, 1, 1]]), st.integers(1, 19))
def test_nests_agree_with_the_reference(folder, cases, strides, size):
    agree(s.program(cases, strides), folder, [size])


def test_a_wrong_element_is_noticed(folder):
    """The positive control: one input that differs makes the comparison fail."""
    i, r = build.var("i", 5), build.var("r", 7)
    nest = Nest((i,), "y", DType.F32, (i,), build.reduce("sum", r, build.load("x0", (i, r), DType.F32)))
    program = s.program([s.Case(nest, {"x0": (DType.F32, (build.const(5), build.const(7)))}, [2])], [1])
    agree(program, folder, [3])

    def spoil(memory):
        memory[0][20] += 1

    with pytest.raises(AssertionError):
        agree(program, folder, [3], spoil=spoil)
