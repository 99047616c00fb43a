"""The text form of graphs: arguments, nodes with their nests, updates, outputs; parsed back to an equal graph.

onelaunch graph 1
name "step"
symbol s0 1 8
argument x: f32[$s0, 576] strides [576, 1] position 0
argument w: bf16[576, 576] strides [576, 1] position 1 constant
node y: f32[$s0, 576] origin "model.mlp.up_proj"
  for i0 < $s0, i1 < 576
    ...
node z: f32[$s0, 576] base x softmax y 1
  ...
update x z
output y
end
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Argument
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.nest_text import NestReader
from onelaunch.graph.nest_text import print_nest
from onelaunch.graph.text import Scope
from onelaunch.graph.text import parse_list
from onelaunch.graph.text import print_expr
from onelaunch.graph.text import short
from onelaunch.program.program import Symbol

VERSION = 1
_VALUE = r"([\w.]+): (\w+)\[(.*)\]"
_STRING = r'("(?:[^"\\]|\\.)*")'
_LINES = {
    "name": re.compile(f"name {_STRING}"),
    "symbol": re.compile(r"symbol ([\w.]+) (-?\d+) (-?\d+)"),
    "argument": re.compile(rf"argument {_VALUE} strides \[(.*)\] position (\d+)( constant)?"),
    "node": re.compile(
        rf"node {_VALUE}(?: base ([\w.]+))?(?: softmax ([\w.]+) (-?\d+))?(?: origin {_STRING})?"
    ),
    "update": re.compile(r"update ([\w.]+) ([\w.]+)"),
    "output": re.compile(r"output ([\w.]+) strides \[(.*)\]"),
    "end": re.compile("end"),
}  # fmt: skip


def print_graph(graph: Graph) -> str:
    """``graph`` as text."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"onelaunch graph {VERSION}"
    yield f"name {json.dumps(graph.name)}"
    yield from (f"symbol {s.name} {s.minimum} {s.maximum}" for s in graph.symbols)
    for a in graph.arguments:
        constant = " constant" if a.constant else ""
        yield f"argument {_value(a.value)} strides [{_items(a.strides)}] position {a.position}{constant}"
    for n in graph.nodes:
        base = f" base {n.base}" if n.base is not None else ""
        softmax = f" softmax {n.softmax[0]} {n.softmax[1]}" if n.softmax is not None else ""
        origin = f" origin {json.dumps(n.origin)}" if n.origin else ""
        yield f"node {_value(n.out)}{base}{softmax}{origin}"
        yield print_nest(n.nest, "  ")
    yield from (f"update {argument} {value}" for argument, value in graph.updates)
    for name, strides in zip(graph.outputs, graph.output_strides, strict=True):
        yield f"output {name} strides [{_items(strides)}]"
    yield "end"


def _items(exprs: Sequence[Expr]) -> str:
    return ", ".join(map(print_expr, exprs))


def _value(v: Value) -> str:
    return f"{v.name}: {v.dtype}[{_items(v.shape)}]"


def parse_graph(text: str) -> Graph:
    """The graph that was printed as ``text``. Raises ProgramFormatError naming the line and what was expected."""
    reader = _Reader(text)
    try:
        return reader.graph()
    except (ProgramFormatError, ValueError, RecursionError) as error:
        raise ProgramFormatError(f"graph, line {reader.at}: {error}") from None


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.at = 0
        self.types: dict[str, DType] = {}
        self.scope = Scope({}, {}, self._dtype_of)

    def _dtype_of(self, name: str) -> DType:
        if name not in self.types:
            raise ProgramFormatError(f"{name!r} is used before it is computed")
        return self.types[name]

    def graph(self) -> Graph:
        """Everything, in order."""
        first = self._next()
        if first != f"onelaunch graph {VERSION}":
            raise ProgramFormatError(f"expected 'onelaunch graph {VERSION}', found {short(first)}")
        name = json.loads(self._line("name")[1])
        symbols = tuple(Symbol(m[1], int(m[2]), int(m[3])) for m in self._all("symbol"))
        for s in symbols:
            self.scope.symbols[s.name] = Expr.make(Op.SYM, (), (s.name, s.minimum, s.maximum), DType.I64)
        arguments = [
            Argument(self._value(m), parse_list(m[4], self.scope), m[6] is not None, int(m[5]))
            for m in self._all("argument")
        ]
        nodes = [self._node(m) for m in self._all("node")]
        updates = [(m[1], m[2]) for m in self._all("update")]
        outputs = [(m[1], parse_list(m[2], self.scope)) for m in self._all("output")]
        self._line("end")
        names, strides = [name for name, _ in outputs], [strides for _, strides in outputs]
        return Graph(name, symbols, arguments, nodes, updates, names, strides)

    def _value(self, m: re.Match[str]) -> Value:
        self.types[m[1]] = DType(m[2])
        return Value(m[1], DType(m[2]), parse_list(m[3], self.scope))

    def _node(self, m: re.Match[str]) -> Node:
        out = self._value(m)
        reader = NestReader(Scope({}, self.scope.symbols, self._dtype_of))
        while reader.nest is None:
            line = self._next()
            if not line.startswith("  "):
                raise ProgramFormatError(f"expected a line of the node's nest, found {short(line)}")
            reader.feed(line)
        softmax = (m[5], int(m[6])) if m[5] else None
        return Node(out, reader.nest, m[4], softmax, json.loads(m[7]) if m[7] else "")

    def _next(self) -> str:
        line = self.lines[self.at].rstrip("\r") if self.at < len(self.lines) else ""
        self.at += 1
        return line

    def _line(self, word: str) -> re.Match[str]:
        line = self._next()
        found = _LINES[word].fullmatch(line)
        if found is None:
            raise ProgramFormatError(f"expected a line '{word} ...', found {short(line)}")
        return found

    def _all(self, word: str) -> Iterator[re.Match[str]]:
        while self.at < len(self.lines) and self.lines[self.at].startswith(word + " "):
            yield self._line(word)
