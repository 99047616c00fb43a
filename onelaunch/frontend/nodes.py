"""What the partition has to know of an ATen node: does it alias, does it compute, does it do so by chance."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Node

_MOVES = frozenset({
    "aten::_to_copy", "aten::arange", "aten::cat", "aten::clone", "aten::copy", "aten::copy_", "aten::empty",
    "aten::full", "aten::full_like", "aten::lift_fresh_copy", "aten::scalar_tensor",
})  # fmt: skip


def name(node: Node) -> str:
    """``aten::mm`` for ``aten.mm.default``; an empty string for anything that is no torch operator."""
    target = node.target
    return str(target._schema.name) if isinstance(target, torch._ops.OpOverload) else ""


def is_update(node: Node) -> bool:
    """``aten.copy_(placeholder, value)``: an argument gets a new value in place."""
    return (
        node.target is torch.ops.aten.copy_.default
        and isinstance(node.args[0], Node)
        and node.args[0].op == "placeholder"
    )


def is_view(node: Node) -> bool:
    """The results share the first operand's memory, and nothing is written."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    aliases = [r.alias_info for r in schema.returns if r.alias_info is not None]
    return bool(aliases) and not schema.is_mutable


def is_free(node: Node) -> bool:
    """Costs no launch and no memory: views, picks from their results, and arithmetic on sizes."""
    if node.op == "get_attr":
        return True
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return isinstance(node.args[0], Node) and is_free(node.args[0])
    if isinstance(node.target, torch._ops.OpOverload):
        return is_view(node) or name(node).startswith("aten::sym_")
    return isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool | int | float)


def is_pick(node: Node) -> bool:
    """A pick from a computed tuple: it stays with what computes it."""
    return node.op == "call_function" and node.target is operator.getitem and not is_free(node)


def is_impure(node: Node) -> bool:
    """Has an effect besides its result, so it runs although nothing uses it."""
    return node.op == "call_function" and not is_free(node) and bool(node.is_impure())


def is_trivial(node: Node) -> bool:
    """Moves or makes data, or computes on integers alone: by itself not worth a launch."""
    if is_pick(node) or name(node) in _MOVES:
        return True
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.is_floating_point() and not value.is_complex()


def is_random(node: Node) -> bool:
    """The result depends on torch's random numbers."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors of a node's value: one, or those of a tuple or list."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [t for v in value for t in tensors(v)]
    return []
