"""The state of one lowering: FX nodes seen so far, as values, integers or tuples of values."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from typing import Any

import sympy
import torch

from onelaunch.errors import UnsupportedError
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.graph import load_value
from onelaunch.graph.nest import Nest

Index = tuple[Expr, ...]


class Lowering:
    """Turns FX nodes into graph nodes, one at a time."""

    def __init__(self, symbols: dict[str, tuple[int, int]]) -> None:
        self.symbols = {name: build.sym(name, low, high) for name, (low, high) in symbols.items()}
        self.nodes: list[Node] = []
        self.env: dict[torch.fx.Node, Any] = {}
        self.node: torch.fx.Node  # the FX node being lowered
        self._reductions = itertools.count()
        self._names: set[str] = set()

    # sizes and types

    def extent(self, size: int | torch.SymInt | sympy.Basic) -> Expr:
        """A size, SymInt or sympy integer as an expression over the symbols."""
        if isinstance(size, torch.SymInt):
            size = size.node.expr
        if isinstance(size, sympy.Basic):
            return self._sympy(size)
        return const(int(size))

    def _sympy(self, e: sympy.Basic) -> Expr:
        if isinstance(e, sympy.Integer):
            return const(int(e))
        if isinstance(e, sympy.Symbol):
            if e.name not in self.symbols:
                raise UnsupportedError(f"size {e.name} is computed from data")
            return self.symbols[e.name]
        args = [self._sympy(a) for a in e.args]
        name = type(e).__name__
        if name == "Pow" and args[1].is_const and args[1].value > 0:
            args, name = args[:1] * int(args[1].value), "Mul"
        combine: dict[str, Callable[[Expr, Expr], Expr]] = {
            "Add": build.add, "Mul": build.mul, "FloorDiv": build.floordiv, "CleanDiv": build.floordiv,
            "Mod": build.mod, "PythonMod": build.mod,
            "Max": partial(pointwise, Op.MAX), "Min": partial(pointwise, Op.MIN),
        }  # fmt: skip
        if name not in combine:
            raise UnsupportedError(f"size {e} uses {name}")
        total = args[0]
        for a in args[1:]:
            total = combine[name](total, a)
        return total

    def shape(self, tensor: torch.Tensor) -> tuple[Expr, ...]:
        """The extents of a tensor as expressions."""
        return tuple(self.extent(s) for s in tensor.shape)

    @staticmethod
    def dtype(tensor: torch.Tensor) -> DType:
        """The element type; raises UnsupportedError where onelaunch has none."""
        found = from_torch(tensor.dtype)
        if found is None:
            raise UnsupportedError(f"element type {tensor.dtype}")
        return found

    # operands

    def value(self, arg: Any) -> Value:
        """The tensor that an FX argument stands for."""
        found = self.env.get(arg) if isinstance(arg, torch.fx.Node) else None
        if not isinstance(found, Value):
            raise UnsupportedError(f"operand {arg} is not a tensor")
        return found

    def number(self, arg: Any) -> Expr:
        """A Python number, SymInt node or None-free scalar argument as an expression (i64, bool or f32 constant)."""
        if isinstance(arg, torch.fx.Node):
            arg = self.env[arg]
        if isinstance(arg, Expr):
            return arg
        if isinstance(arg, torch.SymInt):
            return self.extent(arg)
        if isinstance(arg, bool):
            return const(arg, DType.BOOL)
        if isinstance(arg, int):
            return const(arg)
        if isinstance(arg, float):
            return const(arg, DType.F64)
        raise UnsupportedError(f"operand {arg!r} is neither a tensor nor a number")

    def static(self, arg: Any) -> int:
        """An integer argument that must be known now (a dimension, a split size)."""
        e = self.number(arg)
        if not e.is_const:
            raise UnsupportedError(f"operand {e} must be a constant")
        return int(e.value)

    def at(self, value: Value, index: Sequence[Expr]) -> Expr:
        """The element of a value at an index; dimensions of extent 1 always have index 0."""
        assert len(index) == len(value.shape), f"{value} indexed by {len(index)} indices"
        return load_value(value, tuple(const(0) if _is_one(e) else i for i, e in zip(index, value.shape, strict=True)))

    def reduction(self, extent: Expr) -> Expr:
        """A fresh reduction variable."""
        return build.var(f"r{next(self._reductions)}", extent)

    # results

    def variables(self, shape: Sequence[Expr]) -> Index:
        """One index a dimension: a variable, or 0 where the extent is 1."""
        return tuple(const(0) if _is_one(e) else build.var(f"i{d}", e) for d, e in enumerate(shape))

    def emit(
        self,
        meta: torch.Tensor,
        body: Callable[[Index], Expr],
        *,
        suffix: str = "",
        softmax: tuple[str, int] | None = None,
    ) -> Value:
        """A node that computes ``body(index)`` for every index of a result shaped like ``meta``."""
        shape, dtype = self.shape(meta), self.dtype(meta)
        index = self.variables(shape)
        return self.emit_nest(shape, dtype, index, index, body(index), suffix=suffix, softmax=softmax)

    def emit_nest(
        self,
        shape: tuple[Expr, ...],
        dtype: DType,
        variables: Sequence[Expr],
        index: Index,
        body: Expr,
        *,
        base: str | None = None,
        suffix: str = "",
        softmax: tuple[str, int] | None = None,
        wrap: Callable[[Nest], Nest] | None = None,
    ) -> Value:
        """A node storing ``body`` at ``index`` for all values of ``variables`` (constants among them are skipped)."""
        out = Value(self._unique(self.node.name + suffix), dtype, shape)
        nest = Nest(tuple(v for v in variables if not v.is_const), out.name, dtype, index, body)
        if wrap is not None:
            nest = wrap(nest)
        self.nodes.append(Node(out, nest, base, softmax, origin(self.node)))
        return out

    def _unique(self, name: str) -> str:
        candidate, n = name, 0
        while candidate in self._names:
            n += 1
            candidate = f"{name}_{n}"
        self._names.add(candidate)
        return candidate


def _is_one(extent: Expr) -> bool:
    return extent.is_const and extent.value == 1


def origin(node: torch.fx.Node) -> str:
    """Where an FX node comes from: module path and, if known, the user's source line."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for entry in stack.values():
        path = str(entry[0])
    path = path.replace("L['self'].", "").replace("L['self']", "")
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    where = ""
    if places:
        parts = places[-1].split(", ")
        where = parts[0].removeprefix("File ").strip('"').rsplit("/", 1)[-1] + ":" + parts[1].removeprefix("line ")
    return " ".join(p for p in (path, where) if p)
