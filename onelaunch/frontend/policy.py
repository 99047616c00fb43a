"""Graphs that could be lowered and still stay in torch whole: decided on Dynamo's graph, before any tracing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend import attention
from onelaunch.frontend.capture import is_parameter
from onelaunch.frontend.fallback import Fallback
from onelaunch.frontend.fallback import of_graph
from onelaunch.frontend.fallback import of_node
from onelaunch.frontend.options import Options
from onelaunch.frontend.symbols import hint

MAX_ROWS = 32  # beyond this a product is bound by arithmetic, not by the bytes of its weight

_PRODUCTS = {
    torch.nn.functional.linear: 1,
    torch.matmul: 1,
    torch.Tensor.matmul: 1,
    torch.mm: 1,
    torch.bmm: 1,
    torch.addmm: 2,
    torch.Tensor.addmm: 2,
}


def reason_for_torch(gm: GraphModule, inputs: Sequence[Any], options: Options) -> Fallback | None:
    """Why the whole of a Dynamo graph is better off in torch, or has to be; None: it is not."""
    if _trains(gm, inputs):
        return of_graph("gradients are recorded; call under torch.no_grad() or torch.inference_mode()")
    for tensor in inputs:
        if isinstance(tensor, torch.Tensor) and tensor.device.type not in options.devices:
            accepted = ", ".join(sorted(options.devices))
            return of_graph(f"a tensor on {tensor.device}; target {options.target!r} accepts tensors on: {accepted}")
    if (writer := _writer_of_number(gm)) is not None:
        return of_node(writer, "a float64 number is an argument and may be written: AOTAutograd loses that store")
    for node in gm.graph.nodes:
        if _drops(node):
            return of_node(node, "dropout of a model in training mode; call model.eval()")
    return _prefill(gm)


def _prefill(gm: GraphModule) -> Fallback | None:
    """Most products multiply many rows: those of a prompt. A step has few such products, or none: where its cache is
    compressed, one a layer takes the whole cache apart. The head of a prompt, in turn, may see the last token alone.
    """
    rows = [r for r in map(_rows, gm.graph.nodes) if r]
    many = [r for r in rows if r > MAX_ROWS]
    if 2 * len(many) < len(rows) or not many:
        return None
    return of_graph(f"prefill: {max(many)} rows in its products with weights, more than {MAX_ROWS}")


def _trains(gm: GraphModule, inputs: Sequence[Any]) -> bool:
    """Gradients would flow. A graph that switches recording off or on itself is left for AOTAutograd to judge."""
    if not torch.is_grad_enabled() or any(n.target is torch._C._set_grad_enabled for n in gm.graph.nodes):
        return False
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in inputs)


def _writer_of_number(gm: GraphModule) -> Node | None:
    """The first operation that writes a float64 argument without dimensions, or a view of one."""
    numbers: set[Node] = set()
    nodes: list[Node] = list(gm.graph.nodes)
    for node in nodes:
        first, out = node.args[0] if node.args else None, node.kwargs.get("out")
        several = isinstance(first, list | tuple) or isinstance(out, list | tuple)
        written = node.all_input_nodes if several else [n for n in (first, out) if isinstance(n, Node)]
        if _is_number(node) or (isinstance(first, Node) and first in numbers and _name(node) in _VIEWS):
            numbers.add(node)
        elif _writes(node) and numbers.intersection(written):
            return node
    return None


def _is_number(node: Node) -> bool:
    """An argument without dimensions of the type that torch takes for a Python float."""
    value = node.meta.get("example_value")
    if node.op != "placeholder" or not isinstance(value, torch.Tensor):
        return False
    return value.dim() == 0 and value.dtype is torch.float64


def _writes(node: Node) -> bool:
    """An operation in place, by its name: ``add_``, ``setitem``, ``iadd``, or one with ``out=``."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = _name(node)
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or "out" in node.kwargs or name in _ASSIGNMENTS


def _name(node: Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


_VIEWS = frozenset({
    "alias", "as_strided", "contiguous", "detach", "expand", "expand_as", "flatten", "getattr", "getitem", "permute",
    "ravel", "real", "reshape", "reshape_as", "select", "squeeze", "swapaxes", "t", "to", "transpose", "unsqueeze",
    "view", "view_as",
})  # fmt: skip
_ASSIGNMENTS = frozenset({
    "setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "ilshift",
    "irshift", "imatmul",
})  # fmt: skip


def _drops(node: Node) -> bool:
    if node.op != "call_function":
        return False
    if attention.is_attention(node):
        return (attention.reason_against(node) or "").startswith("attention with dropout")
    if node.target not in (torch.nn.functional.dropout, torch.dropout):
        return False
    p = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
    training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", node.kwargs.get("train", True))
    return training is not False and isinstance(p, float | int) and p != 0.0


def _rows(node: Node) -> int:
    """Rows that one product multiplies with a parameter; 0 for other nodes. Symbolic sizes count as they were seen."""
    position = _PRODUCTS.get(node.target) if node.op == "call_function" else None  # type: ignore[arg-type]
    if node.op == "call_method" and node.target in ("matmul", "mm", "__matmul__"):
        position = 1
    if position is None and node.op == "call_function" and getattr(node.target, "__name__", "") == "matmul":
        position = 1  # operator.matmul
    if position is None or len(node.args) <= position:
        return 0
    weight, rows = node.args[position], node.args[position - 1]
    if not isinstance(weight, Node) or not isinstance(rows, Node) or not _is_weight(weight):
        return 0
    value = rows.meta.get("example_value")
    return math.prod([hint(s) for s in value.shape[:-1]]) if isinstance(value, torch.Tensor) else 0


def _is_weight(node: Node) -> bool:
    """A parameter, or its transpose."""
    while node.op == "call_method" and node.target in ("t", "transpose") and isinstance(node.args[0], Node):
        node = node.args[0]
    if (
        node.op == "call_function"
        and getattr(node.target, "__name__", "") == "getattr"
        and isinstance(node.args[0], Node)
    ):
        node = node.args[0]  # weight.T
    return node.op == "placeholder" and is_parameter(node)
