"""Keeps attention whole: ``scaled_dot_product_attention`` in a Dynamo graph becomes ``onelaunch::attend``.

Before AOTAutograd, because afterwards the node has turned into whatever kernel torch would pick on this device.

    before  %a = scaled_dot_product_attention(%q, %k, %v, attn_mask=%m, scale=0.25, enable_gqa=True)
    after   %a = onelaunch.attend(%q, %k, %v, %m, False, 0.25)

Declines, and leaves the node to torch, where dropout is on, sizes have no fixed rank of 3 or 4, or batches broadcast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend.attend_op import attend

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_DEFAULTS: dict[str, Any] = {
    "attn_mask": None,
    "dropout_p": 0.0,
    "is_causal": False,
    "scale": None,
    "enable_gqa": False,
}


def is_attention(node: Node) -> bool:
    """True for a call of torch's fused attention."""
    return node.op == "call_function" and node.target is torch.nn.functional.scaled_dot_product_attention


def keep_whole(gm: GraphModule) -> int:
    """Replace what can be replaced, in place; returns how many nodes were."""
    count = 0
    for node in list(gm.graph.nodes):
        if is_attention(node) and reason_against(node) is None:
            _replace(node)
            count += 1
    if count:
        gm.recompile()
    return count


def reason_against(node: Node) -> str | None:
    """Why an attention node has to stay as it is; None: it need not."""
    call = _arguments(node)
    if call["dropout_p"] != 0.0:
        return f"attention with dropout {call['dropout_p']} (a model in training mode? call model.eval())"
    if not isinstance(call["is_causal"], bool) or isinstance(call["scale"], Node):
        return "attention whose scale or causality is computed"
    values = [_value(call[name]) for name in ("query", "key", "value")]
    if any(v is None for v in values):
        return "attention over values of unknown size"
    q, k, v = values
    if not (q.dim() == k.dim() == v.dim() and q.dim() in (3, 4)):
        return f"attention over tensors of rank {q.dim()}, {k.dim()}, {v.dim()}; accepted: 3 or 4, all equal"
    if not (_same(q.shape[0], k.shape[0]) and _same(k.shape[0], v.shape[0])):
        return "attention that broadcasts over the batch"
    return None


def _replace(node: Node) -> None:
    call = _arguments(node)
    q, k, v, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    flat = _value(q).dim() == 3
    graph = node.graph
    with graph.inserting_before(node):
        if flat:  # one head: [B, S, D] is [B, 1, S, D]
            q, k, v = (graph.call_function(torch.unsqueeze, (t, 1)) for t in (q, k, v))
            if isinstance(mask, Node) and _value(mask).dim() == 3:
                mask = graph.call_function(torch.unsqueeze, (mask, 1))
        scale = call["scale"] if call["scale"] is None else float(call["scale"])
        new = graph.call_function(attend, (q, k, v, mask, call["is_causal"], scale))
        new.meta = dict(node.meta)
        result = graph.call_function(torch.squeeze, (new, 1)) if flat else new
    if flat:
        result.meta = dict(node.meta)
        new.meta.pop("example_value", None)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _arguments(node: Node) -> dict[str, Any]:
    call = dict(_DEFAULTS)
    call.update(zip(_NAMES, node.args, strict=False))
    call.update(node.kwargs)
    return call


def _value(arg: object) -> Any:
    return arg.meta.get("example_value") if isinstance(arg, Node) else None


def _same(a: int | torch.SymInt, b: int | torch.SymInt) -> bool:
    """Equal without asking: a symbolic comparison must not add a guard."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return str(a) == str(b)
