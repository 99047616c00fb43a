"""Programs written by hand, and tools to write, link and run them. Nothing here knows the scheduler or the check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.index import bounds
from onelaunch.graph.nest import Attention
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
from onelaunch.program.program import contiguous
from onelaunch.program.program import maximum
from onelaunch.targets.reference.executable import ReferenceExecutable

F32, I64 = DType.F32, DType.I64
Spans = Sequence[tuple[int, int]]


class Builder:
    """Collects buffers, kernels and tasks; ``link`` derives events from overlapping regions and makes the program."""

    def __init__(self, name: str, workers: int, symbols: Sequence[Symbol] = ()) -> None:
        self.name, self.workers, self.symbols = name, workers, tuple(symbols)
        self.buffers: list[Buffer] = []
        self.kernels: dict[tuple, int] = {}
        self.ops: list[str] = []
        self.tasks: list[tuple[Task, int]] = []  # with their workers
        self.workspace = 0
        self.axioms: list[Axiom] = []
        self._arguments = 0
        self._results = 0

    def buffer(self, name: str, shape: Sequence[Expr | int], role: Role, dtype: DType = F32, offset: int = -1) -> int:
        shape_e = tuple(b.as_index(s) for s in shape)
        argument = -1
        if role is Role.WORKSPACE:
            offset = self.workspace if offset < 0 else offset
        elif role is Role.OUTPUT:
            argument, self._results = self._results, self._results + 1
        else:
            argument, self._arguments = self._arguments, self._arguments + 1
        made = Buffer(name, dtype, shape_e, contiguous(shape_e), role, argument, max(offset, 0))
        if role is Role.WORKSPACE:
            self.workspace = max(self.workspace, -(-(made.offset + made.nbytes) // 64) * 64)
        self.buffers.append(made)
        return len(self.buffers) - 1

    def op(self, label: str) -> int:
        self.ops.append(label)
        return len(self.ops) - 1

    def task(
        self, nest: Nest, bound: Mapping[str, int], tile: Spans, worker: int, via: Mapping[str, tuple] | None = None,
        op: int | None = None,
    ) -> int:  # fmt: skip
        """Add a task; its regions are its indices' intervals. ``via``: operand -> one via (or None) a dimension."""
        operands = tuple(
            Operand(n, self.buffers[i].dtype, self.buffers[i].shape, self.buffers[i].strides) for n, i in bound.items()
        )
        kernel = self.kernels.setdefault((operands, nest), len(self.kernels))
        env = {v: (lo, hi - 1) for v, (lo, hi) in zip(nest.vars, tile, strict=True)}
        reads, writes = [], []

        def region(name: str, index: Sequence[Expr]) -> Region:
            extents = self.buffers[bound[name]].extents
            spans = []
            for d, (i, n) in enumerate(zip(index, extents, strict=True)):
                found = bounds(i, env) or (0, n - 1)
                pick = via[name][d] if via and name in via else None
                spans.append(Span(max(found[0], 0), min(found[1] + 1, n), pick))
            return Region(bound[name], tuple(spans))

        for e in nest.loads():
            r = region(e.attr, e.args)
            if r not in reads and all(s.low < s.high for s in r.box):
                reads.append(r)
        writes.append(region(nest.target, nest.index))
        label = len(self.ops) - 1 if op is None else op
        made = Task(label, kernel, tuple(bound.values()), tuple(tile), (), (), tuple(reads), tuple(writes))
        self.tasks.append((made, worker))
        return len(self.tasks) - 1

    def program(self, tasks: Sequence[Task], events: Sequence[Event], queues: Sequence[Sequence[int]]) -> Program:
        return Program(
            self.name, "reference", self.symbols, tuple(self.buffers),
            tuple(Kernel(operands, nest) for operands, nest in self.kernels), tuple(events), tuple(self.ops),
            tuple(tasks), tuple(tuple(q) for q in queues), self.workspace, tuple(self.axioms),
        )  # fmt: skip

    def link(self, style: str = "task") -> Program:
        """Events: one a task (``task``), or one an op, awaited in full (``op``); one queue a worker, in order."""
        bare = self.program([t for t, _ in self.tasks], [], [])
        touched = [Touched(bare, t) for t, _ in self.tasks]
        before = [
            [i for i in range(j) if touched[i].conflicts(touched[j])] for j in range(len(self.tasks))
        ]  # fmt: skip
        signals: list[list[int]] = [[] for _ in self.tasks]
        waits: list[list[tuple[int, int]]] = [[] for _ in self.tasks]
        totals: list[int] = []
        event_of: dict[tuple[str, int], int] = {}

        def event(kind: str, number: int, signallers: Sequence[int]) -> tuple[int, int]:
            if (kind, number) not in event_of:
                event_of[kind, number] = len(totals)
                totals.append(len(signallers))
                for s in signallers:
                    signals[s].append(event_of[kind, number])
            return event_of[kind, number], len(signallers)

        for j, (task, worker) in enumerate(self.tasks):
            for i in before[j]:
                if style == "task" and self.tasks[i][1] == worker:
                    continue
                if style == "op" and self.tasks[i][0].op != task.op:
                    members = [k for k, (t, _) in enumerate(self.tasks) if t.op == self.tasks[i][0].op]
                    if max(members) < j:
                        waits[j].append(event("op", self.tasks[i][0].op, members))
                        continue
                if self.tasks[i][1] != worker:
                    waits[j].append(event("task", i, [i]))
        tasks = [
            dataclasses.replace(t, waits=tuple(dict.fromkeys(waits[j])), signals=tuple(signals[j]))
            for j, (t, _) in enumerate(self.tasks)
        ]
        queues = [[j for j, (_, w) in enumerate(self.tasks) if w == worker] for worker in range(self.workers)]
        return self.program(tasks, [Event(n) for n in totals], queues)


class Touched:
    """The bytes a task declares, one by one: the slow and simple form of a footprint."""

    def __init__(self, program: Program, task: Task) -> None:
        self.program = program
        self.reads = [(r, *region_bytes(program, r)) for r in task.reads]
        self.writes = [(r, *region_bytes(program, r)) for r in task.writes]

    def conflicts(self, other: Touched) -> bool:
        pairs = [(a, c) for a in self.writes for c in (*other.reads, *other.writes)]
        pairs += [(a, c) for a in self.reads for c in other.writes]
        return any(_overlap(self.program, *a, *c) for a, c in pairs)


def region_bytes(program: Program, region: Region) -> tuple[int, np.ndarray]:
    """(memory, sorted byte offsets): the workspace is memory -1, every other buffer its own."""
    buffer = program.buffers[region.buffer]
    offsets = np.zeros(1, dtype=np.int64)
    for span, stride in zip(region.box, buffer.strides, strict=True):
        offsets = (offsets[:, None] + np.arange(span.low, span.high) * maximum(stride)).reshape(-1)
    size = buffer.dtype.itemsize
    offsets = (offsets[:, None] * size + np.arange(size)).reshape(-1)
    if buffer.role is Role.WORKSPACE:
        return -1, offsets + buffer.offset
    return region.buffer, offsets


def _overlap(program: Program, a: Region, am: int, ab: np.ndarray, c: Region, cm: int, cb: np.ndarray) -> bool:
    if am != cm:
        return False
    if a.buffer == c.buffer:
        for x, y in zip(a.box, c.box, strict=True):
            apart = x.via and y.via and x.via[0] == y.via[0] and (x.via[2] <= y.via[1] or y.via[2] <= x.via[1])
            if apart and Axiom("distinct", x.via[0]) in program.axioms:
                return False
    return bool(np.intersect1d(ab, cb).size)


# --- running -------------------------------------------------------------------------------------------------------


def tensors(program: Program, given: Mapping[str, torch.Tensor] | None = None, seed: int = 0) -> list[torch.Tensor]:
    """A tensor a buffer, at the symbols' maxima: given ones, or random numbers that depend on the name."""
    out = []
    for buffer in program.buffers:
        extents = buffer.extents
        if given is not None and buffer.name in given:
            out.append(given[buffer.name].clone())
            continue
        generator = torch.Generator().manual_seed(seed * 1000003 + sum(map(ord, buffer.name)) * 31 + len(out))
        if buffer.dtype.is_float:
            out.append(torch.randn(extents, generator=generator).to(buffer.dtype.torch))
        else:
            out.append(torch.zeros(extents, dtype=buffer.dtype.torch))
    return out


def run(
    program: Program, given: Mapping[str, torch.Tensor] | None = None, symbols: Sequence[int] | None = None,
    executable: ReferenceExecutable | None = None, **options: object,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """One launch; returns outputs and states by name."""
    executable = executable or ReferenceExecutable(program, **options)  # type: ignore[arg-type]
    values = [s.maximum for s in program.symbols] if symbols is None else list(symbols)
    memory = tensors(program, given)
    executable.launch([t.data_ptr() for t in memory], values)
    return {
        buffer.name: t
        for buffer, t in zip(program.buffers, memory, strict=True)
        if buffer.role in (Role.OUTPUT, Role.STATE)
    }


# --- nests ---------------------------------------------------------------------------------------------------------


def grid(*extents: Expr | int) -> tuple[Expr, ...]:
    return tuple(b.var(f"i{d}", e) for d, e in enumerate(extents))


def rows(target: str, extents: Sequence[Expr | int], body: Callable[..., Expr], dtype: DType = F32) -> Nest:
    """target[i] = body(i)."""
    variables = grid(*extents)
    return Nest(variables, target, dtype, variables, body(*variables))


def linear(
    target: str, t: Expr | int, n: int, k: int, x: Callable, ws: Sequence[str], body: Callable | None = None
) -> Nest:
    """target[t, n] = body(t, n, sums) with one contraction a matrix in ``ws``; x(t, k) is the prologue."""
    i, j = grid(t, n)
    r = b.var("r", k)
    contractions = tuple(Contraction(r, x(i, r), b.load(w, (j, r), F32)) for w in ws)
    result = body(i, j, *(b.acc(m) for m in range(len(ws)))) if body else b.acc(0)
    return Nest((i, j), target, F32, (i, j), result, contractions)


def norm(x: str, w: str, t: Expr, j: Expr, h: int) -> Expr:
    """x[t, j] / rms(x[t]) * w[j]."""
    r = b.var("q", h)
    square = b.mul(b.load(x, (t, r), F32), b.load(x, (t, r), F32))
    mean = b.mul(b.reduce("sum", r, square), b.const(1.0 / h, F32))
    scale = b.pointwise(Op.RSQRT, b.add(mean, b.const(1e-5, F32)))
    return b.mul(b.mul(b.load(x, (t, j), F32), scale), b.load(w, (j,), F32))


def silu(x: Expr) -> Expr:
    return b.mul(x, b.pointwise(Op.SIGMOID, x))


def cut(n: int, size: int) -> list[tuple[int, int]]:
    return [(i, min(i + size, n)) for i in range(0, n, size)]


# --- programs ------------------------------------------------------------------------------------------------------


def mlp(workers: int = 3, t: int = 2, h: int = 8, f: int = 12, style: str = "task", size: int = 4) -> Program:
    """out = x + down(silu(gate(norm(x))) * up(norm(x))): the norm is a prologue, gate and up share a tile."""
    p = Builder("mlp", workers)
    x, w = p.buffer("x", (t, h), Role.INPUT), p.buffer("w", (h,), Role.WEIGHT)
    gate, up = p.buffer("gate", (f, h), Role.WEIGHT), p.buffer("up", (f, h), Role.WEIGHT)
    down = p.buffer("down", (h, f), Role.WEIGHT)
    mid, out = p.buffer("mid", (t, f), Role.WORKSPACE), p.buffer("out", (t, h), Role.OUTPUT)
    p.op("gate_up")
    first = linear("y", t, f, h, lambda i, r: norm("x", "w", i, r, h), ("g", "u"), lambda i, j, a, c: b.mul(silu(a), c))
    for n, (lo, hi) in enumerate(cut(f, size)):
        p.task(first, {"x": x, "w": w, "g": gate, "u": up, "y": mid}, ((0, t), (lo, hi)), n % workers)
    p.op("down")
    second = linear(
        "y", t, h, f, lambda i, r: b.load("m", (i, r), F32), ("d",),
        lambda i, j, a: b.add(b.load("x", (i, j), F32), a),
    )  # fmt: skip
    for n, (lo, hi) in enumerate(cut(h, size)):
        p.task(second, {"m": mid, "d": down, "x": x, "y": out}, ((0, t), (lo, hi)), (n + 1) % workers)
    return p.link(style)


def chain(workers: int = 2, length: int = 5, n: int = 8, style: str = "task") -> Program:
    """Two workspace buffers used in turn: x -> a -> b -> a -> ... -> out, each step a shift by one and a sine."""
    p = Builder("chain", workers)
    x, out = p.buffer("x", (n,), Role.INPUT), p.buffer("out", (n,), Role.OUTPUT)
    pair = (p.buffer("ping", (n,), Role.WORKSPACE), p.buffer("pong", (n,), Role.WORKSPACE))
    nest = rows(
        "y", (n,),
        lambda i: b.add(
            b.pointwise(Op.SIN, b.load("x", (i,), F32)), b.load("x", (b.mod(b.add(i, b.const(1)), n),), F32)
        ),
    )  # fmt: skip
    source = x
    for step in range(length):
        p.op(f"step{step}")
        target = out if step == length - 1 else pair[step % 2]
        for m, (lo, hi) in enumerate(cut(n, n // 2)):
            p.task(nest, {"x": source, "y": target}, ((lo, hi),), (m + step) % workers)
        source = target
    return p.link(style)


def reuse(workers: int = 2, n: int = 8, style: str = "task") -> Program:
    """Five temporaries in the room of two: buffers of other shapes and types lie over each other."""
    p = Builder("reuse", workers)
    x, out = p.buffer("x", (n,), Role.INPUT), p.buffer("out", (n,), Role.OUTPUT)
    size = n * 4
    a = p.buffer("a", (n,), Role.WORKSPACE, offset=0)
    c = p.buffer("c", (n // 2, 2), Role.WORKSPACE, offset=size)
    d = p.buffer("d", (n,), Role.WORKSPACE, DType.F64, offset=2 * size)
    e = p.buffer("e", (2, n // 2), Role.WORKSPACE, offset=0)
    f = p.buffer("f", (n,), Role.WORKSPACE, offset=size)

    def step(label: str, source: int, target: int, nest: Nest, tiles: Sequence[Spans]) -> None:
        p.op(label)
        for m, tile in enumerate(tiles):
            p.task(nest, {"x": source, "y": target}, tile, m % workers)

    halves = [((lo, hi),) for lo, hi in cut(n, n // 2)]
    step("a", x, a, rows("y", (n,), lambda i: b.pointwise(Op.COS, b.load("x", (i,), F32))), halves)
    step(
        "c", a, c,
        rows("y", (n // 2, 2), lambda i, j: b.pointwise(Op.NEG, b.load("x", (b.add(b.mul(i, b.const(2)), j),), F32))),
        [((0, n // 2), (0, 1)), ((0, n // 2), (1, 2))],
    )  # fmt: skip
    step(
        "d", c, d,
        rows("y", (n,), lambda i: b.cast(b.load("x", (b.floordiv(i, 2), b.mod(i, 2)), F32), DType.F64), DType.F64),
        halves,
    )  # fmt: skip
    step(
        "e", d, e,
        rows("y", (2, n // 2), lambda i, j: b.cast(b.load("x", (b.add(b.mul(j, b.const(2)), i),), DType.F64), F32)),
        [((0, 1), (0, n // 2)), ((1, 2), (0, n // 2))],
    )  # fmt: skip
    step("f", e, f, rows("y", (n,), lambda i: silu(b.load("x", (b.mod(i, 2), b.floordiv(i, 2)), F32))), halves)
    step("out", f, out, rows("y", (n,), lambda i: b.load("x", (b.sub(b.const(n - 1), i),), F32)), halves)
    return p.link(style)


def attention(
    workers: int = 3, t: int = 2, heads: int = 4, kv: int = 2, d: int = 4, cap: int = 8, style: str = "task"
) -> Program:
    """New keys and values go to the cache at slots read from data, token by token; then every head attends."""
    p = Builder("attention", workers)
    q = p.buffer("q", (t, heads, d), Role.INPUT)
    new = [p.buffer(n, (t, kv, d), Role.INPUT) for n in ("new_k", "new_v")]
    slots, length = p.buffer("slots", (t,), Role.INPUT, I64), p.buffer("length", (1,), Role.INPUT, I64)
    cache = [p.buffer(n, (cap, kv, d), Role.STATE) for n in ("cache_k", "cache_v")]
    mixed, out = p.buffer("mixed", (t, heads, d), Role.WORKSPACE), p.buffer("out", (t, heads * d), Role.OUTPUT)
    p.axioms.append(Axiom("distinct", slots))
    for side in range(2):
        p.op(f"write {'kv'[side]}")
        i, g, e = grid(t, kv, d)
        nest = Nest((i, g, e), "y", F32, (b.load("s", (i,), I64), g, e), b.load("x", (i, g, e), F32))
        for n in range(t):
            p.task(
                nest, {"x": new[side], "s": slots, "y": cache[side]}, ((n, n + 1), (0, kv), (0, d)),
                (n + side) % workers, via={"y": ((slots, n, n + 1), None, None)},
            )  # fmt: skip
    p.op("attend")
    i, a, e = grid(t, heads, d)
    key, head = b.var("key", cap), b.var("head", d)
    group = b.floordiv(a, heads // kv)
    stop = b.add(b.load("n", (b.const(0),), I64), b.add(i, b.const(1)))
    attend = Nest(
        (i, a, e), "y", F32, (i, a, e), b.acc(0),
        attention=Attention(
            key, head, b.load("q", (i, a, head), F32), b.load("k", (key, group, head), F32),
            b.load("v", (key, group, e), F32), b.mul(b.acc(0), b.const(0.5, F32)), None, stop, None, "nan",
        ),
    )  # fmt: skip
    bound = {"q": q, "n": length, "k": cache[0], "v": cache[1], "y": mixed}
    for n in range(heads):
        p.task(attend, bound, ((0, t), (n, n + 1), (0, d)), n % workers)
    p.op("out")
    final = rows(
        "y", (t, heads * d), lambda i, j: silu(b.load("x", (i, b.floordiv(j, d), b.mod(j, d)), F32))
    )  # fmt: skip
    for n, (lo, hi) in enumerate(cut(heads * d, heads * d // 2)):
        p.task(final, {"x": mixed, "y": out}, ((0, t), (lo, hi)), n % workers)
    return p.link(style)


def attention_inputs() -> dict[str, torch.Tensor]:
    return {"slots": torch.tensor([3, 4]), "length": torch.tensor([3])}


def embed(workers: int = 2, tokens: int = 3, vocab: int = 7, h: int = 6, style: str = "task") -> Program:
    """Embedding lookup, norm, logits, with a run-time number of tokens and a cat of the first column."""
    symbol = Symbol("T", 1, tokens)
    t = b.sym("T", 1, tokens)
    p = Builder("embed", workers, (symbol,))
    ids, table = p.buffer("ids", (t,), Role.INPUT, I64), p.buffer("table", (vocab, h), Role.WEIGHT)
    w = p.buffer("w", (h,), Role.WEIGHT)
    x, out = p.buffer("x", (t, h), Role.WORKSPACE), p.buffer("out", (t, vocab), Role.OUTPUT)
    p.op("embedding")
    lookup = rows("y", (t, h), lambda i, j: b.load("e", (b.load("ids", (i,), I64), j), F32))
    for n, (lo, hi) in enumerate(cut(h, h // 2)):
        p.task(lookup, {"ids": ids, "e": table, "y": x}, ((0, tokens), (lo, hi)), n % workers)
    p.op("logits")
    head = linear("y", t, vocab, h, lambda i, r: norm("x", "w", i, r, h), ("m",))
    for n, (lo, hi) in enumerate(cut(vocab, 3)):
        p.task(head, {"x": x, "w": w, "m": table, "y": out}, ((0, tokens), (lo, hi)), n % workers)
    return p.link(style)


def embed_inputs() -> dict[str, torch.Tensor]:
    return {"ids": torch.tensor([5, 0, 6])}


def pipeline(workers: int = 2, n: int = 6) -> Program:
    """Partial waits: worker 0 makes rows in order and signals one counter; the others wait for as many as they need."""
    p = Builder("pipeline", workers)
    x, out = p.buffer("x", (n, 2), Role.INPUT), p.buffer("out", (n, 2), Role.OUTPUT)
    y = p.buffer("y", (n, 2), Role.WORKSPACE)
    p.op("make")
    make = rows("y", (n, 2), lambda i, j: b.pointwise(Op.EXP, b.load("x", (i, j), F32)))
    for i in range(n):
        p.task(make, {"x": x, "y": y}, ((i, i + 1), (0, 2)), 0)
    p.op("use")
    use = rows("z", (n, 2), lambda i, j: b.sub(b.load("y", (i, b.sub(b.const(1), j)), F32), b.const(1.0, F32)))
    for i in range(n):
        p.task(use, {"y": y, "z": out}, ((i, i + 1), (0, 2)), 1 + i % (workers - 1))
    tasks = [dataclasses.replace(t, signals=(0,)) for t, _ in p.tasks[:n]]
    tasks += [dataclasses.replace(t, waits=((0, i + 1),)) for i, (t, _) in enumerate(p.tasks[n:])]
    queues = [[j for j, (_, w) in enumerate(p.tasks) if w == worker] for worker in range(workers)]
    return p.program(tasks, [Event(n)], queues)


def split(workers: int = 3, t: int = 2, n: int = 4, k: int = 12, parts: int = 3, style: str = "op") -> Program:
    """Split-K: partial sums side by side, then added in a fixed order; the target of the sum is updated in place."""
    p = Builder("split", workers)
    x, w = p.buffer("x", (t, k), Role.INPUT), p.buffer("w", (n, k), Role.WEIGHT)
    part, state = p.buffer("part", (parts, t, n), Role.WORKSPACE), p.buffer("state", (t, n), Role.STATE)
    out = p.buffer("out", (t, n), Role.OUTPUT)
    s, i, j = grid(parts, t, n)
    r = b.var("r", k // parts)
    at = b.add(b.mul(s, b.const(k // parts)), r)
    partial = Nest(
        (s, i, j),
        "y",
        F32,
        (s, i, j),
        b.acc(0),
        (Contraction(r, b.load("x", (i, at), F32), b.load("w", (j, at), F32)),),
    )
    p.op("partial")
    for m in range(parts):
        p.task(partial, {"x": x, "w": w, "y": part}, ((m, m + 1), (0, t), (0, n)), m % workers)
    p.op("add")
    q = b.var("q", parts)
    total = rows(
        "y", (t, n), lambda i, j: b.add(b.load("y", (i, j), F32), b.reduce("sum", q, b.load("p", (q, i, j), F32)))
    )  # fmt: skip
    for m, (lo, hi) in enumerate(cut(n, 2)):
        p.task(total, {"p": part, "y": state}, ((0, t), (lo, hi)), (m + 1) % workers)
    p.op("copy")
    for m in range(t):
        copy = rows("y", (t, n), lambda i, j: b.load("x", (i, j), F32))
        p.task(copy, {"x": state, "y": out}, ((m, m + 1), (0, n)), m % workers)
    return p.link(style)


def cat(workers: int = 2, n: int = 4) -> Program:
    """Guarded loads: the concatenation of two temporaries, and a shift with a zero at its end."""
    p = Builder("cat", workers)
    x, out = p.buffer("x", (n,), Role.INPUT), p.buffer("out", (2 * n,), Role.OUTPUT)
    left, right = p.buffer("left", (n,), Role.WORKSPACE), p.buffer("right", (n,), Role.WORKSPACE)
    p.op("left")
    p.task(rows("y", (n,), lambda i: silu(b.load("x", (i,), F32))), {"x": x, "y": left}, ((0, n),), 0)
    p.op("right")
    shifted = rows(
        "y", (n,),
        lambda i: b.where(b.lt(i, b.const(n - 1)), b.load("x", (b.add(i, b.const(1)),), F32), b.const(0.0, F32)),
    )  # fmt: skip
    p.task(shifted, {"x": x, "y": right}, ((0, n),), 1 % workers)
    p.op("cat")
    both = rows(
        "y", (2 * n,),
        lambda i: b.where(
            b.lt(i, b.const(n)), b.load("l", (i,), F32), b.load("r", (b.sub(i, b.const(n)),), F32)
        ),
    )  # fmt: skip
    for m, (lo, hi) in enumerate(cut(2 * n, n)):
        p.task(both, {"l": left, "r": right, "y": out}, ((lo, hi),), m % workers)
    return p.link()


SMALL: dict[str, tuple[Callable[[], Program], Callable[[], dict[str, torch.Tensor]]]] = {
    "mlp": (mlp, dict),
    "mlp-op": (lambda: mlp(style="op", workers=4), dict),
    "chain": (chain, dict),
    "chain-op": (lambda: chain(style="op", workers=3), dict),
    "reuse": (reuse, dict),
    "reuse-op": (lambda: reuse(style="op"), dict),
    "attention": (attention, attention_inputs),
    "embed": (embed, embed_inputs),
    "pipeline": (lambda: pipeline(workers=3), dict),
    "split": (split, dict),
    "cat": (cat, dict),
}
