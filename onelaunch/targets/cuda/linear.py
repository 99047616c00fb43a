"""Linear kernels: prologue into the block's own memory, products by the headers, epilogue from their sums.

Columns are taken in blocks that the accumulators hold. For the layout [out, in] the producer streams the rows of a
block through the ring, and the function written for it cuts the tile into the same blocks; for [in, out] the computing
threads load what they multiply. Any other matrix is summed by a plain loop, through the general rule for reductions.
"""

from __future__ import annotations

import dataclasses
import itertools

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.nest import Contraction
from onelaunch.program.program import maximum
from onelaunch.targets.cuda.kernel import SYNC
from onelaunch.targets.cuda.kernel import KernelWriter
from onelaunch.targets.cuda.nests import Steps
from onelaunch.targets.cuda.nests import write_shared_store
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CUDA
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.matrix import Matrix
from onelaunch.targets.source.matrix import recognise
from onelaunch.targets.source.nests import full
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.tiles import most
from onelaunch.targets.source.tiles import offset

# These are the headers' own: types.cuh, ring.cuh.
WARPS, VECTOR, ROWS = 8, 8, 8
STAGE_BYTES = 16384
COLUMNS = 128  # of a block, with few tokens
SUMS_MOST = 32 * 1024  # bytes of the accumulators of a block, if that leaves at least one group of rows


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """Contractions that read the same inputs: their matrices are streamed together. ``ready``: where the inputs are,
    ``shared``: which is shared memory.
    """

    numbers: tuple[int, ...]  # of the contractions
    contraction: Contraction  # the first of them
    matrices: tuple[Matrix, ...]
    ready: str
    shared: bool
    pitch: int


def write_linear(k: KernelWriter) -> None:
    """Writes the kernel."""
    tokens, axis = most(k.axes[:-1]), k.axes[-1]
    grouped: dict[tuple[object, ...], list[tuple[int, Contraction, Matrix]]] = {}
    for number, c in enumerate(k.nest.contractions):
        matrix = recognise(k.writer.memory, axis.variable, c) if tokens and axis.most else None
        if matrix is None:
            product = build.mul(build.cast(c.x, _wide(c.x)), build.cast(c.w, _wide(c.w)))
            total = build.cast(build.reduce("sum", c.var, product), DType.F32)
            k.writer.memory.results[build.acc(number)] = k.writer.memory.lower(total)
            continue
        step = matrix.inner if matrix.by_columns else matrix.column
        key = (c.x, c.var, matrix.by_columns, matrix.dtype, step)
        grouped.setdefault(key, []).append((number, c, matrix))
    if not grouped:
        return k.write_epilogue(k.body, k.steps())
    columns = _columns(k, tokens, [len(g) for g in grouped.values()])
    first = build.var("block", axis.variable.args[0])
    sums = [_reserve_sums(k, tokens, columns, first, group) for group in grouped.values()]
    passes = [_write_prologue(k, group) for group in grouped.values()]
    k.body.items.append(SYNC)
    block = _open_block(k, k.body, columns, first)
    for p, (name, slices) in zip(passes, sums, strict=True):
        _write_product(k, block, p, columns, name, slices)
    block.items.append(SYNC)
    last = maximum(axis.variable.args[0]) - 1
    end = build.sym("block_end", 0, last + 1)
    k.writer.symbols["block_end"] = "block_end"
    own = Steps(Loop(axis.variable, first, end, (0, last)), columns)
    k.write_epilogue(block, [*k.steps(k.axes[:-1]), own])
    block.items.append(SYNC)
    k.body.items.append(block)
    streamed = [p for p in passes if not p.matrices[0].by_columns]
    if streamed:
        k.stream = _stream(k, streamed, columns)
    return None


def _wide(e: Expr) -> DType:
    return e.dtype.compute if e.dtype.is_float else DType.F32


def _together(tokens: int) -> int:
    """linear.cuh's tokens_together."""
    return 4 if tokens >= 3 else max(tokens, 1)


def _padded(tokens: int) -> int:
    together = _together(tokens)
    return -(-tokens // together) * together


def _columns(k: KernelWriter, tokens: int, matrices: list[int]) -> int:
    """Columns of a block: a power of two times ROWS, so many that the accumulators stay small."""
    most_columns = max(SUMS_MOST // (4 * _padded(tokens) * sum(matrices)), ROWS)
    columns = ROWS
    while columns < min(k.axes[-1].most, COLUMNS) and 2 * columns <= most_columns:
        columns *= 2
    return columns


def _reserve_sums(
    k: KernelWriter, tokens: int, columns: int, first: Expr, group: list[tuple[int, Contraction, Matrix]]
) -> tuple[str, int]:
    """Accumulators of a pass; (C++ name, slices that a warp's share of a row is split into)."""
    c, matrix = group[0][1], group[0][2]
    slices = 1 if matrix.by_columns else _slices(c, matrix, columns // ROWS * len(group))
    rows = _padded(tokens)
    size = len(group) * slices * rows * columns
    name = f"@sums{group[0][0]}"
    pointer = k.reserve(name, size, (build.const(size),), (build.const(1),))
    for place, (number, _, _) in enumerate(group):
        parts: list[Expr] = []
        for part in range(slices):
            start = (place * slices + part) * rows * columns
            row = build.add(build.mul(offset(k.axes[:-1]), build.const(columns)), build.const(start))
            address = build.add(row, build.sub(k.axes[-1].variable, first))
            parts.append(Expr.make(Op.LOAD, (address,), name, DType.F32))
        total = parts[0]
        for other in parts[1:]:
            total = build.add(total, other)
        k.writer.memory.results[build.acc(number)] = total
    return pointer, slices


def _slices(c: Contraction, matrix: Matrix, groups: int) -> int:
    """Warps that share a row of the matrix, chunk by chunk, where there are fewer groups of rows than warps."""
    size = c.var.args[0]
    most_chunk = STAGE_BYTES // ROWS // matrix.dtype.itemsize
    chunks = -(-int(size.value) // most_chunk) if size.is_const else 1
    slices = 1
    while 2 * slices * groups <= WARPS and 2 * slices <= chunks:
        slices *= 2
    return slices


def _write_prologue(k: KernelWriter, group: list[tuple[int, Contraction, Matrix]]) -> Pass:
    """Evaluates the inputs, each row filled up with zeros to whole vectors."""
    number, c, _ = group[0]
    outer, size = k.axes[:-1], maximum(c.var.args[0])
    rows, pitch = _padded(most(outer)), -(-size // VECTOR) * VECTOR
    dtype = c.x.dtype if c.x.dtype in (DType.BF16, DType.F16) else DType.F32
    strides = (build.const(pitch), build.const(1))
    before = k.scratch
    ready = k.reserve(f"@x{number}", rows * pitch, (build.const(rows), build.const(pitch)), strides, dtype)
    if pitch != size or not c.var.args[0].is_const:
        k.body.items.append(f"clear({ready}, {rows * pitch});")
        k.body.items.append(SYNC)
    inner = Steps(full(c.var), size)
    home = Block(k.body)
    write_shared_store(
        k.writer, home, [*k.steps(outer), inner], f"@x{number}", (offset(outer), c.var), c.x, trusted=True
    )
    k.body.items.append(home)
    return Pass(tuple(n for n, _, _ in group), c, tuple(m for _, _, m in group), ready, k.scratch == before, pitch)


def _open_block(k: KernelWriter, parent: Block, columns: int, first: Expr) -> Block:
    """The loop over blocks of columns: ``block`` <= column < ``block_end``."""
    low, high = (bare(k.writer.value(e, parent)) for e in (k.axes[-1].low, k.axes[-1].high))
    loop = Block(parent, f"for (int64_t block = {low}; block < {high}; block += {columns})", first)
    loop.names[first] = "block"
    loop.items.append(f"const int64_t block_end = minimum(block + {columns}, {high});")
    return loop


def _write_product(k: KernelWriter, block: Block, p: Pass, columns: int, sums: str, slices: int) -> None:
    tokens = most(k.axes[:-1])
    size = bare(k.writer.value(k.writer.memory.lower(p.contraction.var.args[0]), k.body))
    storage = CUDA.storage[p.matrices[0].dtype]
    if not p.matrices[0].by_columns:
        memory = "Shared" if p.shared else "Global"
        shape = f"{storage}, {tokens}, {len(p.matrices)}, {slices}, {columns}, {memory}"
        block.items.append(f"linear<{shape}>(stages, {p.ready}, {p.pitch}, {size}, block_end - block, {sums});")
        return
    count = WARPS * _together(tokens) * columns
    partial = k.reserve(f"@partial{p.numbers[0]}", count, (build.const(count),), (build.const(1),))
    for place, m in enumerate(p.matrices):
        target = f"{sums} + {place * _padded(tokens) * columns}" if place else sums
        block.items.append(
            f"linear_columns<{storage}, {tokens}, {columns}>({_start(k, m, k.body)} + block, {m.inner}, {p.ready}, "
            f"{p.pitch}, {size}, block_end - block, {target}, {partial});"
        )


def _start(k: KernelWriter, matrix: Matrix, block: Block) -> str:
    pointer = k.writer.memory.places[matrix.name].pointer
    k.writer.count((matrix.base,))
    base = k.writer.value(matrix.base, block)
    return pointer if matrix.base.is_const and matrix.base.value == 0 else f"{pointer} + {base}"


def _stream(k: KernelWriter, passes: list[Pass], columns: int) -> list[str]:
    """The producer's function: the same blocks, the same order of matrices."""
    root = Block(None)
    every = list(itertools.chain.from_iterable(p.matrices for p in passes))
    constant = all(k.writer.memory.places[m.name].number in k.constant and not loads(m.base) for m in every)
    if not constant:
        root.items.append("producer.wait_for_events();")
    first = build.var("block", k.axes[-1].variable.args[0])
    loop = _open_block(k, root, columns, first)
    for p in passes:
        storage = CUDA.storage[p.matrices[0].dtype]
        pitch = p.matrices[0].column
        size = bare(k.writer.value(k.writer.memory.lower(p.contraction.var.args[0]), root))
        starts = ", ".join(f"{_start(k, m, root)} + block * {pitch}" for m in p.matrices)
        name = k.writer.fresh("matrices")
        loop.items.append(f"const {storage}* const {name}[] = {{{starts}}};")
        loop.items.append(f"producer.rows({name}, {pitch}, {size}, block_end - block);")
    root.items.append(loop)
    return list(root.lines(1))
