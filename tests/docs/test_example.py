"""The example of the README: one launch, nothing left to torch, and the result that torch gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

import onelaunch

PATH = Path(__file__).parent.parent.parent / "docs" / "example.py"


def example():
    spec = importlib.util.spec_from_file_location("docs_example", PATH)
    module = sys.modules["docs_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inputs(module) -> list[torch.Tensor]:
    torch.manual_seed(1)
    caches = [torch.randn(1, module.KV_HEADS, module.LENGTH, module.SIZE) for _ in range(2)]
    return [torch.randn(1, module.HIDDEN), *caches, torch.tensor([64])]


@torch.no_grad()
def test_a_decoder_layer_is_one_launch(tmp_path):
    torch._dynamo.reset()
    module = example()
    layer = module.Layer().eval()
    ours, eager = inputs(module), inputs(module)
    options = {"target": "reference", "workers": 4, "cache": False}
    result = torch.empty(1, module.HIDDEN)

    def call(out: torch.Tensor, *args: torch.Tensor) -> None:
        out.copy_(layer(*args))

    found = onelaunch.explain(call, result, *ours, options=options)
    assert (found.launches, found.fallbacks, len(found.programs)) == (1, [], 1)
    assert "1 graph, 1 launch a call, 0 fallbacks" in str(found)
    assert [f.name for f in found.save(tmp_path / "example")] == ["example.svg", "example.queues.svg"]
    torch.testing.assert_close(result, layer(*eager), rtol=1e-4, atol=1e-5)
    for a, b in zip(ours[1:3], eager[1:3], strict=True):  # the caches
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
