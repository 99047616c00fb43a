"""A program of the size of an 8-billion-parameter model's decode step, made by a plain loop (not by the scheduler)."""

from __future__ import annotations

import dataclasses

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Axiom
from onelaunch.program.program import Event
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from tests.programs import F32
from tests.programs import I64
from tests.programs import Builder
from tests.programs import cut
from tests.programs import grid
from tests.programs import linear
from tests.programs import norm
from tests.programs import rows
from tests.programs import silu


@dataclasses.dataclass(frozen=True)
class Size:
    layers: int = 36
    workers: int = 132
    tokens: int = 4
    hidden: int = 4096
    heads: int = 32
    kv: int = 8
    head: int = 128
    ffn: int = 12288
    vocab: int = 151936
    capacity: int = 4096
    splits: int = 16


TINY = Size(2, 5, 2, 16, 4, 2, 4, 24, 30, 8, 2)


class Decoder(Builder):
    def __init__(self, s: Size) -> None:
        super().__init__("decoder", s.workers)
        self.s = s
        self.next = 0
        self.waits: list[tuple[tuple[int, int], ...]] = []
        self.signals: list[tuple[int, ...]] = []
        self.totals: list[int] = []

    def step(self, label: str, nest: Nest, bound: dict[str, int], tiles: list, after: list[int], via=None) -> int:
        """One op: its tasks go round the workers, each waits for the whole of the ops before; returns its event."""
        self.op(label)
        self.totals.append(len(tiles))
        for i, tile in enumerate(tiles):
            pick = {k: [v(i) if v else None for v in d] for k, d in via.items()} if via else None
            self.task(nest, bound, tile, self.next % self.workers, via=pick)
            self.next += 1
            self.waits.append(tuple((e, self.totals[e]) for e in after))
            self.signals.append((len(self.totals) - 1,))
        return len(self.totals) - 1


def decoder(s: Size = Size()) -> Program:
    """Embedding, ``layers`` times (norm qkv, cache write, split attention, combine, out, gate and up, down), logits."""
    p = Decoder(s)
    t, h = s.tokens, s.hidden
    ids, slots, length = (p.buffer(n, (k,), Role.INPUT, I64) for n, k in (("ids", t), ("slots", t), ("length", 1)))
    p.axioms.append(Axiom("distinct", slots))
    table = p.buffer("table", (s.vocab, h), Role.WEIGHT)
    out = p.buffer("logits", (t, s.vocab), Role.OUTPUT)
    streams = [p.buffer(f"stream{i}", (t, h), Role.WORKSPACE) for i in range(3)]
    room = p.workspace
    ends = []
    tile = max(h // s.workers, 1) + 1 if h < 1000 else 32
    p.step(
        "embed", rows("y", (t, h), lambda i, j: b.load("e", (b.load("i", (i,), I64), j), F32)),
        {"i": ids, "e": table, "y": streams[0]}, [((0, t), c) for c in cut(h, tile)], [],
    )  # fmt: skip
    x, last = streams[0], 0
    for layer in range(s.layers):
        p.workspace = room + (layer % 2) * (ends[0] - room if ends else 0)
        last, x = _layer(p, layer, x, last, streams, tile, ids, slots, length)
        ends.append(max(b_.offset + b_.nbytes for b_ in p.buffers if b_.role is Role.WORKSPACE))
    w = p.buffer("norm.weight", (h,), Role.WEIGHT)
    p.step(
        "logits", linear("y", t, s.vocab, h, lambda i, r: norm("x", "n", i, r, h), ("w",)),
        {"x": x, "n": w, "w": table, "y": out}, [((0, t), c) for c in cut(s.vocab, -(-s.vocab // s.workers))], [last],
    )  # fmt: skip
    p.workspace = -(-max(b_.offset + b_.nbytes for b_ in p.buffers if b_.role is Role.WORKSPACE) // 64) * 64
    tasks = [
        dataclasses.replace(task, waits=w_, signals=s_)
        for (task, _), w_, s_ in zip(p.tasks, p.waits, p.signals, strict=True)
    ]
    queues: list[list[int]] = [[] for _ in range(s.workers)]
    for number, (_, worker) in enumerate(p.tasks):
        queues[worker].append(number)
    return p.program(tasks, [Event(n) for n in p.totals], queues)


def _layer(p: Decoder, n: int, x: int, last: int, streams: list[int], tile: int, *inputs: int) -> tuple[int, int]:
    s, (_, slots, length) = p.s, inputs
    t, h, d = s.tokens, s.hidden, s.head
    wide = (s.heads + 2 * s.kv) * d

    def weight(name: str, *shape: int) -> int:
        return p.buffer(f"layer{n}.{name}", shape, Role.WEIGHT)

    def work(name: str, *shape: int) -> int:
        return p.buffer(f"layer{n}.{name}", shape, Role.WORKSPACE)

    cache = [p.buffer(f"layer{n}.{c}", (s.capacity, s.kv, d), Role.STATE) for c in "kv"]
    qkv, part = work("qkv", t, wide), work("part", t, s.heads, s.splits, d)
    mixed, mid = work("mixed", t, s.heads * d), work("mid", t, s.ffn)
    columns = [((0, t), c) for c in cut(h, tile)]
    first = p.step(
        f"qkv{n}", linear("y", t, wide, h, lambda i, r: norm("x", "n", i, r, h), ("w",)),
        {"x": x, "n": weight("n1", h), "w": weight("qkv", wide, h), "y": qkv},
        [((0, t), c) for c in cut(wide, d // 2)], [last],
    )  # fmt: skip
    written = []
    for side in range(2):
        i, g, e = grid(t, s.kv, d)
        column = b.add(b.mul(b.add(g, b.const(s.heads + side * s.kv)), b.const(d)), e)
        nest = Nest((i, g, e), "y", F32, (b.load("s", (i,), I64), g, e), b.load("x", (i, column), F32))
        tiles = [((m, m + 1), (0, s.kv), (0, d)) for m in range(t)]
        via = {"y": (lambda m: (slots, m, m + 1), None, None)}
        bound = {"x": qkv, "s": slots, "y": cache[side]}
        written.append(p.step(f"cache{n}", nest, bound, tiles, [first], via))
    attended = p.step(f"attend{n}", _attend(s), {"q": qkv, "n": length, "k": cache[0], "v": cache[1], "y": part}, [
        ((0, t), (m * (s.heads // s.kv), (m + 1) * (s.heads // s.kv)), (c, c + 1), (0, d))
        for m in range(s.kv) for c in range(s.splits)
    ], [first, *written])  # fmt: skip
    c = b.var("c", s.splits)
    combine = rows("y", (t, s.heads * d), lambda i, j: b.reduce(
        "sum", c, b.load("p", (i, b.floordiv(j, d), c, b.mod(j, d)), F32)))  # fmt: skip
    mixed_event = p.step(f"combine{n}", combine, {"p": part, "y": mixed}, [
        ((0, t), c_) for c_ in cut(s.heads * d, d)], [attended])  # fmt: skip
    residual = [f for f in streams if f != x]
    add = lambda i, j, a: b.add(b.load("r", (i, j), F32), a)  # noqa: E731
    after = p.step(
        f"out{n}", linear("y", t, h, s.heads * d, lambda i, r: b.load("x", (i, r), F32), ("w",), add),
        {"x": mixed, "w": weight("o", h, s.heads * d), "r": x, "y": residual[0]}, columns, [mixed_event, last],
    )  # fmt: skip
    gate = p.step(
        f"gate{n}",
        linear(
            "y", t, s.ffn, h, lambda i, r: norm("x", "n", i, r, h), ("g", "u"), lambda i, j, a, u: b.mul(silu(a), u)
        ),
        {"x": residual[0], "n": weight("n2", h), "g": weight("g", s.ffn, h), "u": weight("u", s.ffn, h), "y": mid},
        [((0, t), c_) for c_ in cut(s.ffn, max(s.ffn // 128, 4))], [after],
    )  # fmt: skip
    down = p.step(
        f"down{n}", linear("y", t, h, s.ffn, lambda i, r: b.load("x", (i, r), F32), ("w",), add),
        {"x": mid, "w": weight("down", h, s.ffn), "r": residual[0], "y": residual[1]}, columns, [gate, after],
    )  # fmt: skip
    return down, residual[1]


def _attend(s: Size) -> Nest:
    i, a, c, e = grid(s.tokens, s.heads, s.splits, s.head)
    key, head = b.var("key", s.capacity), b.var("head", s.head)
    chunk = s.capacity // s.splits
    group = b.floordiv(a, s.heads // s.kv)
    stop = b.add(b.load("n", (b.const(0),), I64), b.add(i, b.const(1)))
    start = b.mul(c, b.const(chunk))
    limit = b.pointwise(Op.MIN, stop, b.add(start, b.const(chunk)))

    def load(name: str, *index: Expr) -> Expr:
        return b.load(name, index, DType.F32)

    return Nest(
        (i, a, c, e), "y", F32, (i, a, c, e), b.acc(0),
        attention=Attention(
            key, head, load("q", i, b.add(b.mul(a, b.const(s.head)), head)), load("k", key, group, head),
            load("v", key, group, e), b.mul(b.acc(0), b.const(0.1, F32)), start, limit, None, "zero",
        ),
    )  # fmt: skip
