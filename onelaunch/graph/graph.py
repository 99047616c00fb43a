"""The graph: a model as values and loop nests, in single-assignment form until the ``inplace`` pass.

A node computes one value. A node with a ``base`` starts from a copy of that value and stores into it (an index_put, a
slice_scatter); ``updates`` say which arguments end the step with which value.
"""

from __future__ import annotations

import dataclasses

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Symbol


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A tensor: an argument, or what a node computes."""

    name: str
    dtype: DType
    shape: tuple[Expr, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """A tensor that the caller binds; ``constant`` ones are weights, never written and streamed ahead."""

    value: Value
    strides: tuple[Expr, ...]
    constant: bool
    position: int  # in the call's argument list


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """One computed value and where it comes from."""

    out: Value
    nest: Nest
    base: str | None = None  # value whose copy is stored into
    softmax: tuple[str, int] | None = None  # (input value, dimension) where the node is a softmax of a value
    origin: str = ""  # module path and source line, for people

    @property
    def reads(self) -> list[str]:
        """Names of the values that the node reads, each once (its base is not among them)."""
        return list(dict.fromkeys(e.attr for e in self.nest.loads()))


@dataclasses.dataclass(slots=True)
class Graph:
    """A model's step: arguments in, nodes in order, updates of arguments and outputs out."""

    name: str
    symbols: tuple[Symbol, ...]
    arguments: list[Argument]
    nodes: list[Node]
    updates: list[tuple[str, str]]  # (argument, the value it holds afterwards)
    outputs: list[str]
    output_strides: list[tuple[Expr, ...]]  # in elements, as the caller expects them

    def values(self) -> dict[str, Value]:
        """Every value by name."""
        table = {a.value.name: a.value for a in self.arguments}
        table.update({n.out.name: n.out for n in self.nodes})
        return table

    def users(self) -> dict[str, list[Node]]:
        """The nodes that read each value (as a load or as a base)."""
        table: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.reads, *((node.base,) if node.base else ()))):
                table.setdefault(name, []).append(node)
        return table

    def prune(self) -> None:
        """Drop nodes that nothing needs."""
        needed = set(self.outputs) | {value for _, value in self.updates}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.out.name in needed:
                kept.append(node)
                needed.update(node.reads)
                if node.base:
                    needed.add(node.base)
        self.nodes = kept[::-1]


def load_value(value: Value, indices: tuple[Expr, ...]) -> Expr:
    """The load of one element of a value."""
    return Expr.make(Op.LOAD, indices, value.name, value.dtype)
