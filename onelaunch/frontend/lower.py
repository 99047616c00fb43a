"""From a functional Core ATen FX module to a graph."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import torch

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import attend
from onelaunch.frontend import paged
from onelaunch.frontend import rules_accumulate
from onelaunch.frontend import rules_convolution
from onelaunch.frontend import rules_creation
from onelaunch.frontend import rules_gather
from onelaunch.frontend import rules_layout
from onelaunch.frontend import rules_order
from onelaunch.frontend import rules_product
from onelaunch.frontend import rules_reduce
from onelaunch.frontend.aten import RULES
from onelaunch.frontend.aten import lower_integer
from onelaunch.frontend.aten import lower_pointwise
from onelaunch.frontend.lowering import Lowering
from onelaunch.frontend.pointwise import POINTWISE
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Expr
from onelaunch.graph.graph import Argument
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Value
from onelaunch.program.program import Symbol

_INTEGER = {operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.floordiv: "floordiv",
            operator.mod: "mod"}  # fmt: skip
# Importing them registers their rules.
RULE_MODULES = (
    attend, paged, rules_accumulate, rules_convolution, rules_creation, rules_gather, rules_layout, rules_order,
    rules_product, rules_reduce,
)  # fmt: skip


def lower(
    module: torch.fx.GraphModule, constants: set[str], symbols: dict[str, tuple[int, int]], name: str = "graph"
) -> Graph:
    """The graph of a module.

    ``module``: functional ATen; placeholders are tensors or SymInts (``meta["val"]``), ``aten.copy_(placeholder, v)``
    updates an argument, the output is a tuple of tensors. ``constants``: names of placeholders that are weights.
    ``symbols``: range of every symbolic size. Raises UnsupportedError naming what cannot be lowered.
    """
    low = Lowering(symbols)
    arguments: list[Argument] = []
    updates: dict[str, str] = {}
    outputs: list[str] = []
    strides: list[tuple[Expr, ...]] = []
    placeholders = 0
    for node in module.graph.nodes:
        low.node = node
        if node.op == "placeholder":
            argument = _placeholder(low, node, placeholders, node.name in constants)
            placeholders += 1
            if argument is not None:
                arguments.append(argument)
        elif node.op == "output":
            outputs = [low.value(a).name for a in node.args[0]]
            strides = [tuple(low.extent(s) for s in a.meta["val"].stride()) for a in node.args[0]]
        elif node.op == "call_function" and _short(node.target) == "copy_":
            target, source = node.args[0], node.args[1]
            updates[low.value(target).name] = _as_update(low, low.value(target), source).name
            low.env[node] = low.value(source)
        else:
            low.env[node] = _lower_node(low, node, module)
    graph = Graph(
        name=name,
        symbols=tuple(Symbol(n, lo, hi) for n, (lo, hi) in symbols.items()),
        arguments=arguments,
        nodes=low.nodes,
        updates=list(updates.items()),
        outputs=outputs,
        output_strides=strides,
    )
    graph.prune()
    return graph


def reason_against(node: torch.fx.Node) -> str | None:
    """Why a node cannot be lowered, or None. Lowers the node alone, on stand-ins for its operands."""
    if node.op in ("placeholder", "output") or (node.op == "call_function" and _short(node.target) == "copy_"):
        return None
    low = Lowering(_symbol_ranges(node))
    low.node = node
    try:
        for operand in node.all_input_nodes:
            low.env[operand] = _stand_in(low, operand)
        _lower_node(low, node, node.graph.owning_module)
    except UnsupportedError as e:
        return str(e)
    return None


def _symbol_ranges(node: torch.fx.Node) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for n in (node, *node.all_input_nodes):
        values = n.meta.get("val")
        for v in values if isinstance(values, tuple | list) else [values]:
            sizes = v.shape if isinstance(v, torch.Tensor) else [v]
            for s in sizes:
                if isinstance(s, torch.SymInt):
                    found.update({str(f): (1, 1 << 20) for f in s.node.expr.free_symbols})
    return found


def _stand_in(low: Lowering, node: torch.fx.Node) -> Any:
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        return Value(node.name, Lowering.dtype(value), low.shape(value))
    if isinstance(value, tuple | list):
        return [Value(f"{node.name}_{i}", Lowering.dtype(v), low.shape(v)) for i, v in enumerate(value)]
    if isinstance(value, torch.SymInt | int):
        return low.extent(value)
    raise UnsupportedError(f"operand {node} is {type(value).__name__}, neither a tensor nor an integer")


def _placeholder(low: Lowering, node: torch.fx.Node, position: int, constant: bool) -> Argument | None:
    meta = node.meta.get("val")
    if isinstance(meta, torch.SymInt):
        low.env[node] = low.extent(meta)
        return None
    if isinstance(meta, int):
        low.env[node] = low.extent(meta)
        return None
    if not isinstance(meta, torch.Tensor):
        low.env[node] = None
        return None
    value = Value(node.name, Lowering.dtype(meta), low.shape(meta))
    low._unique(node.name)
    low.env[node] = value
    return Argument(value, tuple(low.extent(s) for s in meta.stride()), constant, position)


def _as_update(low: Lowering, target: Value, source: Any) -> Value:
    """The value that an argument ends with: of the argument's type and shape."""
    value = low.value(source)
    if value.dtype is target.dtype and value.shape == target.shape:
        return value
    from onelaunch.frontend import views
    from onelaunch.frontend.aten import convert

    index = low.variables(target.shape)
    body = convert(low.at(value, views.broadcast(index, value.shape)), target.dtype)
    return low.emit_nest(target.shape, target.dtype, index, index, body)


def _lower_node(low: Lowering, node: torch.fx.Node, module: torch.fx.GraphModule | None) -> Any:
    if node.op == "get_attr":
        return _constant(low, node, module)
    if node.op != "call_function":
        raise UnsupportedError(f"a node of kind {node.op}")
    if node.target is operator.getitem:
        return low.env[node.args[0]][node.args[1]]  # type: ignore[index]
    if node.target in _INTEGER:
        return lower_integer(low, _INTEGER[node.target], *node.args)
    name = _short(node.target)
    if name in ("sym_size",):
        return lower_integer(low, name, *node.args)
    if not isinstance(node.target, torch._ops.OpOverload) and isinstance(node.meta.get("val"), torch.SymInt):
        return low.extent(node.meta["val"])  # sym_max and the like: torch knows what they are of the sizes
    _refuse_odd_results(node)
    if name in POINTWISE:
        _refuse_odd_arguments(node, POINTWISE[name], (), {k: v for k, v in node.kwargs.items() if k != "memory_format"})
        return lower_pointwise(low, name, *node.args, **node.kwargs)
    if name not in RULES:
        raise UnsupportedError(f"no lowering rule for {node.target}")
    _refuse_odd_arguments(node, RULES[name], (low,), node.kwargs)
    return RULES[name](low, *node.args, **node.kwargs)


_signature = functools.cache(inspect.signature)


def _refuse_odd_arguments(
    node: torch.fx.Node, rule: Callable[..., Any], before: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Overloads and options that a rule does not know are left to torch."""
    try:
        _signature(rule).bind(*before, *node.args, **kwargs)
    except TypeError as e:
        given = ", ".join([str(len(node.args)), *kwargs])
        raise UnsupportedError(f"no lowering rule for {node.target} with these arguments ({given}): {e}") from None


def _refuse_odd_results(node: torch.fx.Node) -> None:
    values = node.meta.get("val")
    for v in values if isinstance(values, tuple | list) else [values]:
        if not isinstance(v, torch.Tensor):
            raise UnsupportedError(f"{node.target} gives {type(v).__name__}, not a tensor")
        if from_torch(v.dtype) is None:
            raise UnsupportedError(f"element type {v.dtype}")
        if any(isinstance(s, int) and s == 0 for s in v.shape):
            raise UnsupportedError("a tensor without elements")


def _short(target: Any) -> str:
    """The operation's name without namespace and overload."""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.split("::")[1]
    return getattr(target, "__name__", str(target))


def _constant(low: Lowering, node: torch.fx.Node, module: torch.fx.GraphModule | None) -> Value:
    """A tensor stored in the module: only single numbers, which become literals."""
    tensor: Any = module
    for part in str(node.target).split("."):
        tensor = getattr(tensor, part)
    if not isinstance(tensor, torch.Tensor) or tensor.numel() != 1:
        raise UnsupportedError(f"constant tensor {node.target} with more than one element")
    from onelaunch.graph.build import const

    literal: Expr = const(tensor.item(), Lowering.dtype(tensor))
    return low.emit(tensor, lambda _: literal)
