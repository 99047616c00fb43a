"""The lowering table of Core ATen: from an FX node to graph nodes.

Pointwise operations are in ``pointwise.py`` (one line each); operations with a structure of their own in the modules
``rules_*.py`` and ``attend.py``. A rule is registered under the ATen name without its overload; it raises
UnsupportedError for the cases it does not cover.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import torch

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.frontend.pointwise import COMPARE
from onelaunch.frontend.pointwise import LOGICAL
from onelaunch.frontend.pointwise import POINTWISE
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.fold import to_float32
from onelaunch.graph.graph import Value

Rule = Callable[..., Any]
R = TypeVar("R", bound=Rule)
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[R], R]:
    """Register a lowering rule; a name may be registered once."""

    def register(function: R) -> R:
        for name in names:
            if name in RULES or name in POINTWISE:
                raise ValueError(f"two lowering rules for {name}")
            RULES[name] = function
        return function

    return register


def meta(low: Lowering) -> torch.Tensor:
    """The fake tensor that describes the node's result."""
    return low.node.meta["val"]  # type: ignore[no-any-return]


def scalar(e: Expr, dtype: DType) -> Expr:
    """A number as an operand of type ``dtype``; 16-bit floats keep the fp32 value, as ATen's kernels do."""
    if e.is_const and dtype.is_float:
        value = float(e.value)
        return const(value if dtype is DType.F64 else to_float32(value), dtype)
    return build.cast(e, dtype)


def convert(e: Expr, dtype: DType) -> Expr:
    """``e`` as another type, with torch's meaning of bool."""
    if dtype is DType.BOOL and e.dtype is not DType.BOOL:
        return pointwise(Op.NE, e, const(0, e.dtype))
    return build.cast(e, dtype)


def same_type(*values: Value) -> None:
    """Where torch refuses operands of several types when it runs, tracing lets them through: torch is to refuse them.

    Raises UnsupportedError, so that the op stays with torch.
    """
    types = dict.fromkeys(str(v.dtype) for v in values)
    if len(types) > 1:
        raise UnsupportedError(f"operands of types {' and '.join(types)}; accepted: one type")


# pointwise


def lower_pointwise(low: Lowering, name: str, *args: Any, **kwargs: Any) -> Value:
    """One line of the pointwise table, with type promotion and broadcasting."""
    out = meta(low)
    dtype = _operand_dtype(low, name, args, Lowering.dtype(out))
    kwargs.pop("memory_format", None)

    def body(index: Index) -> Expr:
        named = {k: v if v is None or isinstance(v, str) else operand(low, v, index, dtype) for k, v in kwargs.items()}
        result = POINTWISE[name](*(operand(low, a, index, dtype, name in COMPARE) for a in args), **named)
        return convert(result, Lowering.dtype(out))

    return low.emit(out, body)


def _operand_dtype(low: Lowering, name: str, args: Sequence[Any], out: DType) -> DType:
    """The type that an operation computes in. Integers compute in i64 and wrap when converted to a narrower result."""
    if name in LOGICAL:
        return DType.BOOL
    if name not in COMPARE:
        return DType.I64 if out.is_int else out
    metas = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in args]
    metas = [1 if isinstance(m, torch.SymInt) else m for m in metas]
    if len(metas) == 1:
        return low.value(args[0]).dtype
    found = from_torch(torch.result_type(*metas))
    if found is None:
        raise UnsupportedError(f"comparison of {metas[0].dtype} with {getattr(metas[1], 'dtype', metas[1])}")
    return found


def _compared(number: Expr, dtype: DType) -> Expr:
    """A number as an operand of a comparison, which decides by its value in the compared type."""
    if number.is_const and dtype in (DType.BF16, DType.F16):
        return const(torch.tensor(float(number.value), dtype=dtype.torch).item(), dtype)
    return scalar(number, dtype)


def operand(low: Lowering, arg: Any, index: Index, dtype: DType, compare: bool = False) -> Any:
    """An FX argument at an index of the result, as ``dtype``: a tensor broadcast, a number as a literal; None stays."""
    if arg is None:
        return None
    found = low.env.get(arg) if isinstance(arg, torch.fx.Node) else None
    if isinstance(found, Value):
        return convert(low.at(found, views.broadcast(index, found.shape)), dtype)
    number = low.number(arg)
    return _compared(number, dtype) if compare else scalar(number, dtype)


@rule("where")
def _where(low: Lowering, condition: Any, x: Any, y: Any) -> Value:
    dtype = Lowering.dtype(meta(low))
    return low.emit(
        meta(low),
        lambda i: build.where(
            operand(low, condition, i, DType.BOOL), operand(low, x, i, dtype), operand(low, y, i, dtype)
        ),
    )


@rule("masked_fill")
def _masked_fill(low: Lowering, x: Any, mask: Any, value: Any) -> Value:
    return _where(low, mask, value, x)


@rule("_to_copy", "to", "_conj", "convert_element_type")
def to_copy(low: Lowering, x: Any, *_: Any, **__: Any) -> Value:
    """A cast: honoured, because the graph says so."""
    source = low.value(x)
    return low.emit(meta(low), lambda i: convert(low.at(source, i), Lowering.dtype(meta(low))))


@rule("copy")
def _copy(low: Lowering, x: Any, source: Any, non_blocking: bool = False) -> Value:
    """What is copied, where nobody else has it: so ``cache.copy_(stored)`` is an update in place, and no copy."""
    if isinstance(source, torch.fx.Node) and source.op == "call_function" and len(source.users) == 1:
        found = low.value(source)
        if found.dtype is Lowering.dtype(meta(low)) and found.shape == low.shape(meta(low)):
            return found
    return low.emit(meta(low), lambda i: operand(low, source, i, Lowering.dtype(meta(low))))


# integers of the graph


def lower_integer(low: Lowering, name: str, *args: Any) -> Expr:
    """Arithmetic on run-time sizes (``operator.add``, ``sym_size``)."""
    if name in ("sym_size", "sym_size.int"):
        return low.value(args[0]).shape[low.static(args[1])]
    table = {"add": build.add, "sub": build.sub, "mul": build.mul, "floordiv": build.floordiv, "mod": build.mod}
    if name not in table:
        raise UnsupportedError(f"integer operation {name} on a run-time size")
    return table[name](low.number(args[0]), low.number(args[1]))
