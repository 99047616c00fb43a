"""The outputs of a captured graph: which part gives each, and how it becomes what the caller gets."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend import nodes
from onelaunch.frontend.capture import placeholders
from onelaunch.frontend.partition import Partition
from onelaunch.frontend.partition import operands
from onelaunch.frontend.results import Result


def output_node(module: GraphModule) -> Node:
    """The node that says what a module returns."""
    end: Node = next(n for n in reversed(module.graph.nodes) if n.op == "output")
    return end


def outputs_of(module: GraphModule) -> list[Any]:
    """What a module returns: nodes and plain values."""
    return [_final(o) for o in output_node(module).args[0]]  # type: ignore[union-attr]


def _final(output: Any) -> Any:
    """An output that is an updated argument is the argument itself."""
    return output.args[0] if isinstance(output, Node) and nodes.is_update(output) else output


def owners(cut: Partition, outputs: list[Any]) -> list[tuple[int, Node] | None]:
    """For each output, the part and the node of it that the output is, or is a view of; None: neither.

    A lowered part gives a view in its own memory, unless that memory is needed otherwise: then the output stays a view.
    """
    home = {n: i for i, p in enumerate(cut.parts) for n in p.nodes}
    roots = [_root(o, cut) for o in outputs]
    found: list[tuple[int, Node] | None] = []
    for output, root in zip(outputs, roots, strict=True):
        if root is None or root not in home:
            found.append(None)
            continue
        part = home[root]
        alone = roots.count(root) == 1 and cut.parts[part].lowered
        alone = alone and all(o is root or o.op == "placeholder" for o in _reads(output, cut))
        alone = alone and not _repeats(output)
        crosses = any(root in operands(n, cut.torch_nodes) for p in cut.parts[part + 1 :] for n in p.nodes)
        found.append((part, output if alone and not crosses else root))
    return found


def _repeats(output: Node) -> bool:
    """An expanded view: one place of memory is several elements, so nothing can be stored in its layout."""
    value = output.meta["val"]
    dims = zip(value.shape, value.stride(), strict=True)
    # Symbolic sizes and strides are not compared: that would add a guard.
    return any(isinstance(step, int) and step == 0 and not (isinstance(n, int) and n == 1) for n, step in dims)


def _reads(output: Node, cut: Partition) -> list[Node]:
    is_member = not nodes.is_free(output) or output in cut.torch_nodes
    return [output] if is_member else operands(output, cut.torch_nodes)


def _root(output: Any, cut: Partition) -> Node | None:
    """The node in whose memory an output lies; None for numbers and sizes."""
    if not isinstance(output, Node) or not isinstance(output.meta.get("val"), torch.Tensor):
        return None
    node: Node = output
    while nodes.is_free(node) and node not in cut.torch_nodes and isinstance(node.args[:1] and node.args[0], Node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def results_of(module: GraphModule, outputs: list[Any], wanted: list[Node]) -> list[Result] | None:
    """How the outputs come out of one segment that gives ``wanted``; None where it takes more than that."""
    arguments = {n: i for i, n in enumerate(placeholders(module))}
    results = []
    for output in outputs:
        if not isinstance(output, Node):
            results.append(Result("constant", value=output))
        elif output in wanted:
            results.append(Result("result", wanted.index(output)))
        elif output in arguments:
            results.append(Result("argument", arguments[output]))
        else:
            found = _sum(output, arguments) or _view(output, wanted)
            if found is None:
                return None
            results.append(found)
    return results


def _sum(output: Node, arguments: dict[Node, int]) -> Result | None:
    """An output that is a linear expression over symbolic sizes which are arguments."""
    value = output.meta.get("val")
    if not isinstance(value, torch.SymInt):
        return None
    sizes = {n.meta["val"].node.expr: i for n, i in arguments.items() if isinstance(n.meta.get("val"), torch.SymInt)}
    terms, offset = [], 0
    for symbol, factor in value.node.expr.as_coefficients_dict().items():
        if not factor.is_Integer or not (symbol.is_Integer or symbol in sizes):
            return None
        if symbol.is_Integer:
            offset += int(symbol) * int(factor)
        else:
            terms.append((sizes[symbol], int(factor)))
    return Result("sum", offset=offset, terms=tuple(terms))


def _view(output: Node, wanted: list[Node]) -> Result | None:
    node = output
    while nodes.is_free(node) and node not in wanted and isinstance(node.args[:1] and node.args[0], Node):
        node = node.args[0]  # type: ignore[assignment]
    value = output.meta.get("val")
    if node not in wanted or not isinstance(value, torch.Tensor) or value.dtype is not node.meta["val"].dtype:
        return None
    size, stride, offset = tuple(value.shape), value.stride(), value.storage_offset()
    if not all(isinstance(n, int) for n in (*size, *stride, offset)) or node.meta["val"].storage_offset() != 0:
        return None
    return Result("view", wanted.index(node), size, stride, int(offset))
