"""Evaluation of expressions over a grid of index values: one frame a tile.

A path is the chain of WHERE conditions around a node, with the side taken. Only the chosen side of a WHERE is
evaluated, so what could do harm (a load, a division) is evaluated under the path's mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.targets.reference import scalar
from onelaunch.targets.reference.plan import Plan

Path = tuple[tuple[Expr, bool], ...]
Ranges = dict[Expr, tuple[int, int]]


class Loader(Protocol):
    """What a frame needs from memory."""

    def load(self, e: Expr, frame: Frame, path: Path) -> torch.Tensor:
        """The elements that LOAD ``e`` names, for every index value of the frame."""


class Frame:
    """Variables bound to ranges of values, finished sums, and memoised values of expressions."""

    def __init__(self, plan: Plan, symbols: Mapping[str, int], loader: Loader) -> None:
        self.plan, self.symbols, self.loader = plan, symbols, loader
        self.ranges: Ranges = {}
        self.sums: dict[int, torch.Tensor] = {}
        self.base: torch.Tensor | None = None  # mask of the positions that are evaluated at all
        self._memo: dict[tuple[Expr, Path], torch.Tensor] = {}
        self._masks: dict[Path, torch.Tensor | None] = {}

    def child(self, sums: dict[int, torch.Tensor], base: torch.Tensor | None = None) -> Frame:
        """The same bindings with other finished sums and another mask."""
        other = Frame(self.plan, self.symbols, self.loader)
        other.ranges, other.sums, other.base = dict(self.ranges), sums, base
        return other

    def mask(self, path: Path) -> torch.Tensor | None:
        """Where the path is taken; None: everywhere."""
        if not path:
            return self.base
        if path not in self._masks:
            condition, side = path[-1]
            chosen = self.value(condition, path[:-1])
            chosen = chosen if side else ~chosen
            outer = self.mask(path[:-1])
            self._masks[path] = chosen if outer is None else outer & chosen
        return self._masks[path]

    def value(self, e: Expr, path: Path = ()) -> torch.Tensor:
        """``e`` for every index value, aligned at the last axis, in the type it computes in."""
        if path and not self.plan.guarded(e):
            path = ()
        key = (e, path)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._evaluate(e, path)
        return found

    def _evaluate(self, e: Expr, path: Path) -> torch.Tensor:
        match e.op:
            case Op.CONST:
                return torch.full((), e.value, dtype=e.dtype.compute.torch)
            case Op.SYM:
                return torch.full((), self.symbols[e.attr[0]], dtype=torch.int64)
            case Op.VAR:
                low, high = self.ranges[e]
                return torch.arange(low, high).reshape((-1,) + (1,) * (-self.plan.axis[e] - 1))
            case Op.ACC:
                return self.sums[e.attr]
            case Op.LOAD:
                return self.loader.load(e, self, path)
            case Op.REDUCE:
                return self._reduce(e, path)
            case Op.WHERE:
                condition = self.value(e.args[0], path)
                then = self.value(e.args[1], (*path, (e.args[0], True)))
                other = self.value(e.args[2], (*path, (e.args[0], False)))
                return torch.where(condition, then, other)
        args = [self.value(a, path) for a in e.args]
        if e.op in (Op.FLOORDIV, Op.MOD, Op.FMOD) and e.dtype.is_int:
            args[1] = self._divisor(e, args[1], path)
        return scalar.apply(e.op, args, e.dtype)

    def _divisor(self, e: Expr, divisor: torch.Tensor, path: Path) -> torch.Tensor:
        if (divisor != 0).all():
            return divisor
        mask = self.mask(path)
        if mask is None or ((divisor == 0) & mask).any():
            raise ZeroDivisionError(f"integer division by zero in {e}")
        return torch.where(divisor == 0, 1, divisor)

    def _reduce(self, e: Expr, path: Path) -> torch.Tensor:
        variable, body = e.args
        extent = self.value(variable.args[0], path)
        limit = int(extent.max()) if extent.numel() else 0
        self.ranges[variable] = (0, max(limit, 0))
        inside = None
        if extent.numel() > 1:
            inside = self.value(variable) < extent
        if inside is not None and self.plan.guarded(body):
            path = (*path, (Expr.make(Op.LT, (variable, variable.args[0]), None, DType.BOOL), True))
        return scalar.reduce(e.attr, self.value(body, path), self.plan.axis[variable], max(limit, 0), inside)
