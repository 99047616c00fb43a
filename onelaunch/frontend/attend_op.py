"""``onelaunch::attend``: attention kept whole through tracing.

``attend(q, k, v, mask, is_causal, scale)`` is ``softmax(q k^T * scale + mask) v`` for q ``[B, H, S, D]``, k
``[B, Hk, L, D]`` and v ``[B, Hk, L, Dv]`` with H a multiple of Hk: query head h reads head ``h // (H / Hk)``. ``mask``
is bool (true: counts) or float (added), broadcastable to ``[B, H, S, L]``; ``is_causal`` keeps key j for query i where
``j <= i``; ``scale`` defaults to ``1 / sqrt(D)``. A row without any key gives zeros. The result is a fresh contiguous
``[B, H, S, Dv]`` in q's dtype. Nothing is written.
"""

from __future__ import annotations

from typing import Any

import torch

_SCHEMA = "(Tensor q, Tensor k, Tensor v, Tensor? mask, bool is_causal, float? scale) -> Tensor"


def _run(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """What torch itself computes: used where a graph, or the part around the node, stays in torch."""
    grouped = q.shape[1] != k.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=0.0, is_causal=is_causal, scale=scale, enable_gqa=grouped
    )
    return out.contiguous()


def _shape(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> torch.Tensor:
    # How many heads there are, and how long, is a property of the weights: it does not vary from call to call, and
    # torch is told so. A size that it has never seen stays what it is.
    sizes: list[Any] = [q.shape[1], k.shape[1], q.shape[3], v.shape[3]]
    for size in sizes:
        if isinstance(size, torch.SymInt) and size.node.has_hint():
            int(size)
    # Sizes that must agree are told to the tracer, which may know them under different symbols.
    torch._check(k.shape[2] == v.shape[2], lambda: f"{k.shape[2]} keys, {v.shape[2]} values")
    if mask is not None and mask.shape[-1] != 1:
        torch._check(mask.shape[-1] == k.shape[2], lambda: f"a mask of {mask.shape[-1]} for {k.shape[2]} keys")
    return q.new_empty((q.shape[0], q.shape[1], q.shape[2], v.shape[3]))


def _define() -> torch._ops.OpOverload:
    name = "onelaunch::attend"
    torch.library.define(name, _SCHEMA)
    torch.library.impl(name, "CompositeExplicitAutograd", _run)
    torch.library.register_fake(name, _shape)
    return torch.ops.onelaunch.attend.default


attend = _define()
