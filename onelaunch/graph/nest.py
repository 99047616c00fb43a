"""Loop nests: the one form of computation that graph nodes, ops and kernels share.

``for vars: target[index] = body``. A plain nest is ``Rows``; with contractions it is ``Linear`` (their finished sums
stand in the body as ``@0``, ``@1``, ...); with an attention it is ``Attend`` (its result stands as ``@0``). A nest
whose index is not just its variables is a ``Scatter``: an index that is negative at run time stores nothing, and where
data may send two steps to one place, the later step of the loops wins.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from collections.abc import Iterator

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.index import terms

PART_BLOCK = 64  # positions: parts of an attention begin at multiples of it, counted from the first that can count
MASKED = ("zero", "nan", "all")  # what a row of an attention may give that has no position left


class Kind(enum.StrEnum):
    """What realises a nest; decides which device code runs it."""

    ROWS = "rows"  # pointwise work and row reductions
    SCATTER = "scatter"  # pointwise work stored at computed indices
    LINEAR = "linear"  # contractions with matrices, with prologue and epilogue
    ATTEND = "attend"  # softmax(score(q k)) v

    __hash__ = str.__hash__


@dataclasses.dataclass(frozen=True, slots=True)
class Contraction:
    """``sum over var of x * w``: x depends on the token variables and var, w on the column variable and var."""

    var: Expr
    x: Expr  # the prologue: an expression over every nest variable but the last, and var
    w: Expr  # a LOAD of the matrix element, indices affine in the last nest variable and var


@dataclasses.dataclass(frozen=True, slots=True)
class Attention:
    """``sum over key of softmax over key of score(sum over head of q * k) * v`` for one query.

    The last variable of the nest is the element of the value head. ``score`` holds the scalar product as ``@0`` and is
    an fp32 expression over the nest's other variables and ``key``; -inf leaves a position out.

    With a ``part`` the result is unfinished: of the blocks of PART_BLOCK positions from ``start`` to the end that
    ``stop`` and ``scan`` find, part p of P takes those from p * n to (p + 1) * n - 1, n = ceil(blocks / P). ``@0`` is
    then, along the last variable of extent E, sum(exp(score - peak) * v) for the first E - 2, the peak (the largest
    score, -inf where there is none), and sum(exp(score - peak)).
    """

    key: Expr  # variable: position in the cache, extent = its capacity
    head: Expr  # variable: element of the query/key head
    q: Expr  # over the nest's variables but the last, and head
    k: Expr  # over the same, key and head
    v: Expr  # over the nest's variables and key
    score: Expr
    start: Expr | None  # first position that can count, over the nest's variables but the last; None: 0
    stop: Expr | None  # positions from here on do not count; None: nothing known
    scan: Expr | None  # bool over key: a position counts only if true; its last true position bounds the loop
    # A row that has no position left is "zero" or "nan" (softmax of nothing); "all": a row whose scan finds nothing
    # takes every position with its score as it is (masks that add a huge negative number).
    masked: str
    part: Expr | None = None  # one of the nest's variables but the last; its extent is the number of parts


@dataclasses.dataclass(frozen=True, slots=True)
class Nest:
    """One loop nest; loads name graph values, program buffers or kernel operands, depending on the level."""

    vars: tuple[Expr, ...]
    target: str
    dtype: DType  # of the target
    index: tuple[Expr, ...]
    body: Expr
    contractions: tuple[Contraction, ...] = ()
    attention: Attention | None = None
    _loads: list[Expr] | None = dataclasses.field(default=None, init=False, compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        """What realises the nest, decided by its form alone."""
        if self.attention is not None:
            return Kind.ATTEND
        if self.contractions:
            return Kind.LINEAR
        # Dimensions of extent 1 have the index 0 and no variable of their own.
        free = [i for i in self.index if not i.is_const]
        plain = all(i.op is Op.VAR for i in free) and len(set(free)) == len(free)
        return Kind.ROWS if plain else Kind.SCATTER

    @property
    def walked(self) -> frozenset[Expr]:
        """Variables whose steps may meet at one place, as data decide: a target takes them in ascending order."""
        data = [i for i in self.index if loads(i)]
        if not data:
            return frozenset()
        apart = set().union(*(i.free for i in self.index if not loads(i)))
        for i in data:  # a place that data choose once and one variable moves along
            moving = [t for t in terms(i)[0] if t.op is Op.VAR and t not in apart]
            others = set().union(*(t.free for t in terms(i)[0] if t.op is not Op.VAR))
            if len(moving) == 1 and others <= apart:
                apart.add(moving[0])
        chosen = set().union(*(i.free for i in data))
        return frozenset(v for v in self.vars if v in chosen and v not in apart)

    def exprs(self) -> Iterator[Expr]:
        """Every expression of the nest: indices, body, prologues, matrices, attention."""
        yield from self.index
        yield self.body
        for c in self.contractions:
            yield c.x
            yield c.w
        if (a := self.attention) is not None:
            yield from (e for e in (a.q, a.k, a.v, a.score, a.start, a.stop, a.scan, a.part) if e is not None)

    def loads(self) -> list[Expr]:
        """The distinct loads, in a stable order (do not change the list: it is kept)."""
        if self._loads is not None:
            return self._loads
        seen: dict[Expr, None] = {}
        for root in self.exprs():
            seen.update(dict.fromkeys(loads(root)))
        object.__setattr__(self, "_loads", list(seen))
        return list(seen)

    def map(self, rule: Callable[[Expr], Expr]) -> Nest:
        """The nest with ``rule`` applied to every expression (variables and target stay)."""
        attention = None
        if (a := self.attention) is not None:
            attention = dataclasses.replace(
                a, q=rule(a.q), k=rule(a.k), v=rule(a.v), score=rule(a.score),
                start=None if a.start is None else rule(a.start),
                stop=None if a.stop is None else rule(a.stop),
                scan=None if a.scan is None else rule(a.scan),
                part=None if a.part is None else rule(a.part),
            )  # fmt: skip
        return dataclasses.replace(
            self,
            index=tuple(rule(i) for i in self.index),
            body=rule(self.body),
            contractions=tuple(Contraction(c.var, rule(c.x), rule(c.w)) for c in self.contractions),
            attention=attention,
        )
