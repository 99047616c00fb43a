"""A launch for each op, emulated. Launches do not overlap here: what is shown is each op's own work, and the state that
passes from one to the next.
"""

from __future__ import annotations

import pytest
import torch

from tests import programs as P
from tests.cuda.emulate import EmulatedOps
from tests.cuda.test_emulated import _compiler  # noqa: F401

ROUNDS = 3


@pytest.mark.parametrize("name", ["mlp", "attention", "embed"])
def test_programs(name):
    given = getattr(P, f"{name}_inputs", dict)()
    program = getattr(P, name)(style="op")
    emulated = EmulatedOps(program)
    for done in range(ROUNDS):
        got, want = P.run(program, given, executable=emulated), P.run(program, given)
        for key in want:
            torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)
        assert emulated.memory.parts["control"][0] == done + 1


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
