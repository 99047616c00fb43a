"""Linear kernels: prologue into the block's own memory, products by the headers, epilogue from their sums.

Columns are taken in blocks that the accumulators hold. For the layout [out, in] the producer streams the rows of a
block through the ring, and the function written for it cuts the tile into the same blocks; for [in, out] the computing
threads load what they multiply. Any other matrix is summed by a plain loop, through the general rule for reductions.
"""

from __future__ import annotations

import dataclasses
import itertools

from onelaunch.errors import CompilerError
from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.nest import Contraction
from onelaunch.program.program import maximum
from onelaunch.targets.cuda.dataflow import TOKENS_MOST
from onelaunch.targets.cuda.dataflow import UNIT
from onelaunch.targets.cuda.dataflow import parts_of
from onelaunch.targets.cuda.dataflow import pitch_of
from onelaunch.targets.cuda.kernel import ALIGNMENT
from onelaunch.targets.cuda.kernel import SHARED_MOST
from onelaunch.targets.cuda.kernel import SYNC
from onelaunch.targets.cuda.kernel import KernelWriter
from onelaunch.targets.cuda.nests import Steps
from onelaunch.targets.cuda.nests import write_shared_store
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CUDA
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.matrix import Matrix
from onelaunch.targets.source.matrix import recognise
from onelaunch.targets.source.matrix import stored
from onelaunch.targets.source.nests import full
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.tiles import most
from onelaunch.targets.source.tiles import offset

# These are the headers' own: types.cuh, ring.cuh.
WARPS, VECTOR, ROWS = 8, 8, 8
INPUTS_MOST = 72 * 1024  # bytes of inputs in shared memory, where they can come in blocks
TOKENS_ORDERED = 4  # up to which inputs are put in the order of tensor cores
COLUMNS = 256  # of a block, with few tokens
SUMS_MOST = 24 * 1024  # bytes of the accumulators of a block, if that leaves at least one group; twice for many tokens
STAGE_BYTES = 32768  # ring.cuh
TOKENS_TOGETHER = 8  # linear.cuh: kTogether


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """Contractions that read the same inputs: their matrices are streamed together. ``ready``: where the inputs are,
    ``shared``: which is shared memory, rows ``pitch`` apart. ``halves``: 16-bit parts of an input for tensor cores,
    0: plain arithmetic.
    """

    numbers: tuple[int, ...]  # of the contractions
    contraction: Contraction  # the first of them
    matrices: tuple[Matrix, ...]
    ready: str
    shared: bool
    pitch: int
    halves: int
    ordered: bool = False  # inputs.cuh: Ordered
    place: str = ""  # the C++ name of where inputs go that are copied as they are; then they come in ``blocks``
    source: int = -1  # their operand
    blocks: int = 1
    fetched: bool = False  # by the copy engine

    @property
    def size(self) -> int:
        """Elements of the contraction that one call multiplies."""
        return maximum(self.contraction.var.args[0]) // self.blocks


def write_linear(k: KernelWriter) -> None:
    """Writes the kernel."""
    tokens, axis = most(k.axes[:-1]), k.axes[-1]
    grouped: dict[tuple[object, ...], list[tuple[int, Contraction, Matrix]]] = {}
    for number, c in enumerate(k.nest.contractions):
        possible = 0 < tokens <= TOKENS_MOST and axis.most
        matrix = recognise(k.writer.memory, axis.variable, c) if possible else None
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
    by_columns = any(m.by_columns for g in grouped.values() for _, _, m in g)
    first = build.var("block", axis.variable.args[0])
    least = sum(_least_sums(k, tokens, group) for group in grouped.values())
    k.kept += least
    passes = [_write_prologue(k, group) for group in grouped.values()]
    k.kept -= least
    columns = _columns(k, tokens, passes, by_columns)
    start = k.shared
    k.house(_passing(k, [c for g in grouped.values() for _, c, _ in g]))
    passed, k.shared = k.shared, start
    sums = [_reserve_sums(k, p, tokens, columns, first) for p in passes]
    k.shared = max(k.shared, passed)
    if k.body.items:
        k.body.items.append(SYNC)
    block = _open_block(k, k.body, columns, first)
    for p, name in zip(passes, sums, strict=True):
        _write_product(k, block, p, columns, name)
    block.items.append(SYNC)
    last = maximum(axis.variable.args[0]) - 1
    end = build.sym("block_end", 0, last + 1)
    k.writer.symbols["block_end"] = "block_end"
    own = Steps(Loop(axis.variable, first, end, (0, last)), columns)
    k.write_epilogue(block, [*k.steps(k.axes[:-1]), own])
    if axis.most > columns:
        block.items.append(SYNC)
    k.body.items.append(block)
    streamed = [p for p in passes if not p.matrices[0].by_columns]
    if streamed:
        k.stream = _stream(k, streamed, columns)
    if any(p.fetched for p in passes):
        k.fetch = _fetch(k, [p for p in passes if p.fetched], columns)
    return None


def _wide(e: Expr) -> DType:
    return e.dtype.compute if e.dtype.is_float else DType.F32


def _together(tokens: int) -> int:
    """columns.cuh's tokens_together."""
    return 4 if tokens >= 3 else max(tokens, 1)


def _padded(tokens: int, by_columns: bool) -> int:
    """Tokens that inputs and sums have room for."""
    return -(-tokens // _together(tokens)) * _together(tokens) if by_columns else tokens


def _takers(a: Pass, tokens: int) -> int:
    """Parts that the sums of a pass are made of: warps that share one, or threads that own one alone."""
    if a.halves:
        return _along(tokens, _groups(a, tokens))
    return 1 if a.matrices[0].by_columns else WARPS


def _along(tokens: int, groups: int) -> int:
    """linear.cuh's warps_along: warps whose parts make a sum."""
    return 8 if tokens <= 4 else 4 if tokens <= TOKENS_TOGETHER or groups > 1 else 2 if tokens <= 16 else 1


def _groups_most(tokens: int) -> int:
    """linear.cuh's groups_most: groups of rows that a stage may hold."""
    return 1 if tokens <= TOKENS_TOGETHER else 4


def _groups(a: Pass, tokens: int) -> int:
    """ring.cuh's Cut: groups of rows in a stage."""
    most = STAGE_BYTES // ROWS // a.matrices[0].dtype.itemsize
    chunk = -(-a.size // UNIT) * UNIT
    return 1 if chunk > most else min(most // chunk, _groups_most(tokens))


def _columns(k: KernelWriter, tokens: int, passes: list[Pass], by_columns: bool) -> int:
    """Columns of a block: a multiple of ROWS, so many that the sums stay small; for ``by_columns``, whose threads share
    them evenly (columns.cuh), a power of two of them, which a tile need not fill.
    """
    each = 4 * tokens * sum(_takers(p, tokens) * len(p.matrices) for p in passes)
    room = (SUMS_MOST if tokens <= TOKENS_TOGETHER else 2 * SUMS_MOST) // each
    most = max(min(COLUMNS // ROWS, room // ROWS), 1)
    while most > 1 and not _fits(k, sum(_sums_bytes(p, tokens, most * ROWS) for p in passes)):
        most -= 1
    groups = -(-k.axes[-1].most // ROWS)
    groups = -(-groups // -(-groups // most))  # blocks of nearly equal size
    if by_columns:
        groups = 1 << (groups - 1).bit_length()
        groups = groups if groups <= most else groups // 2
    return groups * ROWS


def _fits(k: KernelWriter, size: int) -> bool:
    return k.shared + k.kept + size <= SHARED_MOST


def _sums_bytes(p: Pass, tokens: int, columns: int) -> int:
    rows = _padded(tokens, p.matrices[0].by_columns)
    return -(-4 * len(p.numbers) * _takers(p, tokens) * rows * _pitch(p, tokens, columns) // ALIGNMENT) * ALIGNMENT


def _least_sums(k: KernelWriter, tokens: int, group: list[tuple[int, Contraction, Matrix]]) -> int:
    """Bytes that the sums of one group of columns take at most: they must lie in shared memory, inputs need not."""
    _, c, matrix = group[0]
    parts = 1 if matrix.by_columns else _along(tokens, 2) if _halves(k, c, matrix) else WARPS
    rows = _padded(tokens, matrix.by_columns)
    return -(-4 * len(group) * parts * rows * ROWS // ALIGNMENT) * ALIGNMENT


def _pitch(p: Pass, tokens: int, columns: int) -> int:
    """From one token's sums to the next: lanes that hold the same columns of several tokens store them at once."""
    return -(-(columns - 8) // 16) * 16 + 8 if p.halves and tokens > 1 else columns


def _reserve_sums(k: KernelWriter, p: Pass, tokens: int, columns: int, first: Expr) -> str:
    """Sums of a pass, each of so many parts; their C++ name."""
    parts, rows = _takers(p, tokens), _padded(tokens, p.matrices[0].by_columns)
    pitch = _pitch(p, tokens, columns)
    size = len(p.numbers) * parts * rows * pitch
    name = f"@sums{p.numbers[0]}"
    before = k.scratch
    pointer = k.reserve(name, size, (build.const(size),), (build.const(1),))
    if k.scratch != before and not p.matrices[0].by_columns:  # linear.cuh takes them for shared memory
        raise CompilerError(f"the sums of {len(k.nest.contractions)} products of {tokens} tokens need shared memory")
    for place, number in enumerate(p.numbers):
        total: Expr | None = None
        for part in range(parts):
            start = (place * parts + part) * rows * pitch
            row = build.add(build.mul(offset(k.axes[:-1]), build.const(pitch)), build.const(start))
            address = build.add(row, build.sub(k.axes[-1].variable, first))
            own = Expr.make(Op.LOAD, (address,), name, DType.F32)
            total = own if total is None else build.add(total, own)
        assert total is not None, "at least one part"
        k.writer.memory.results[build.acc(number)] = total
    return pointer


def _passing(k: KernelWriter, products: list[Contraction]) -> list[int]:
    """Staged operands that nobody reads once the inputs of products are there: sums may lie where they were."""
    nest = k.nest
    later = [nest.body, *nest.index, *(c.w for c in nest.contractions)]
    later += [c.x for c in nest.contractions if c not in products]
    kept = {e.attr for root in later for e in loads(root)}
    return [i for i in k.staged if k.kernel.operands[i].name not in kept and i not in k.use.inputs | k.use.fetched]


def _halves(k: KernelWriter, c: Contraction, matrix: Matrix) -> int:
    """How inputs go to the tensor cores: 1: as the matrix' own type, 2: as the sum of two such; 0: not at all.

    A product of 16-bit tensors has 16-bit inputs. Where they come from memory as fp32, the machine keeps intermediates
    that way; here they are what the graph says. A product of tensors made wider before keeps all that 16 bits of
    mantissa hold; fp16 would overflow, so there it is done in fp32.
    """
    if matrix.by_columns or matrix.dtype is DType.F32 or not c.var.args[0].is_const:
        return 0
    if c.x.dtype is matrix.dtype:
        return 1
    widened = c.w.op is Op.CAST
    if matrix.dtype is DType.F16 and widened:
        return 0
    operands = {o.name: i for i, o in enumerate(k.kernel.operands)}
    wide = [operands[e.attr] for e in loads(c.x) if e.dtype is DType.F32]
    kept = not widened and all(i in k.use.intermediate for i in wide)
    return 1 if kept else 2


def _write_prologue(k: KernelWriter, group: list[tuple[int, Contraction, Matrix]]) -> Pass:
    """Evaluates the inputs, each row filled up with zeros to whole vectors."""
    number, c, matrix = group[0]
    outer, size = k.axes[:-1], maximum(c.var.args[0])
    tokens = most(outer)
    halves = _halves(k, c, matrix)
    name, before = f"@x{number}", k.scratch
    numbers, matrices = tuple(n for n, _, _ in group), tuple(m for _, _, m in group)
    whole = k.use.inputs | k.use.fetched
    source = next((i for i in whole if k.kernel.operands[i].name == stored(c.x).attr), -1)
    if source in k.use.fetched:
        parts = parts_of(tokens, size)
        pitch = pitch_of(size // parts)
        k.slot, k.parts = max(k.slot, tokens * pitch * matrix.dtype.itemsize), max(k.parts, parts)
        ready = f"reinterpret_cast<const {CUDA.storage[matrix.dtype]}*>(fetched.wait())"
        return Pass(numbers, c, matrices, ready, True, pitch, 1, source=source, blocks=parts, fetched=True)
    blocks = _blocks(tokens, size, halves) if source >= 0 else 1
    rows, pitch = _padded(tokens, matrix.by_columns), -(-(size // blocks) // VECTOR) * VECTOR
    ordered = halves == 1 and tokens <= TOKENS_ORDERED and size // blocks % UNIT == 0 and c.var.args[0].is_const
    if halves and not ordered and tokens > 1:
        pitch = pitch_of(pitch)
    place = name, rows * pitch, (build.const(rows), build.const(pitch)), (build.const(pitch), build.const(1))
    if ordered or halves == 2:
        pointer = (k.reserve_ordered if ordered else k.reserve_halves)(*place, matrix.dtype)
        ready = f"{pointer}.at"
    else:
        plain = c.x.dtype if c.x.dtype in (DType.BF16, DType.F16) else DType.F32
        pointer = ready = k.reserve(*place, matrix.dtype if halves else plain)
    made = Pass(numbers, c, matrices, ready, k.scratch == before, pitch, halves, ordered, pointer, source, blocks)
    if source >= 0:
        if blocks == 1:
            k.direct[source] = f"{k.direct.get(source, '')} {_copy(k, made)}".lstrip()  # for several passes, several
        return made
    if pitch != size or not c.var.args[0].is_const:
        k.body.items.append(f"clear({ready}, {max(halves, 1) * rows * pitch});")
        k.body.items.append(SYNC)
    inner = Steps(full(c.var), size)
    home = Block(k.body)
    write_shared_store(k.writer, home, [*k.steps(outer), inner], name, (offset(outer), c.var), c.x, trusted=True)
    k.body.items.append(home)
    return made


def _blocks(tokens: int, size: int, halves: int) -> int:
    """Into how many equal blocks inputs are cut along the contraction, to be in shared memory one after the other."""
    for blocks in range(1, size // UNIT + 1):
        if tokens * pitch_of(size // blocks) * 2 * halves <= INPUTS_MOST and size % (blocks * UNIT) == 0:
            return blocks
    return 1


def _copy(k: KernelWriter, p: Pass, block: str = "") -> str:
    """The call that copies inputs as they are, or a block of them."""
    tokens, size = most(k.axes[:-1]), maximum(p.contraction.var.args[0])
    start = f"{k.reached(p.source)} + task.spans[{2 * k.slot_of(p.source)}]{block}"
    return f"stage_rows<{tokens}, {p.size}, {size}>({p.place}, {p.pitch}, {start});"


def _open_block(k: KernelWriter, parent: Block, columns: int, first: Expr) -> Block:
    """The loop over blocks of columns: ``block`` <= column < ``block_end``; no loop where there is one block."""
    low, high = (bare(k.writer.value(e, parent)) for e in (k.axes[-1].low, k.axes[-1].high))
    if k.axes[-1].most <= columns:
        one = Block(parent, f"if (const int64_t block = {low}, block_end = {high}; block < block_end)", first)
        one.names[first] = "block"
        return one
    loop = Block(parent, f"for (int64_t block = {low}; block < {high}; block += {columns})", first)
    loop.names[first] = "block"
    loop.items.append(f"const int64_t block_end = minimum(block + {columns}, {high});")
    return loop


def _write_product(k: KernelWriter, block: Block, p: Pass, columns: int, sums: str) -> None:
    tokens = most(k.axes[:-1])
    size = bare(k.writer.value(k.writer.memory.lower(p.contraction.var.args[0]), k.body))
    storage = CUDA.storage[p.matrices[0].dtype]
    given = f"{p.ready}, {p.pitch}, {size}, block_end - block"
    memory, shape = "Shared" if p.shared else "Global", f"{storage}, {tokens}, {len(p.matrices)}, {columns}"
    if p.halves:
        shape = f"{storage}, {tokens}, {len(p.matrices)}, {_pitch(p, tokens, columns)}, {p.halves}, {p.size}"
        given = f"stages, {p.ready}, {p.pitch}, block_end - block, {sums}"
        call = f"linear<{shape}, {'true' if p.ordered else 'false'}, {memory}>({given}"
        own, more = _open_parts(block, p)
        own.items += [SYNC, _copy(k, p, f" + part * {p.size}"), "staged();"] if p.blocks > 1 and not p.fetched else []
        own.items.append(f"{call}{more});")
        own.items += ["fetched.release();"] if p.fetched else []
        return
    if not p.matrices[0].by_columns:
        block.items.append(f"linear_plain<{shape}, {memory}>(stages, {given}, {sums});")
        return
    count = WARPS * _together(tokens) * columns
    partial = k.reserve(f"@partial{p.numbers[0]}", count, (build.const(count),), (build.const(1),))
    for place, m in enumerate(p.matrices):
        target = f"{sums} + {place * _padded(tokens, True) * columns}" if place else sums
        block.items.append(
            f"linear_columns<{storage}, {tokens}, {columns}>({_start(k, m, k.body)} + block, {m.inner}, {given}, "
            f"{target}, {partial});"
        )


def _open_parts(block: Block, p: Pass) -> tuple[Block, str]:
    """The loop over the parts of inputs, if there are several, and what says of a product that it is not the first."""
    if p.blocks == 1:
        return block, ""
    loop = Block(block, f"for (int part = 0; part < {p.blocks}; ++part)", build.var("part", p.blocks))
    block.items.append(loop)
    return loop, ", part != 0"


def _start(k: KernelWriter, matrix: Matrix, block: Block) -> str:
    pointer = k.writer.memory.places[matrix.name].pointer
    k.writer.count((matrix.base,))
    base = k.writer.value(matrix.base, block)
    return pointer if matrix.base.is_const and matrix.base.value == 0 else f"{pointer} + {base}"


def _stream(k: KernelWriter, passes: list[Pass], columns: int) -> list[str]:
    """The producer's function: the same blocks, the same order of matrices."""
    root = Block(None)
    groups = _groups_most(most(k.axes[:-1]))
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
        home, _ = _open_parts(loop, p)
        for m in p.matrices:
            start = f"{_start(k, m, root)} + block * {pitch}"
            start = f"{start} + part * {p.size}" if p.blocks > 1 else start
            length = p.size if p.blocks > 1 else size
            home.items.append(f"producer.rows<{storage}, {groups}>({start}, {pitch}, {length}, block_end - block);")
    root.items.append(loop)
    return list(root.lines(1))


def _fetch(k: KernelWriter, passes: list[Pass], columns: int) -> list[str]:
    """The fetcher's function: the same blocks, the same order of parts."""
    root = Block(None)
    root.items.append("if (!fetcher.begin()) return;")
    loop = _open_block(k, root, columns, build.var("block", k.axes[-1].variable.args[0]))
    for p in passes:
        storage, size = CUDA.storage[p.matrices[0].dtype], maximum(p.contraction.var.args[0])
        home, _ = _open_parts(loop, p)
        start = f"{k.reached(p.source)} + task.spans[{2 * k.slot_of(p.source)}]"
        start = f"{start} + part * {p.size}" if p.blocks > 1 else start
        home.items.append(f"fetcher.rows<{storage}>({start}, {size}, {most(k.axes[:-1])}, {p.size}, {p.pitch});")
    root.items.append(loop)
    return list(root.lines(1))
