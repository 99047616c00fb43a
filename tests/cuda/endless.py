"""One decode step of a small model, called or replayed many times from the same cache, and compared bit by bit."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.configurations import configuration
from benchmarks.gpu_model import Step
from benchmarks.gpu_model import random_model
from onelaunch.frontend import stats
from onelaunch.frontend.backend import backend


class Endless:
    """``differ`` counts the logits, over all calls so far, that were not what the first call gave."""

    @torch.no_grad()
    def __init__(self, batch: int = 3, layers: int = 3) -> None:
        config = configuration("135m", layers)
        config.vocab_size = 1009
        torch._dynamo.reset()
        self.step = Step(random_model(config), batch, 40)
        options: dict[str, Any] = {"target": "cuda", "fallback": "error", "cache": False}
        self.call = torch.compile(self.step.model, backend=backend, fullgraph=True, dynamic=False, options=options)
        self.step.rewind()
        self.first = self.step.run(self.call).clone()
        self.differ = torch.zeros((), dtype=torch.int64, device="cuda")
        assert self.first.isfinite().all()

    @property
    def executable(self) -> Any:
        """Of the program that ran."""
        return [b for r in stats.records() for s in r.live for b in getattr(s, "bindings", ())][-1].executable

    @torch.no_grad()
    def once(self) -> None:
        self.step.rewind()
        self.differ += (self.step.run(self.call) != self.first).sum()  # nan is unequal to everything

    def graph(self, steps: int) -> torch.cuda.CUDAGraph:
        """So many calls, with their comparisons."""
        self.once()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(steps):
                self.once()
        return graph

    def poison(self) -> None:
        """Fill what tasks hand to each other with NaN, as any float type reads it."""
        self.executable.load()._workspace.fill_(0xFF)

    def end(self) -> None:
        self.executable.synchronize()
        assert int(self.differ) == 0


class Busy:
    """A stream of matrix products beside the launches; ``more`` enqueues the next."""

    def __init__(self, size: int = 1024) -> None:
        self.stream = torch.cuda.Stream()
        self.a, self.b = torch.randn(2, size, size, device="cuda", dtype=torch.bfloat16)
        self.out = torch.empty_like(self.a)
        torch.cuda.synchronize()

    def more(self) -> None:
        with torch.cuda.stream(self.stream):
            torch.mm(self.a, self.b, out=self.out)
