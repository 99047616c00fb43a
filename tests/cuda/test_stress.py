"""Programs built with random delays at waits and signals give the same bits."""

from __future__ import annotations

import pytest
import torch

from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda.emit import generate
from tests import programs as P
from tests.cuda import on_gpu
from tests.cuda.stress import stressed


@pytest.mark.usefixtures("nvrtc")
def test_the_delays_are_compiled_in():
    """Or the tests below would show nothing."""
    plain = generate(P.mlp()).text()
    with stressed():
        delayed = generate(P.mlp()).text()
    assert delayed.endswith(plain)
    assert len({compiler.compile_source(text)[0] for text in (plain, delayed)}) == 2


@pytest.mark.cuda
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("style", ["task", "op"])
def test_the_same_bits_in_other_orders(style):
    for program in (P.mlp(workers=24, t=3, h=64, f=96, size=8, style=style), P.chain(workers=5, length=9, n=64)):
        memory = [t.cuda() for t in P.tensors(program)]
        addresses, symbols = [t.data_ptr() for t in memory], [s.maximum for s in program.symbols]
        out = next(t for b, t in zip(program.buffers, memory, strict=True) if b.name == "out")
        plain = on_gpu.build(program)
        plain.launch(addresses, symbols)
        plain.synchronize()
        want = out.clone()
        with stressed():
            delayed = on_gpu.build(program)
        differ = torch.zeros((), dtype=torch.int64, device="cuda")
        for _ in range(300):
            out.fill_(float("nan"))
            delayed.launch(addresses, symbols)
            differ += (out != want).sum()
        delayed.synchronize()
        assert int(differ) == 0
