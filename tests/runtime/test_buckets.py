"""Token buckets, sizes as expressions, and the symbols of a call."""

from __future__ import annotations

import pytest
import torch

from onelaunch.errors import CallError
from onelaunch.errors import ProgramFormatError
from onelaunch.frontend.symbols import WIDE
from onelaunch.graph.build import add
from onelaunch.graph.build import const
from onelaunch.graph.build import floordiv
from onelaunch.graph.build import load
from onelaunch.graph.build import mod
from onelaunch.graph.build import mul
from onelaunch.graph.build import reduce
from onelaunch.graph.build import sym
from onelaunch.graph.build import var
from onelaunch.graph.dtype import DType
from onelaunch.graph.graph import Argument
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.graph_text import parse_graph
from onelaunch.graph.graph_text import print_graph
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Symbol
from onelaunch.runtime.buckets import bucket
from onelaunch.runtime.buckets import ranges
from onelaunch.runtime.buckets import sizing_symbols
from onelaunch.runtime.buckets import specialise
from onelaunch.runtime.extents import evaluate
from onelaunch.runtime.extents import solve
from onelaunch.runtime.signature import Signature
from onelaunch.runtime.signature import Source
from onelaunch.runtime.signature import from_json

S, P = sym("s", 2, 2**31 - 1), sym("p", 0, 2**31 - 1)


def graph() -> Graph:
    """y[i] = sum over r < s of x[i, r // 64 + p]; s sizes tensors, p is a value."""
    i, r = var("i", S), var("r", S)
    body = reduce("sum", r, load("x", [i, add(floordiv(r, 64), P)], DType.F32))
    x = Value("x", DType.F32, (S, mul(S, const(4))))
    y = Value("y", DType.F32, (S,))
    return Graph(
        "g", (Symbol("s", 2, 2**31 - 1), Symbol("p", 0, 2**31 - 1)),
        [Argument(x, (mul(S, const(4)), const(1)), False, 1)], [Node(y, Nest((i,), "y", DType.F32, (i,), body))], [],
        ["y"], [(const(1),)],
    )  # fmt: skip


def parts(g: Graph) -> tuple:
    """What a graph says; nodes themselves are compared by identity."""
    nodes = [(n.out, n.nest, n.base, n.softmax, n.origin) for n in g.nodes]
    return g.name, g.symbols, g.arguments, nodes, g.updates, g.outputs, g.output_strides


def test_graphs_come_back():
    assert parts(parse_graph(print_graph(graph()))) == parts(graph())


@pytest.mark.parametrize("damage", [("onelaunch graph 1", "x"), ("symbol p", "symbol q"), ("\nend", ""), ("%x", "%z")])
def test_damaged_graphs_are_refused_with_the_line(damage: tuple[str, str]):
    with pytest.raises(ProgramFormatError, match=r"graph, line \d+"):
        parse_graph(print_graph(graph()).replace(*damage))


def test_buckets():
    assert [bucket(n) for n in (0, 1, 2, 3, 4, 5, 9, 17, 25, 32, 33, 64, 65, 1000)] == [
        0, 1, 2, 4, 4, 8, 16, 24, 32, 32, 64, 64, 128, 1024,
    ]  # fmt: skip


def test_ranges_of_a_call():
    sizing = frozenset({"s", "n"})
    symbols = (Symbol("s", 0, 2**40), Symbol("p", *WIDE), Symbol("n", -9, 5))
    assert ranges(symbols, sizing, (5, -3, 3)) == (Symbol("s", 1, 8), Symbol("p", *WIDE), Symbol("n", 1, 4))
    assert ranges(symbols, sizing, (0, 0, 5))[::2] == (Symbol("s", 0, 0), Symbol("n", 1, 5))
    assert ranges(symbols, sizing, (1, 0, -3))[2] == Symbol("n", -4, -1)
    with pytest.raises(CallError, match="size s is -1; accepted: 0 to 1099511627776"):
        ranges(symbols, sizing, (-1, 0, 0))
    with pytest.raises(CallError, match="size p is 9223372036854775807; accepted: -4611686018427387904 to"):
        ranges(symbols, sizing, (1, 2**63 - 1, 0))


def test_exact_sizes():
    """Sizes that are a small bucket's largest are served alone, others as ever; a fixed size is a number."""
    sizing, symbols = frozenset({"s"}), (Symbol("s", 1, 100), Symbol("p", *WIDE))
    for size in (1, 8, 32):
        assert ranges(symbols, sizing, (size, 8), exact=True) == (Symbol("s", size, size), Symbol("p", *WIDE))
    assert ranges(symbols, sizing, (5, 0), exact=True)[0] == Symbol("s", 1, 8)
    assert ranges(symbols, sizing, (64, 0), exact=True)[0] == Symbol("s", 1, 64)
    made = specialise(graph(), (Symbol("s", 8, 8), Symbol("p", -7, 9)))
    assert all(e.is_const for a in made.arguments for e in a.value.shape)


def test_ranges_are_no_wider_than_what_torch_knows():
    sizing, symbols = sizing_symbols(graph()), (Symbol("s", 3, 100), Symbol("p", -7, 9))
    assert sizing == {"s"}
    assert ranges(symbols, sizing, (5, 2)) == (Symbol("s", 3, 8), Symbol("p", -7, 9))
    assert ranges(symbols, sizing, (99, 2))[0] == Symbol("s", 3, 100)
    for values in ((2, 0), (101, 0), (5, 10)):
        with pytest.raises(CallError, match=r"accepted: (3 to 100|-7 to 9)"):
            ranges(symbols, sizing, values)


def test_specialising_simplifies_by_the_bucket():
    original = graph()
    small = specialise(original, (Symbol("s", 1, 32), Symbol("p", *WIDE)))
    s, p = sym("s", 1, 32), sym("p", *WIDE)
    (node,) = small.nodes
    i, r = var("i", s), var("r", s)
    assert node.nest.vars == (i,) and node.out.shape == (s,)
    assert node.nest.body is reduce("sum", r, load("x", [i, p], DType.F32))  # r // 64 is 0
    assert small.arguments[0].value.shape == (s, mul(s, const(4)))
    assert parts(original) == parts(graph())


def test_sizes_are_evaluated_and_solved():
    e = add(mul(S, const(3)), const(2))
    assert evaluate(e, {"s": 5}) == 17 and solve(e) == ("s", 3, 2)
    assert evaluate(mod(S, 4), {"s": 7}) == 3 and solve(mod(S, 4)) is None
    assert solve(const(4)) is None and solve(add(S, P)) is None
    with pytest.raises(ValueError, match="is not a size"):
        evaluate(var("i", 3), {})


def test_sources_of_symbols():
    x = torch.zeros(2, 17)
    assert Source(0).read([9], "s") == 9
    assert Source(1, 1, 3, 2).read([0, x], "s") == 5
    with pytest.raises(CallError, match=r"argument 1: 17 is not 4 \* s \+ 2"):
        Source(1, 1, 4, 2).read([0, x], "s")
    with pytest.raises(CallError, match="argument 0 has no dimension 1, the size s"):
        Source(0, 1).read([9], "s")
    with pytest.raises(CallError, match="argument 0 is a str; accepted: an integer"):
        Source(0).read(["nine"], "s")


def test_signatures_come_back():
    sign = Signature(4, (Source(0), Source(2, 1, 3, -1)), (0, -3, 0))
    assert from_json(sign.to_json()) == sign
    for broken in ({}, sign.to_json() | {"results": [-9]}, sign.to_json() | {"sources": [[0, 1, 0, 0]]}):
        with pytest.raises(ProgramFormatError, match="stored signature is damaged"):
            from_json(broken)
