"""Linear kernels: prologue into scratch, products by the headers, epilogue from scratch.

Weights are used where they lie. What decides is the flattened address of the matrix element: a stride of one along the
contraction is the layout [out, in] (``linear``), a stride of one along the columns is [in, out] (``linear_columns``).
Any other matrix is summed by a plain loop, through the general rule for reductions.
"""

from __future__ import annotations

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import substitute
from onelaunch.graph.index import terms
from onelaunch.graph.nest import Contraction
from onelaunch.program.program import maximum
from onelaunch.targets.cpu.kernel import KernelWriter
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CPU
from onelaunch.targets.source.matrix import Matrix
from onelaunch.targets.source.matrix import recognise
from onelaunch.targets.source.nests import full
from onelaunch.targets.source.nests import write_store
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.tiles import most
from onelaunch.targets.source.tiles import offset

TOKENS = 64  # of one call of the headers' products; more tokens take several calls
INNER_BLOCK = 32  # linear.h pads the contraction to it


def write_linear(k: KernelWriter) -> list[str]:
    """Writes the kernel; returns the lines of its prefetch function."""
    tokens = most(k.axes[:-1])
    calls = -(-tokens // TOKENS)
    group = tokens if calls == 1 else TOKENS
    done: dict[tuple[Expr, Expr, bool, DType], str] = {}
    prefetch: list[str] = []
    for number, c in enumerate(k.nest.contractions):
        acc = build.acc(number)
        matrix = recognise(k.writer.memory, k.axes[-1].variable, c) if tokens and k.axes[-1].most else None
        if matrix is None:
            product = build.mul(build.cast(c.x, _wide(c.x)), build.cast(c.w, _wide(c.w)))
            total = build.cast(build.reduce("sum", c.var, product), DType.F32)
            k.writer.memory.results[acc] = k.writer.memory.lower(total)
            continue
        key = (c.x, c.var, matrix.by_columns, matrix.dtype)
        if key not in done:
            done[key] = _write_prologue(k, number, c, matrix, group, calls)
        _write_product(k, number, c, matrix, done[key], group, calls)
        prefetch.extend(_prefetch(k, c, matrix, group))
    k.write_epilogue(k.nest)
    return prefetch


def _wide(e: Expr) -> DType:
    return e.dtype.compute if e.dtype.is_float else DType.F32


def _size(k: KernelWriter, c: Contraction) -> str:
    return bare(k.writer.value(k.writer.memory.lower(c.var.args[0]), k.body))


def _write_prologue(k: KernelWriter, number: int, c: Contraction, matrix: Matrix, group: int, calls: int) -> str:
    """Evaluates x into scratch and arranges it for the product; returns the name of the arranged copy."""
    size, rows = maximum(c.var.args[0]), group * calls
    padded = -(-size // INNER_BLOCK) * INNER_BLOCK
    found = _in_place(k, c) if calls == 1 else None
    plain, step = found if found is not None else (_evaluate(k, number, c, rows), size)
    ready = k.reserve(f"@ready{number}", rows * padded, (build.const(rows * padded),), (build.const(1),))
    call = f"prepare_columns<{group}>" if matrix.by_columns else f"prepare<{CPU.storage[matrix.dtype]}, {group}>"
    text = f"{call}({plain}{{x}}, {step}, {_size(k, c)}, {ready}{{r}});"
    _repeat(k, calls, text, x=group * size, r=group * padded)
    return ready


def _in_place(k: KernelWriter, c: Contraction) -> tuple[str, int] | None:
    """Address and distance of the rows of x, where it lies in memory as the headers want it."""
    outer = k.axes[:-1]
    axes = [a for a in outer if a.most > 1]
    if c.x.op is not Op.LOAD or c.x.dtype is not DType.F32 or len(axes) > 1 or not all(a.is_full for a in axes):
        return None
    lowered = k.writer.memory.lower(c.x)
    address = substitute(lowered.args[0], {a.variable: a.low for a in outer if a not in axes})
    parts, constant = terms(address)
    inner, step = parts.pop(c.var, 0), parts.pop(axes[0].variable, 0) if axes else 0
    if inner != 1 or any(t.free for t in parts) or k.writer.memory.unsafe(lowered):
        return None
    base = build.const(constant)
    for term, factor in parts.items():
        base = build.add(base, build.mul(term, build.const(factor)))
    base = build.add(base, build.mul(axes[0].low, build.const(step))) if axes else base
    k.writer.count((base,))
    return _start(k, Matrix(c.x.attr, DType.F32, base, step, 1), k.body), step


def _evaluate(k: KernelWriter, number: int, c: Contraction, rows: int) -> str:
    """Writes loops that evaluate x into scratch; returns the scratch's name."""
    outer, size = k.axes[:-1], maximum(c.var.args[0])
    strides = (build.const(size), build.const(1))
    plain = k.reserve(f"@x{number}", rows * size, (build.const(rows), c.var.args[0]), strides)
    home = Block(k.body)
    if any(not a.is_full for a in outer) or rows != most(outer):
        k.body.items.append(f"std::memset({plain}, 0, {rows * size} * sizeof(float));")
    loops = [a.loop() for a in outer]
    inner = full(c.var, CPU.independent)
    write_store(k.writer, home, [*loops, inner], f"@x{number}", (offset(outer), c.var), c.x, trusted=True)
    k.body.items.append(home)
    return plain


def _write_product(
    k: KernelWriter, number: int, c: Contraction, matrix: Matrix, ready: str, group: int, calls: int
) -> None:
    axis = k.axes[-1]
    stride = -(-axis.most // 16) * 16
    rows, size = group * calls, maximum(c.var.args[0])
    padded = -(-size // INNER_BLOCK) * INNER_BLOCK
    name = f"@acc{number}"
    shape = (build.const(rows), build.const(stride))
    sums = k.reserve(name, rows * stride, shape, (build.const(stride), build.const(1)))
    low, high = (bare(k.writer.value(e, k.body)) for e in (axis.low, axis.high))
    call, step = ("linear_columns", matrix.inner) if matrix.by_columns else ("linear", matrix.column)
    length = _size(k, c)
    text = (
        f"{call}<{CPU.storage[matrix.dtype]}, {group}>({ready}{{r}}, {_start(k, matrix, k.body)}, {step}, "
        f"{length}, 0, {length}, {low}, {high}, {sums}{{s}}, {stride});"
    )
    _repeat(k, calls, text, r=group * padded, s=group * stride)
    address = build.add(build.mul(offset(k.axes[:-1]), build.const(stride)), build.sub(axis.variable, axis.low))
    k.writer.memory.results[build.acc(number)] = Expr.make(Op.LOAD, (address,), name, DType.F32)


def _start(k: KernelWriter, matrix: Matrix, block: Block) -> str:
    pointer = k.writer.memory.places[matrix.name].pointer
    base = k.writer.value(matrix.base, block)
    return pointer if matrix.base.is_const and matrix.base.value == 0 else f"{pointer} + {base}"


def _repeat(k: KernelWriter, calls: int, text: str, **steps: int) -> None:
    """One call, or a loop of calls over groups of tokens."""
    if calls == 1:
        k.body.items.append(text.format(**dict.fromkeys(steps, "")))
        return
    loop = Block(k.body, f"for (int64_t group = 0; group < {calls}; ++group)", build.var("group", calls))
    loop.items.append(text.format(**{n: f" + group * {step}" for n, step in steps.items()}))
    k.body.items.append(loop)


def _prefetch(k: KernelWriter, c: Contraction, matrix: Matrix, group: int) -> list[str]:
    place = k.writer.memory.places[matrix.name]
    if place.number not in k.constant or loads(matrix.base):
        return []
    axis, width, size = k.axes[-1], matrix.dtype.itemsize, maximum(c.var.args[0])
    block = Block(None)
    low, high = (bare(k.writer.value(e, block)) for e in (axis.low, axis.high))
    start = _start(k, matrix, block)
    if matrix.by_columns:
        call = f"prefetch({start} + {low}, {matrix.inner * width}, ({high} - {low}) * {width}, 0, {size});"
    else:
        kind = f"{CPU.storage[matrix.dtype]}, {group}"
        call = f"prefetch_linear<{kind}>({start}, {matrix.column}, {size}, {low}, {high});"
    return [f"  {line}" for line in (*(i for i in block.items if isinstance(i, str)), call)]
