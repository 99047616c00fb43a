"""A launch for each op, emulated: each begins when all blocks of the one before have said so, however far these are."""

from __future__ import annotations

import pytest
import torch

from onelaunch.targets.cuda import compiler
from tests import programs as P
from tests.cuda.emulate import EmulatedOps
from tests.cuda.emulate import Stopped
from tests.cuda.test_emulated import _compiler  # noqa: F401

ROUNDS = 4


class Under:
    """What is emulated, under one schedule."""

    def __init__(self, emulated: EmulatedOps, seed: int) -> None:
        self.emulated, self.seed = emulated, seed

    def launch(self, pointers, symbols) -> None:
        assert self.emulated.launch(pointers, symbols, self.seed).status == 0


@pytest.mark.parametrize("name", ["mlp", "attention", "embed"])
def test_programs(name):
    given = getattr(P, f"{name}_inputs", dict)()
    program = getattr(P, name)(style="op")
    emulated = EmulatedOps(program)
    for done in range(ROUNDS):
        got, want = P.run(program, given, executable=Under(emulated, done)), P.run(program, given)
        for key in want:
            torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)
        assert emulated.memory.parts["control"][0] == done + 1


def test_launches_that_do_not_wait_for_each_other_are_noticed():
    header = (compiler.INCLUDE / "onelaunch" / "op.cuh").read_text()
    broken = header.replace("  wait_for_launches_before();\n", "")
    assert broken != header
    given, program = P.attention_inputs(), P.attention(style="op")
    emulated, want = EmulatedOps(program, {"op.cuh": broken}), P.run(program, given)
    with pytest.raises((Stopped, AssertionError)):
        for seed in range(8):
            got = P.run(program, given, executable=Under(emulated, seed))
            for key in want:
                torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)


def test_an_index_that_does_not_exist():
    """What comes after the op that found it computes nothing that is seen, and the next launch is clean."""
    program = P.embed(workers=3)
    emulated = EmulatedOps(program)
    memory = P.tensors(program, P.embed_inputs())
    ids, out = (next(t for b, t in zip(program.buffers, memory, strict=True) if b.name == n) for n in ("ids", "out"))
    pointers, symbols = [t.data_ptr() for t in memory], [s.maximum for s in program.symbols]
    wanted = None
    for seed in range(4):
        ids[1] = 0
        assert emulated.launch(pointers, symbols, seed).status == 0
        wanted = out.clone() if wanted is None else wanted
        assert torch.equal(out, wanted)
        ids[1] = 7
        report = emulated.launch(pointers, symbols, seed)
        assert (report.status, report.fault.value, report.fault.size) == (2, 7, 7)
        assert not emulated.memory.parts["control"][:3].any() and not emulated.memory.parts["flagged"].any()
