"""Python functions through ``torch.compile``, nothing left to torch, against the same function run by torch."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from onelaunch.frontend.backend import backend

Function = Callable[..., Any]
LIMITS = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: 1e-11}


def compiled(function: Function, target: str = "reference", dynamic: bool | None = False, workers: int = 2) -> Function:
    """``function`` compiled afresh; an operation that would stay in torch is an error."""
    torch._dynamo.reset()
    options = {"target": target, "fallback": "error", "cache": False, "workers": workers}
    return torch.compile(function, backend=backend, options=options, dynamic=dynamic, fullgraph=True)


def copies(values: Sequence[Any]) -> list[Any]:
    """Arguments of their own layout and memory."""
    return [v.clone() if isinstance(v, torch.Tensor) else v for v in values]


@torch.no_grad()
def assert_same(function: Function, *args: Any, target: str = "reference", limit: float = 1.0, calls: int = 1) -> None:
    """Results, and what became of the arguments, are torch's; for ``calls`` calls one after the other."""
    step = compiled(function, target)
    ours, theirs = copies(args), copies(args)
    for _ in range(calls):
        compare((step(*ours), ours), (function(*theirs), theirs), limit)


def compare(found: Any, wanted: Any, limit: float = 1.0) -> None:
    """Equal structures; tensors of equal shape, type and (nearly, for floats) equal values."""
    flat_found, flat_wanted = pytree.tree_leaves(found), pytree.tree_leaves(wanted)
    assert len(flat_found) == len(flat_wanted)
    for f, w in zip(flat_found, flat_wanted, strict=True):
        if not isinstance(w, torch.Tensor):
            assert f == w
            continue
        bound = LIMITS.get(w.dtype, 0.0) * limit
        torch.testing.assert_close(f, w, rtol=bound, atol=bound, equal_nan=True)
