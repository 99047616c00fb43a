"""Plain torch for the operators that vLLM leaves in a graph: written out node by node, for the frontend to lower.

vLLM's own IR operators carry a native definition, which is used. The operators of its C++ library write into arguments;
what is said here has their meaning, on values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def native(operator: str) -> Callable[..., Any] | None:
    """The plain torch of ``space::name``; None: it has none here (which is right for torch's own operators)."""
    space, _, op = operator.partition("::")
    if space == "vllm_ir":
        return _ir(op)
    return _WRITERS.get(op) if space == "_C" else None


def _ir(name: str) -> Callable[..., Any] | None:
    from vllm.ir.op import IrOp

    found = IrOp.registry.get(name)
    return None if found is None else found.impls["native"].impl_fn


def _silu_and_mul(out: Any, x: Any) -> None:
    half = out.shape[-1]
    out.copy_(torch.nn.functional.silu(x[..., :half]) * x[..., half:])


def _rotary_embedding(
    positions: Any,
    query: Any,
    key: Any,
    head_size: int,
    cos_sin_cache: Any,
    is_neox: bool,
    rope_dim_offset: int = 0,
    inverse: bool = False,
) -> None:
    """``query`` and ``key`` [B, heads * head_size] turned in place; a row of the cache is cosines, then sines."""
    rotated = cos_sin_cache.shape[-1]
    angles = cos_sin_cache.index_select(0, positions)
    cos, sin = angles[:, None, : rotated // 2], angles[:, None, rotated // 2 :]
    if inverse:
        sin = -sin
    end = rope_dim_offset + rotated
    for x in (query, key):
        if x is None:
            continue
        heads = x.view(positions.shape[0], -1, head_size)
        part = heads[..., rope_dim_offset:end]
        if is_neox:
            a, b = part[..., : rotated // 2], part[..., rotated // 2 :]
            turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        else:
            a, b = part[..., ::2], part[..., 1::2]
            turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
        part.copy_(turned)


_WRITERS: dict[str, Callable[..., None]] = {
    "rotary_embedding": _rotary_embedding,
    "silu_and_mul": _silu_and_mul,
}
