"""``onelaunch::paged_store`` and ``onelaunch::paged_attend``: a cache in pages, as serving engines keep it.

A cache is ``[N, P, ...]``: N blocks of P positions. A sequence's position p lies in block ``table[b, p // P]`` at
``p % P``; a slot is ``block * P + offset``. One token a sequence: row b of every operand is sequence b.

``paged_store(cache, slots, rows)``: the cache with ``rows`` ``[B, ...]`` at ``slots`` ``[B]``, ints. A negative slot
stores nothing (engines pad batches with -1).

``paged_attend(q, keys, values, table, lengths, scale, window, softcap)``: for q ``[B, H, D]``, keys ``[N, P, Hk, D]``,
values ``[N, P, Hk, Dv]``, ``table [B, M]`` and ``lengths [B]`` (positions of a sequence, the newest included): softmax
of ``q k * scale`` over the last ``window`` positions (0: all), times the values; query head h reads head
``h // (H / Hk)``. ``softcap`` c > 0 replaces a score s by ``c * tanh(s / c)``. A sequence of length 0 gives zeros.
The result is ``[B, H, Dv]`` in q's dtype.
"""

from __future__ import annotations

import math

import torch


def _store(cache: torch.Tensor, slots: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    made = cache.clone()
    real = slots >= 0
    at = slots[real].long()
    made[at // cache.shape[1], at % cache.shape[1]] = rows[real]
    return made


def _attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    window: int,
    softcap: float,
) -> torch.Tensor:
    """In fp32, a sequence at a time: used where the part around the node stays in torch, and as what is expected."""
    made = q.new_zeros((q.shape[0], q.shape[1], values.shape[3]))
    for b, length in enumerate(lengths.tolist()):
        if not length:
            continue
        first = max(0, length - window) if window else 0
        at = torch.arange(first, length, device=q.device)
        blocks, places = table[b, at // keys.shape[1]].long(), at % keys.shape[1]
        k, v = (t[blocks, places].float().repeat_interleave(q.shape[1] // t.shape[2], 1) for t in (keys, values))
        score = torch.einsum("hd,lhd->hl", q[b].float(), k) * scale
        if softcap:
            score = torch.tanh(score / softcap) * softcap
        made[b] = torch.einsum("hl,lhd->hd", score.softmax(-1), v).to(q.dtype)
    return made


def _attend_shape(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    window: int,
    softcap: float,
) -> torch.Tensor:
    if q.shape[1] % keys.shape[2] or window < 0 or softcap < 0 or not math.isfinite(scale):
        raise ValueError(
            f"paged_attend: {q.shape[1]} query heads over {keys.shape[2]}, window {window}, softcap {softcap}, "
            f"scale {scale}; accepted: a multiple, at least 0, at least 0, finite"
        )
    for other, name in ((table, "table"), (lengths, "lengths")):
        _same_rows(q, other, name)
    return q.new_empty((q.shape[0], q.shape[1], values.shape[3]))


def _store_shape(cache: torch.Tensor, slots: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    _same_rows(rows, slots, "slots")
    return torch.empty_like(cache)


def _same_rows(a: torch.Tensor, b: torch.Tensor, name: str) -> None:
    """Sizes that must agree are told to the tracer, which may know them under different symbols."""
    torch._check(a.shape[0] == b.shape[0], lambda: f"{name} has {b.shape[0]} rows; accepted: {a.shape[0]}")


def _define(name: str, schema: str) -> torch._ops.OpOverload:
    torch.library.define(f"onelaunch::{name}", schema)
    defined: torch._ops.OpOverload = getattr(torch.ops.onelaunch, name).default
    return defined


paged_store = _define("paged_store", "(Tensor cache, Tensor slots, Tensor rows) -> Tensor")
paged_attend = _define(
    "paged_attend",
    "(Tensor q, Tensor keys, Tensor values, Tensor table, Tensor lengths, float scale, int window, float softcap)"
    " -> Tensor",
)
torch.library.impl("onelaunch::paged_store", "CompositeExplicitAutograd", _store)
torch.library.impl("onelaunch::paged_attend", "CompositeExplicitAutograd", _attend)
torch.library.register_fake("onelaunch::paged_store", _store_shape)
torch.library.register_fake("onelaunch::paged_attend", _attend_shape)
