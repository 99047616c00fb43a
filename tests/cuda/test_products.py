"""Products large enough to go through the ring in several chunks and blocks, on the GPU, against double precision."""

from __future__ import annotations

import pytest
import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from tests.cpu import codegen_run
from tests.cpu.test_codegen_linear import close
from tests.cpu.test_codegen_linear import nest_of
from tests.cpu.test_codegen_linear import tensors_of
from tests.cuda import on_gpu

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]


@pytest.fixture(autouse=True)
def _launch(monkeypatch):
    monkeypatch.setattr(codegen_run, "launch", on_gpu.launch)


@pytest.mark.parametrize("tokens", [1, 3, 8])
@pytest.mark.parametrize(
    ("columns", "size", "tile"), [(80, 2048, 16), (72, 8192, 24), (1009, 1100, 500), (64, 14336, 8)]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_out_in(tokens, columns, size, tile, dtype):
    torch.manual_seed(0)
    w = torch.randn(columns, size).to(dtype)
    tensors = tensors_of(tokens, columns, size, dtype, w)
    nest = nest_of(tokens, columns, size, from_torch(dtype), from_torch(dtype))
    close(tensors, w, codegen_run.run(nest, tensors, (0, tile), weights=("w",), workers=5))


def test_weights_that_are_not_aligned():
    whole = torch.randn(40 * 2048 + 1).to(torch.bfloat16)
    w = whole[1:].view(40, 2048)
    tensors = tensors_of(2, 40, 2048, torch.bfloat16, w)
    nest = nest_of(2, 40, 2048, from_torch(w.dtype), from_torch(w.dtype))
    close(tensors, w, codegen_run.run(nest, tensors, (0, 8), weights=("w",), workers=3))


def test_two_matrices_of_several_chunks():
    i, j, r = b.var("t", 2), b.var("n", 96), b.var("k", 4096)
    bf16 = from_torch(torch.bfloat16)
    sides = tuple(Contraction(r, b.load("x", (i, r), bf16), b.load(w, (j, r), bf16)) for w in ("gate", "up"))
    nest = Nest((i, j), "y", from_torch(torch.float32), (i, j), b.mul(b.acc(0), b.acc(1)), sides)
    tensors = {
        "x": torch.randn(2, 4096).bfloat16(), "gate": torch.randn(96, 4096).bfloat16(),
        "up": torch.randn(96, 4096).bfloat16(), "y": torch.zeros(2, 96),
    }  # fmt: skip
    got = codegen_run.run(nest, tensors, (0, 16), weights=("gate", "up"), workers=4)
    x, gate, up = (tensors[n].double() for n in ("x", "gate", "up"))
    torch.testing.assert_close(got.double(), (x @ gate.T) * (x @ up.T), rtol=1e-4, atol=0.1)
