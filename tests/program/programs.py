"""Hand-written programs for tests: a few kernels of every kind, and one as large as an 8-billion-parameter model's."""

from __future__ import annotations

from onelaunch.graph.build import acc
from onelaunch.graph.build import add
from onelaunch.graph.build import cast
from onelaunch.graph.build import const
from onelaunch.graph.build import load
from onelaunch.graph.build import mul
from onelaunch.graph.build import sym
from onelaunch.graph.build import var
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Axiom
from onelaunch.program.program import Buffer
from onelaunch.program.program import Event
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Span
from onelaunch.program.program import Symbol
from onelaunch.program.program import Task

F32, BF16, I64 = DType.F32, DType.BF16, DType.I64


def shape(*extents: Expr | int) -> tuple[Expr, ...]:
    return tuple(e if isinstance(e, Expr) else const(e) for e in extents)


def buffer(name: str, dtype: DType, extents: tuple, strides: tuple, role: Role, argument: int = -1, offset: int = 0):
    return Buffer(name, dtype, shape(*extents), shape(*strides), role, argument, offset)


def region(number: int, *spans: tuple[int, int]) -> Region:
    return Region(number, tuple(Span(*s) for s in spans))


def two_ops(tokens: int = 4, width: int = 8, workers: int = 2) -> Program:
    """y = (x + 1) @ w.T and a counter that is incremented in place; x has a run-time number of rows.

    Arguments: x [tokens, width] f32, w [width, width] bf16 (constant), counter [1] i64 (in place), the symbol tokens.
    Results: y [tokens, width] f32.
    """
    t = sym("tokens", 1, tokens)
    half = width // 2
    buffers = (
        buffer("x", F32, (t, width), (width, 1), Role.INPUT, 0),
        buffer("w", BF16, (width, width), (width, 1), Role.WEIGHT, 1),
        buffer("counter", I64, (1,), (1,), Role.STATE, 2),
        buffer("h", F32, (t, width), (width, 1), Role.WORKSPACE, offset=64),
        buffer("y", F32, (t, width), (width, 1), Role.OUTPUT, 0),
    )
    i, j, k, n = var("i", t), var("j", width), var("k", width), var("n", 1)

    def operand(name: str, number: int) -> Operand:
        b = buffers[number]
        return Operand(name, b.dtype, b.shape, b.strides)

    one = Nest((i, j), "out", F32, (i, j), add(load("x", [i, j], F32), const(1.0, F32)))
    linear = Nest(
        (i, j), "out", F32, (i, j), acc(0),
        (Contraction(k, load("x", [i, k], F32), load("w", [j, k], BF16)),),
    )  # fmt: skip
    count = Nest((n,), "out", I64, (n,), add(load("out", [n], I64), const(1)))
    kernels = (
        Kernel((operand("x", 0), operand("out", 3)), one),
        Kernel((operand("x", 3), operand("w", 1), operand("out", 4)), linear),
        Kernel((operand("out", 2),), count),
    )
    rows = (0, tokens)
    tasks = [
        Task(0, 0, (0, 3), (rows, (low, low + half)), (), (0,),
             (region(0, rows, (low, low + half)),), (region(3, rows, (low, low + half)),))
        for low in (0, half)
    ]  # fmt: skip
    tasks += [
        Task(1, 1, (3, 1, 4), (rows, (low, low + half)), ((0, 2),), (),
             (region(3, rows, (0, width)), region(1, (low, low + half), (0, width))),
             (region(4, rows, (low, low + half)),))
        for low in (0, half)
    ]  # fmt: skip
    tasks.append(Task(2, 2, (2,), ((0, 1),), (), (), (region(2, (0, 1)),), (region(2, (0, 1)),)))
    queues = ((0, 2, 4), (1, 3)) if workers == 2 else ((0, 1, 2, 3, 4),)
    return Program(
        "two ops", "cpu", (Symbol("tokens", 1, tokens),), buffers, kernels, (Event(2),),
        ("rows add", "linear up_proj", "rows counter"), tuple(tasks), queues, 64 + 4 * tokens * width,
    )  # fmt: skip


def odd_names() -> Program:
    """Names and labels with quotes and spaces, a region picked by data, an axiom, an empty queue."""
    i = var("i", 3)
    ids = Operand("ids", I64, shape(3), shape(1))
    out = Operand("out.0", F32, shape(9), shape(1))
    nest = Nest((i,), "out.0", F32, (load("ids", [i], I64),), cast(mul(i, const(2)), F32))
    task = Task(
        0, 0, (0, 1), ((0, 3),), (), (0, 0), (region(0, (0, 3)),), (Region(1, (Span(0, 9, (0, 0, 3)),)),)
    )  # fmt: skip
    return Program(
        'odd "names": é\n', "cpu", (),
        (buffer("the ids: f32[1]", I64, (3,), (1,), Role.INPUT, 0), buffer('"', F32, (9,), (1,), Role.STATE, 1)),
        (Kernel((ids, out), nest),), (Event(2),), ('a "label" \\ \n',), (task,), ((), (0,)), 0, (Axiom("distinct", 0),),
    )  # fmt: skip


def many_tasks(layers: int = 36, tiles: int = 140, workers: int = 132) -> Program:
    """A chain of linears, ``layers`` times four ops of ``tiles`` tasks: 20,160 tasks by default."""
    width = tiles * 8
    i, j, k = var("i", 1), var("j", width), var("k", width)
    nest = Nest(
        (i, j), "out", F32, (i, j), acc(0),
        (Contraction(k, load("x", [i, k], F32), load("w", [j, k], BF16)),),
    )  # fmt: skip
    kernel = Kernel(
        (Operand("x", F32, shape(1, width), shape(width, 1)), Operand("w", BF16, shape(width, width), shape(width, 1)),
         Operand("out", F32, shape(1, width), shape(width, 1))), nest,
    )  # fmt: skip
    ops = layers * 4
    acts = [
        buffer(f"a{n}", F32, (1, width), (width, 1),
               Role.INPUT if n == 0 else Role.OUTPUT if n == ops else Role.WORKSPACE,
               0 if n in (0, ops) else -1, 0 if n in (0, ops) else n * width * 4)
        for n in range(ops + 1)
    ]  # fmt: skip
    weights = [buffer(f"w{n}", BF16, (width, width), (width, 1), Role.WEIGHT, n + 1) for n in range(ops)]
    tasks = [
        Task(n, 0, (n, ops + 1 + n, n + 1), ((0, 1), (8 * t, 8 * t + 8)), ((n - 1, tiles),) if n else (), (n,),
             (region(n, (0, 1), (0, width)), region(ops + 1 + n, (8 * t, 8 * t + 8), (0, width))),
             (region(n + 1, (0, 1), (8 * t, 8 * t + 8)),))
        for n in range(ops)
        for t in range(tiles)
    ]  # fmt: skip
    names = ["qkv_proj", "o_proj", "up_proj", "down_proj"]
    return Program(
        "many", "cpu", (), (*acts, *weights), (kernel,), tuple(Event(tiles) for _ in range(ops)),
        tuple(f"linear model.layers.{n // 4}.{names[n % 4]}" for n in range(ops)), tuple(tasks),
        tuple(tuple(range(w, len(tasks), workers)) for w in range(workers)), (ops + 1) * width * 4,
    )  # fmt: skip
