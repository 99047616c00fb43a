"""Programs from the real compiler: small functions on a machine where even the smallest tile pays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from unittest import mock

import torch

from onelaunch.frontend.backend import backend
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program
from onelaunch.targets.reference.target import ReferenceTarget


class _Eager(ReferenceTarget):
    def machine(self, workers: int | None = None) -> Machine:
        return dataclasses.replace(super().machine(workers), task=1.0, dependency=1.0, linear_rows=4)


def scheduled(function: Callable, *args: torch.Tensor, workers: int = 3) -> Program:
    """The program of ``function`` called with ``args``."""
    made: list[Program] = []

    class Target(_Eager):
        def build(self, program: Program, folder):
            made.append(program)
            return super().build(program, folder)

    options = {"target": "reference", "workers": workers, "cache": False, "fallback": "error"}
    with mock.patch("onelaunch.runtime.make.select", lambda *named: Target()):
        torch._dynamo.reset()
        torch.compile(function, backend=backend, dynamic=False, options=options)(*args)
    return made[-1]


def block() -> Program:
    """Norm, gate and up, down, residual."""

    def f(x, w, gate, up, down):
        h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w
        return x + (torch.nn.functional.silu(h @ gate.T) * (h @ up.T)) @ down.T

    return scheduled(f, torch.randn(2, 16), torch.randn(16), *(torch.randn(s) for s in ((24, 16), (24, 16), (16, 24))))


def attend() -> Program:
    """A cache written in place, attention over it, a projection, and a second use of the cache."""

    def f(x, wk, wv, wo, k, v, position):
        k.index_copy_(1, position, (x @ wk.T).view(1, 4, 4).transpose(0, 1))
        v.index_copy_(1, position, (x @ wv.T).view(1, 4, 4).transpose(0, 1))
        q = x.view(1, 4, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k[None], v[None]).reshape(1, 16)
        return y @ wo.T + x, (k * v).sum(-1)

    weights = [torch.randn(16, 16) for _ in range(3)]
    return scheduled(f, torch.randn(1, 16), *weights, torch.randn(4, 8, 4), torch.randn(4, 8, 4), torch.tensor([2]))
