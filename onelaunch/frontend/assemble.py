"""From a captured graph to a callable: partition, a segment for every lowered part, torch for the rest."""

from __future__ import annotations

import dataclasses
import logging
import operator
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.errors import CheckError
from onelaunch.errors import UnsupportedError
from onelaunch.frontend.calling import Runner
from onelaunch.frontend.calling import finishing
from onelaunch.frontend.calling import or_torch
from onelaunch.frontend.capture import Capture
from onelaunch.frontend.capture import placeholders
from onelaunch.frontend.fallback import Fallback
from onelaunch.frontend.fallback import of_graph
from onelaunch.frontend.outputs import output_node
from onelaunch.frontend.outputs import outputs_of
from onelaunch.frontend.outputs import owners
from onelaunch.frontend.outputs import results_of
from onelaunch.frontend.part_module import PartModule
from onelaunch.frontend.part_module import copy
from onelaunch.frontend.part_module import part_modules
from onelaunch.frontend.partition import Refuse
from onelaunch.frontend.partition import partition
from onelaunch.frontend.results import Result
from onelaunch.frontend.segment import Segment

log = logging.getLogger(__name__)
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
    outputs = outputs_of(module)
    owned = owners(cut, outputs)
    wanted = list(dict.fromkeys(o for o in owned if o is not None))
    if len(cut.parts) == 1 and cut.parts[0].lowered:
        results = results_of(module, outputs, [n for _, n in wanted])
        if results is not None:
            _narrow(module, [n for _, n in wanted])
            made = _Made(make, strict)
            run = made.runner(module, captured.constants)
            run = finishing(run, results)
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
        """A segment for ``module``, or torch where it is unsupported as a whole or its program has no certificate."""
        try:
            segment = self.make(module, constants, len(self.segments))
        except (UnsupportedError, CheckError) as e:
            if self.strict:
                raise
            self.refused.append(of_graph(" ".join(str(e).split())))
            return module.forward
        self.segments.append(segment)
        return segment if self.strict or not _has_symbols(module) else or_torch(segment, module.forward)


def _has_symbols(module: GraphModule) -> bool:
    """Whether sizes vary from call to call, so that a later call may need another program."""
    values = (n.meta.get("val") for n in module.graph.nodes if n.op == "placeholder")
    return any(isinstance(s, torch.SymInt) for v in values for s in (v, *getattr(v, "shape", ())))


def _narrow(module: GraphModule, wanted: list[Node]) -> None:
    """Make ``wanted`` the outputs of ``module``, which keeps all of its placeholders."""
    output_node(module).args = (tuple(wanted),)
    module.graph.eliminate_dead_code()
    module.recompile()


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
