"""Tensors without elements, which models make where a size that splits a tensor leaves nothing on one side.

Nothing computes them and nothing reads them, but as operands they would stand in the way of what does: they are taken
out of a functional ATen graph before it is cut.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend import nodes

_aten = torch.ops.aten
_SCATTERS = frozenset({_aten.slice_scatter.default, _aten.select_scatter.default})


def drop_empty(module: GraphModule) -> None:
    """Rewrite the users of empty tensors that keep their result without them, and erase what is then unused."""
    for node in list(module.graph.nodes):
        if node.target is _aten.cat.default:
            _shorten(node)
        elif node.target in _SCATTERS and _is_empty(node.args[1]):
            _replace_by_copy(node)
        elif node.target is _aten.split_with_sizes.default:
            _separate(node)
    for node in reversed(list(module.graph.nodes)):
        if not node.users and node.op == "call_function" and _is_empty(node) and not nodes.is_impure(node):
            module.graph.erase_node(node)


def _is_empty(node: Any) -> bool:
    """All its results are tensors that certainly have no elements, whatever the sizes that are not known yet."""
    found = nodes.tensors(node.meta.get("val")) if isinstance(node, Node) else []
    return bool(found) and all(any(isinstance(s, int) and s == 0 for s in t.shape) for t in found)


def _shorten(node: Node) -> None:
    pieces: Any = node.args[0]
    kept = [p for p in pieces if not _is_empty(p)]
    same = kept and all(p.meta["val"].dtype == node.meta["val"].dtype for p in kept)
    if same and len(kept) < len(pieces):  # an empty piece may still decide the type
        node.args = (kept, *node.args[1:])


def _replace_by_copy(node: Node) -> None:
    """A copy, not the base itself: the base may be an argument, and the result is none."""
    base: Any = node.args[0]
    with node.graph.inserting_before(node):
        copy = node.graph.call_function(_aten.clone.default, (base,))
    copy.meta = dict(node.meta)
    node.replace_all_uses_with(copy)
    node.graph.erase_node(node)


def _separate(node: Node) -> None:
    """A split with an empty piece as one slice a piece, so that the others do without it."""
    picks = list(node.users)
    if not any(p.target is operator.getitem and _is_empty(p) for p in picks) or not all(
        p.target is operator.getitem for p in picks
    ):
        return
    base: Any = node.args[0]
    sizes: Any = node.args[1]
    dim: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    if not all(isinstance(s, int) for s in sizes):
        return
    for pick in picks:
        number: Any = pick.args[1]
        begin = sum(sizes[:number])
        with node.graph.inserting_before(pick):
            piece = node.graph.call_function(_aten.slice.Tensor, (base, dim, begin, begin + sizes[number]))
        piece.meta = dict(pick.meta)
        pick.replace_all_uses_with(piece)
        node.graph.erase_node(pick)
    node.graph.erase_node(node)
