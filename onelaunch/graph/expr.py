"""Expressions: scalar computations over index variables.

An expression is an immutable, interned tree: two equal expressions are the same object, so equality is identity and
tables keyed by expressions are cheap. Views and pointwise operations of a model become expressions, never kernels.

Numerics: values of type bf16 and f16 are computed in fp32 and rounded only where an explicit ``CAST`` to a narrower
type says so, or where a buffer of that type stores them (docs/numerics.md).
"""

from __future__ import annotations

import enum
import math
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from onelaunch.graph.dtype import DType

Number = int | float | bool


class Op(enum.StrEnum):
    """All operations of expressions."""

    # leaves
    CONST = "const"  # attr: the value
    SYM = "sym"  # attr: (name, low, high): an integer read at run time
    VAR = "var"  # attr: name; args: (extent,): an index variable, 0 <= value < extent
    ACC = "acc"  # attr: number of the contraction whose finished sum stands here (epilogues and scores)
    LOAD = "load"  # attr: buffer or value name; args: one index a dimension
    # control
    CAST = "cast"  # to self.dtype, rounding to nearest even
    WHERE = "where"  # args: condition, then, else; only the chosen side is evaluated
    REDUCE = "reduce"  # attr: sum | max | min | prod; args: (variable, body)
    # integers and floats
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    MIN = "min"
    MAX = "max"
    NEG = "neg"
    ABS = "abs"
    POW = "pow"
    FLOORDIV = "floordiv"  # rounds towards minus infinity
    MOD = "mod"  # sign of the divisor, as Python's
    FMOD = "fmod"  # sign of the dividend, as C's
    DIV = "div"  # true division, floats only
    TRUNC = "trunc"
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"  # to nearest, ties to even
    SIGN = "sign"
    # floats
    EXP = "exp"
    EXPM1 = "expm1"
    LOG = "log"
    LOG1P = "log1p"
    LOG2 = "log2"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    SIN = "sin"
    COS = "cos"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    ERF = "erf"
    ERFINV = "erfinv"
    ATAN2 = "atan2"
    ISNAN = "isnan"
    # comparisons and logic
    LT = "lt"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    AND = "and"  # bitwise on integers, logical on bool
    OR = "or"
    XOR = "xor"
    NOT = "not"  # logical not of bool, bitwise not of integers

    __hash__ = str.__hash__


LEAVES = frozenset({Op.CONST, Op.SYM, Op.VAR, Op.ACC})
COMPARISONS = frozenset({Op.LT, Op.LE, Op.EQ, Op.NE, Op.ISNAN})
REDUCTIONS = {"sum": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf}  # with their neutral elements

_interned: weakref.WeakValueDictionary[Any, Expr] = weakref.WeakValueDictionary()


class Expr:
    """One node of an expression. Build it with the functions of ``onelaunch.graph.build``, which simplify."""

    __slots__ = ("__weakref__", "_free", "_loads", "_range", "_text", "args", "attr", "dtype", "op")

    op: Op
    args: tuple[Expr, ...]
    attr: Any
    dtype: DType
    _free: frozenset[Expr] | None
    _range: tuple[int, int] | None
    _text: str | None
    _loads: tuple[Expr, ...] | None

    def __init__(self) -> None:
        raise TypeError("expressions are interned: use Expr.make or onelaunch.graph.build")

    @staticmethod
    def make(op: Op, args: tuple[Expr, ...], attr: Any, dtype: DType) -> Expr:
        """The one expression with these parts, without simplification."""
        key = (op, args, (type(attr), repr(attr)) if op is Op.CONST else attr, dtype)
        found = _interned.get(key)
        if found is None:
            found = object.__new__(Expr)
            found.op, found.args, found.attr, found.dtype = op, args, attr, dtype
            found._free = found._range = found._text = found._loads = None
            _interned[key] = found
        return found

    @property
    def is_const(self) -> bool:
        """True for a literal."""
        return self.op is Op.CONST

    @property
    def value(self) -> Number:
        """The number of a constant."""
        assert self.op is Op.CONST, f"{self} is not a constant"
        number: Number = self.attr
        return number

    @property
    def free(self) -> frozenset[Expr]:
        """The index variables that this expression depends on (its own reductions' variables excluded)."""
        if self._free is None:
            if self.op is Op.VAR:
                self._free = frozenset((self,))
            elif self.op is Op.REDUCE:
                self._free = (self.args[1].free - {self.args[0]}) | self.args[0].args[0].free
            else:
                self._free = frozenset().union(*(a.free for a in self.args)) if self.args else frozenset()
        return self._free

    def __repr__(self) -> str:
        from onelaunch.graph.text import print_expr

        return print_expr(self)

    def __reduce__(self) -> Any:
        raise TypeError("expressions are stored as text (onelaunch.graph.text), never pickled")


def walk(root: Expr) -> Iterator[Expr]:
    """Every distinct node below and including ``root``, operands before their users."""
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))


def loads(root: Expr) -> tuple[Expr, ...]:
    """The distinct LOAD nodes of an expression, loads inside index expressions included."""
    if root._loads is None:
        root._loads = tuple([e for e in walk(root) if e.op is Op.LOAD])
    return root._loads


def rewrite(root: Expr, rule: Callable[[Expr], Expr | None], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Rebuild ``root`` bottom-up; ``rule`` may replace a node (its operands are rebuilt already) or return None."""
    from onelaunch.graph.build import rebuild

    memo = {} if memo is None else memo
    for node in walk(root):
        if node in memo:
            continue
        args = tuple(memo[a] for a in node.args)
        new = node if args == node.args else rebuild(node, args)
        # Where rebuilding simplified a node to one of its operands, that operand has been through the rule already.
        replaced = rule(new) if new.op is node.op and new not in args else None
        memo[node] = new if replaced is None else replaced
    return memo[root]


def substitute(root: Expr, mapping: dict[Expr, Expr]) -> Expr:
    """``root`` with every node that is a key of ``mapping`` replaced (outermost match wins)."""
    if not mapping:
        return root
    memo: dict[Expr, Expr] = dict(mapping)
    return rewrite(root, lambda _: None, memo)
