"""From a captured graph to a callable: partition, a segment for every lowered part, torch for the rest."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import nodes
from onelaunch.frontend.capture import Capture
from onelaunch.frontend.capture import Runner
from onelaunch.frontend.capture import placeholders
from onelaunch.frontend.fallback import Fallback
from onelaunch.frontend.fallback import of_graph
from onelaunch.frontend.part_module import PartModule
from onelaunch.frontend.part_module import copy
from onelaunch.frontend.part_module import part_modules
from onelaunch.frontend.partition import Partition
from onelaunch.frontend.partition import Refuse
from onelaunch.frontend.partition import operands
from onelaunch.frontend.partition import partition
from onelaunch.frontend.results import Result
from onelaunch.frontend.results import is_identity
from onelaunch.frontend.segment import Segment

MakeSegment = Callable[[GraphModule, set[str], int], Segment]


@dataclasses.dataclass(slots=True)
class Assembly:
    """A captured graph, ready to run."""

    run: Runner  # takes the values of the captured module's placeholders
    segments: list[Segment]
    fallbacks: list[Fallback]
    torch_parts: int
    results: list[Result] | None  # outputs in terms of the one segment; None: there is more to it


def assemble(captured: Capture, refuse: Refuse, make: MakeSegment, *, strict: bool = False) -> Assembly:
    """Cut, build, and connect. ``make(module, constants, number)`` compiles a lowered part.

    A part that ``make`` finds unsupported as a whole runs in torch. ``strict``: raise UnsupportedError instead of
    leaving anything to torch.
    """
    module = captured.module
    cut = partition(module, refuse)
    if strict and cut.fallbacks:
        raise cut.fallbacks[0].error()
    outputs = [_final(o) for o in _outputs(module)]
    owned = _owned(cut, outputs)
    wanted = list(dict.fromkeys(o for o in owned if o is not None))
    if len(cut.parts) == 1 and cut.parts[0].lowered:
        results = _results(module, outputs, [n for _, n in wanted])
        if results is not None:
            _narrow(module, [n for _, n in wanted])
            made = _Made(make, strict)
            run = made.runner(module, captured.constants)
            if not is_identity(results):
                run = _finishing(run, results)
            return Assembly(run, made.segments, made.refused, 1 - len(made.segments), results)
    parts = part_modules(module, cut, wanted, captured.constants)
    made = _Made(make, strict)
    runs = [made.runner(p.module, p.constants) if p.lowered else p.module.forward for p in parts]
    run = _connect(module, parts, runs, outputs).forward
    return Assembly(run, made.segments, cut.fallbacks + made.refused, len(parts) - len(made.segments), None)


class _Made:
    """The segments made so far, and why a part was not made into one."""

    def __init__(self, make: MakeSegment, strict: bool) -> None:
        self.make, self.strict = make, strict
        self.segments: list[Segment] = []
        self.refused: list[Fallback] = []

    def runner(self, module: GraphModule, constants: set[str]) -> Runner:
        """A segment for ``module``, or torch where it is unsupported as a whole."""
        try:
            segment = self.make(module, constants, len(self.segments))
        except UnsupportedError as e:
            if self.strict:
                raise
            self.refused.append(of_graph(str(e)))
            return module.forward
        self.segments.append(segment)
        return segment


def _narrow(module: GraphModule, wanted: list[Node]) -> None:
    """Make ``wanted`` the outputs of ``module``, which keeps all of its placeholders."""
    _output_node(module).args = (tuple(wanted),)
    module.graph.eliminate_dead_code()
    module.recompile()


def _finishing(run: Runner, results: list[Result]) -> Runner:
    return lambda *args: finish(run(*args), args, results)


def finish(made: Sequence[torch.Tensor], args: Sequence[Any], results: Sequence[Result]) -> tuple[Any, ...]:
    """The outputs of a call, from what its launch made."""
    return tuple(r.make(args, made) for r in results)


def _output_node(module: GraphModule) -> Node:
    end: Node = next(n for n in reversed(module.graph.nodes) if n.op == "output")
    return end


def _outputs(module: GraphModule) -> list[Any]:
    return list(_output_node(module).args[0])  # type: ignore[arg-type]


def _final(output: Any) -> Any:
    """An output that is an updated argument is the argument itself."""
    return output.args[0] if isinstance(output, Node) and nodes.is_update(output) else output


def _owned(cut: Partition, outputs: list[Any]) -> list[tuple[int, Node] | None]:
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
        crosses = any(root in operands(n, cut.torch_nodes) for p in cut.parts[part + 1 :] for n in p.nodes)
        found.append((part, output if alone and not crosses else root))
    return found


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


def _results(module: GraphModule, outputs: list[Any], wanted: list[Node]) -> list[Result] | None:
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


def _connect(whole: GraphModule, parts: list[PartModule], runs: list[Runner], outputs: list[Any]) -> GraphModule:
    """A module that runs the parts one after the other; views among the outputs are its own."""
    graph = Graph()
    made: dict[Node, Node] = {}
    for node in placeholders(whole):
        made[node] = graph.placeholder(node.name)
    for number, (part, run) in enumerate(zip(parts, runs, strict=True)):
        call = graph.call_function(_named(run, f"part_{number}"), tuple(made[n] for n in part.inputs))
        for i, node in enumerate(part.outputs):
            made[node] = graph.call_function(operator.getitem, (call, i))
    graph.output(tuple(copy(o, graph, made) if isinstance(o, Node) else o for o in outputs))
    return GraphModule(whole, graph)


def _named(run: Runner, name: str) -> Runner:
    """``run`` as a plain function of a name that generated code can call."""

    def call(*args: Any) -> Sequence[Any]:
        return run(*args)

    call.__name__ = call.__qualname__ = name
    call.__module__ = __name__
    return call
