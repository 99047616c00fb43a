"""Rules of matrix products: sums of products, which the transforms recognise as Linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onelaunch.frontend import views
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import same_type
from onelaunch.frontend.aten import scalar
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.expr import Expr
from onelaunch.graph.graph import Value


@rule("mm")
def _mm(low: Lowering, a: Any, b: Any) -> Value:
    left, right = low.value(a), low.value(b)
    same_type(left, right)

    def body(index: Index) -> Expr:
        k = low.reduction(left.shape[1]) if left.shape[1] is not views.ONE else const(0)
        return _product(low.at(left, (index[0], k)), low.at(right, (k, index[1])), k)

    return low.emit(meta(low), body)


def _product(x: Expr, y: Expr, k: Expr) -> Expr:
    return build.mul(x, y) if k.is_const else build.reduce("sum", k, build.mul(x, y))


@rule("bmm")
def _bmm(low: Lowering, a: Any, b: Any) -> Value:
    left, right = low.value(a), low.value(b)
    same_type(left, right)

    def body(index: Index) -> Expr:
        k = low.reduction(left.shape[2]) if left.shape[2] is not views.ONE else const(0)
        return _product(low.at(left, (index[0], index[1], k)), low.at(right, (index[0], k, index[2])), k)

    return low.emit(meta(low), body)


@rule("addmm", "baddbmm")
def _addmm(low: Lowering, c: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Value:
    bias, left, right = low.value(c), low.value(a), low.value(b)
    same_type(bias, left, right)

    def product(index: Index) -> Expr:
        k = low.reduction(left.shape[-1]) if left.shape[-1] is not views.ONE else const(0)
        return _product(low.at(left, (*index[:-1], k)), low.at(right, (*index[:-2], k, index[-1])), k)

    return _added(low, bias, product, beta, alpha)


def _added(low: Lowering, bias: Value, product: Callable[[Index], Expr], beta: Any, alpha: Any) -> Value:
    """``beta * bias + alpha * product``."""
    dtype = Lowering.dtype(meta(low))

    def body(index: Index) -> Expr:
        total = product(index)
        if alpha != 1:
            total = build.mul(total, scalar(low.number(alpha), dtype))
        if beta == 0:  # whatever the bias holds
            return total
        added = low.at(bias, views.broadcast(index, bias.shape))
        if beta != 1:
            added = build.mul(added, scalar(low.number(beta), dtype))
        return build.add(total, added)

    return low.emit(meta(low), body)


@rule("mv", "dot")
def _mv(low: Lowering, a: Any, b: Any) -> Value:
    left, right = low.value(a), low.value(b)
    same_type(left, right)

    def body(index: Index) -> Expr:
        k = low.reduction(left.shape[-1]) if left.shape[-1] is not views.ONE else const(0)
        return _product(low.at(left, (*index, k)), low.at(right, (k,)), k)

    return low.emit(meta(low), body)


@rule("addmv")
def _addmv(low: Lowering, c: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Value:
    bias, left, right = low.value(c), low.value(a), low.value(b)
    same_type(bias, left, right)

    def product(index: Index) -> Expr:
        k = low.reduction(left.shape[1]) if left.shape[1] is not views.ONE else const(0)
        return _product(low.at(left, (*index, k)), low.at(right, (k,)), k)

    return _added(low, bias, product, beta, alpha)


@rule("linear")
def _linear(low: Lowering, x: Any, weight: Any, bias: Any = None) -> Value:
    source, matrix = low.value(x), low.value(weight)
    same_type(source, matrix, *(() if bias is None else (low.value(bias),)))

    def body(index: Index) -> Expr:
        k = low.reduction(source.shape[-1]) if source.shape[-1] is not views.ONE else const(0)
        total = _product(low.at(source, (*index[:-1], k)), low.at(matrix, (index[-1], k)), k)
        return total if bias is None else build.add(total, low.at(low.value(bias), index[-1:]))

    return low.emit(meta(low), body)
