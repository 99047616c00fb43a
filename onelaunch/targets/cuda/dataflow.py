"""How tasks get their inputs on a GPU: which buffers say themselves whether they have been written (flag.cuh), which
operands are copied to shared memory first (stage.cuh), and which kernels must wait for events before they compute.

The program and its certificate know nothing of this. Events stay, every task still waits for its own before it signals,
so whatever the check concluded from a signal holds. What changes is when a task may begin: a task that touches nothing
that this launch changes, but values with flags, needs no event for that.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.index import terms
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Buffer
from onelaunch.program.program import Kernel
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import Task
from onelaunch.targets.source.matrix import stored
from onelaunch.targets.source.newest import Newest
from onelaunch.targets.source.newest import split_newest

STAGED_MOST = 56 * 1024  # bytes of a product's operands in shared memory
STAGED_OTHERS = 32 * 1024  # bytes of any other kernel's
DIRECT_MOST = 2048  # values with flags that a task may read without staging: each costs a trip to memory
VECTOR = 4  # words of a vector
CHUNK = 8  # values that a lane multiplies at once, and the copy engine brings at least
UNIT, ROW_SHIFT = 64, 32  # elements (inputs.cuh: kUnit)
SLOT_MOST, PART_MOST = 36 * 1024, 2048  # bytes and elements of a part of inputs that are fetched
TOKENS_MOST = 64  # whose sums the computing warps' registers hold
GRAIN = 32  # words: each buffer of values with flags begins at a cache line


@dataclasses.dataclass(frozen=True, slots=True)
class Staged:
    """An operand that is copied: the most elements of a task, whether all tasks copy as many, and whether what they
    copy begins at a vector of the buffer.
    """

    operand: int
    most: int
    even: bool
    aligned: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """How one kernel gets its operands, by their numbers."""

    flagged: frozenset[int] = frozenset()
    staged: tuple[Staged, ...] = ()
    inputs: frozenset[int] = frozenset()  # of these: a product's inputs as they are, with flags
    fetched: frozenset[int] = frozenset()  # and those that the copy engine brings (fetch.cuh)
    constant: frozenset[int] = frozenset()  # nobody writes them in the launch
    intermediate: frozenset[int] = frozenset()  # workspace in all tasks
    waits: bool = True  # for its events, before it computes
    settled: frozenset[int] = frozenset()  # no op before this one writes them in the launch: they need no event


@dataclasses.dataclass(frozen=True, slots=True)
class Dataflow:
    """See the module. ``places``: of buffers with flags, in words of their memory, of ``words`` in all."""

    uses: tuple[Use, ...]
    places: dict[int, int]
    words: int
    spans: tuple[tuple[tuple[int, int], ...], ...]  # of each task's staged operands: first element, count


def dataflow(program: Program) -> Dataflow:
    """What is best for a program."""
    tasks: list[list[Task]] = [[] for _ in program.kernels]
    for task in program.tasks:
        tasks[task.kernel].append(task)
    steps = [tuple(int(s.value) for s in b.strides) if _is_static(b) else None for b in program.buffers]
    staged = [_staged(k, own, steps) for k, own in zip(program.kernels, tasks, strict=True)]
    inputs = [_inputs(program, k, own, s) for k, own, s in zip(program.kernels, tasks, staged, strict=True)]
    flagged = _flagged(program, tasks, staged)
    for copied, own, whole in zip(staged, tasks, inputs, strict=True):
        for i in [i for i in whole if program.kernels[own[0].kernel].operands[i].dtype is DType.F32]:
            if own[0].operands[i] not in flagged:
                whole.discard(i)
                del copied[i]
    fetched = [
        {i for i in whole if own[0].operands[i] not in flagged} for whole, own in zip(inputs, tasks, strict=True)
    ]
    waiting, unsettled = _waiting(program, flagged, fetched)
    written = {r.buffer for t in program.tasks for r in t.writes}
    uses = []
    for n, own in enumerate(tasks):
        operands = list(zip(*(t.operands for t in own), strict=True))
        uses.append(Use(
            frozenset(i for i, found in enumerate(operands) if found[0] in flagged),
            tuple(
                Staged(i, max(c for _, c in s), len({c for _, c in s}) == 1, all(first % VECTOR == 0 for first, _ in s))
                for i, s in staged[n].items()
            ),
            frozenset(inputs[n] - fetched[n]),
            frozenset(fetched[n]),
            frozenset(i for i, found in enumerate(operands) if not written & set(found)),
            frozenset(
                i for i, found in enumerate(operands) if all(program.buffers[b].role is Role.WORKSPACE for b in found)
            ),
            n in waiting,
            frozenset(i for i in range(len(operands)) if (n, i) not in unsettled),
        ))  # fmt: skip
    places, words = {}, 0
    for b in sorted(flagged):
        places[b], words = words, words + -(-math.prod(program.buffers[b].extents) // GRAIN) * GRAIN
    number = {id(t): i for own in tasks for i, t in enumerate(own)}
    spans = tuple(tuple(s[number[id(t)]] for s in staged[t.kernel].values()) for t in program.tasks)
    return Dataflow(tuple(uses), places, words, spans)


# --- staging ----------------------------------------------------------------------------------------------------------


def _staged(kernel: Kernel, tasks: list[Task], steps: list[tuple[int, ...] | None]) -> dict[int, list[tuple[int, int]]]:
    """The operands of a kernel that are staged, and what of each for every task: first element and count. ``steps``:
    of ``_span``.
    """
    room = STAGED_MOST if kernel.nest.kind is Kind.LINEAR else STAGED_OTHERS
    found: dict[int, list[tuple[int, int]]] = {}
    candidates = []
    for i in _copied(kernel):
        spans = [_span(t, i, steps) for t in tasks]
        whole = [s for s in spans if s is not None]
        if len(whole) == len(spans):
            candidates.append((max((c for _, c in whole), default=0) * kernel.operands[i].dtype.itemsize, i, whole))
    for size, i, whole in sorted(candidates, key=lambda c: c[:2]):
        if _is_input(kernel, i):
            found[i] = whole  # where it goes, it takes no room of its own
        elif size <= room:
            found[i], room = whole, room - size
    return dict(sorted(found.items()))


def _is_input(kernel: Kernel, operand: int) -> bool:
    """Whether an operand is the inputs of products with matrices of 16 bits, as it is, and nothing else. It is fp32, or
    of the matrices' type.
    """
    nest, own = kernel.nest, kernel.operands[operand]
    places = {o.name: o for o in kernel.operands}
    elsewhere = [nest.body, *nest.index, *(c.w for c in nest.contractions)]
    taking = [c for c in nest.contractions if stored(c.x).op is Op.LOAD and stored(c.x).attr == own.name]
    elsewhere += [c.x for c in nest.contractions if c not in taking]
    if not taking or any(e.attr == own.name for root in elsewhere for e in loads(root)):
        return False
    return all(
        c.x is taking[0].x and c.var.args[0].is_const and int(c.var.args[0].value) % CHUNK == 0
        and own.dtype in (DType.F32, c.w.dtype)
        and c.w.op is Op.LOAD and c.w.dtype in (DType.BF16, DType.F16) and c.w.args[-1] is c.var
        and places[c.w.attr].strides[-1].is_const and places[c.w.attr].strides[-1].value == 1
        for c in taking
    )  # fmt: skip


def _inputs(program: Program, kernel: Kernel, tasks: list[Task], staged: dict[int, list[tuple[int, int]]]) -> set[int]:
    """The staged operands that are inputs as they are, row after row in all tasks; any other such is not staged."""
    found: set[int] = set()
    for i in [i for i in staged if _is_input(kernel, i)]:
        c = next(
            c
            for c in kernel.nest.contractions
            if stored(c.x).op is Op.LOAD and stored(c.x).attr == kernel.operands[i].name
        )
        size = int(c.var.args[0].value)
        rows = [math.prod(high - low for low, high in t.tile[:-1]) for t in tasks]
        whole = all(
            first % VECTOR == 0 and count == n * size for (first, count), n in zip(staged[i], rows, strict=True)
        )
        whole = whole and len(set(rows)) == 1 and rows[0] <= TOKENS_MOST
        whole = whole and _in_order(kernel, tasks, stored(c.x), c.var)
        if kernel.operands[i].dtype is not DType.F32:
            whole = whole and all(first % CHUNK == 0 for first, _ in staged[i]) and parts_of(rows[0], size) > 0
            whole = whole and all(program.buffers[t.operands[i]].role is Role.WORKSPACE for t in tasks)
        if whole:
            found.add(i)
        else:
            del staged[i]
    return found


def parts_of(tokens: int, size: int) -> int:
    """Into how many equal parts inputs are cut along the contraction to be fetched; 0: none that fit a slot."""
    for grain in (UNIT, CHUNK):
        for parts in range(1, max(size // UNIT, 1) + 1):  # smaller ones cost more than they bring
            part = size // parts
            if size % (parts * grain) == 0 and part <= PART_MOST and tokens * pitch_of(part) * 2 <= SLOT_MOST:
                return parts
    return 0


def pitch_of(size: int) -> int:
    """Elements from one row of inputs in shared memory to the next: the banks of two neighbours differ."""
    return -(-size // UNIT) * UNIT + ROW_SHIFT


def _in_order(kernel: Kernel, tasks: list[Task], load: Expr, variable: Expr) -> bool:
    """Whether the elements of a load lie in memory as ``variable`` counts, and its rows as the steps of every tile."""
    operand = next(o for o in kernel.operands if o.name == load.attr)
    address = build.const(0)
    for index, stride in zip(load.args, operand.strides, strict=True):
        address = build.add(address, build.mul(index, stride))
    parts, _ = terms(address)
    if loads(address) or parts.pop(variable, 0) != 1 or not set(parts) <= set(kernel.nest.vars[:-1]):
        return False
    for tile in {t.tile for t in tasks}:
        step = int(variable.args[0].value)
        for v, (low, high) in reversed(list(zip(kernel.nest.vars[:-1], tile, strict=False))):
            if high - low > 1 and parts.get(v, 0) != step:
                return False
            step *= high - low
    return True


def _copied(kernel: Kernel) -> Iterator[int]:
    """Operands that may be staged: not what is streamed, or read where it lies, or written."""
    nest = kernel.nest
    kept = {e.attr for c in nest.contractions for e in loads(c.w)} | {nest.target}
    if nest.attention is not None:
        cached, newest = split_newest(nest.attention)
        kept |= {e.attr for part in (cached.k, cached.v) for e in loads(part)} | _awaited(newest)
    return (i for i, o in enumerate(kernel.operands) if o.name not in kept)


def _awaited(newest: Newest | None) -> set[str]:
    """What a task looks for by itself, when it has computed all else."""
    return set() if newest is None else {e.attr for part in (newest.key, newest.value) for e in loads(part)}


def _span(task: Task, operand: int, steps: list[tuple[int, ...] | None]) -> tuple[int, int] | None:
    """The elements of an operand that a task reads, if they lie close together: first and count. ``steps``: the strides
    of every buffer, None where they are not fixed.
    """
    number = task.operands[operand]
    strides = steps[number]
    if strides is None or task.operands.count(number) > 1:
        return None
    low, high, elements = 2**62, -1, 0
    for region in task.reads:
        if region.buffer != number:
            continue
        start, end, size = 0, 0, 1
        for s, step in zip(region.box, strides, strict=True):
            if s.via is not None or s.low >= s.high or step < 0:
                return None
            start, end, size = start + s.low * step, end + (s.high - 1) * step, size * (s.high - s.low)
        low, high, elements = min(low, start), max(high, end), elements + size
    count = high - low + 1
    return (low, count) if 0 < count <= 2 * elements and high < 2**31 else None


def _is_static(buffer: Buffer) -> bool:
    return all(e.is_const for e in (*buffer.shape, *buffer.strides))


# --- flags ------------------------------------------------------------------------------------------------------------


def _flagged(program: Program, tasks: list[list[Task]], staged: list[dict[int, list[tuple[int, int]]]]) -> set[int]:
    """Buffers whose values can have flags: fp32, each written once, by one op, and read in small pieces."""
    found = {
        n for n, b in enumerate(program.buffers)
        if b.role is Role.WORKSPACE and b.dtype is DType.F32 and _is_static(b) and math.prod(b.extents) > 0
    }  # fmt: skip
    found &= _written_once(program)
    for kernel, own, copied in zip(program.kernels, tasks, staged, strict=True):
        attention = kernel.nest.attention
        small = {kernel.operands[j].name for j in _copied(kernel)}
        small |= set() if attention is None else _awaited(split_newest(attention)[1])
        for i, o in enumerate(kernel.operands):
            if o.name == kernel.nest.target or i in copied:
                continue
            streamed = o.name not in small
            for t in own:
                if t.operands[i] in found and (streamed or _elements(t, t.operands[i]) > DIRECT_MOST):
                    found.discard(t.operands[i])
    while True:  # tasks that run the same kernel read alike
        uneven = set()
        for own in tasks:
            for buffers in zip(*(t.operands for t in own), strict=True):
                if not found.issuperset(buffers):
                    uneven |= found.intersection(buffers)
        if not uneven:
            return found
        found -= uneven


def _written_once(program: Program) -> set[int]:
    """Buffers of which every launch writes every element once, by one op that does not read them."""
    writers: dict[int, set[int]] = {}
    points: dict[int, int] = {}
    plain, targets = [_is_plain(k.nest) for k in program.kernels], [_target(k) for k in program.kernels]
    for t in program.tasks:
        target = t.operands[targets[t.kernel]]
        writers.setdefault(target, set()).add(t.op if plain[t.kernel] else -1 - t.op)
        points[target] = points.get(target, 0) + math.prod(high - low for low, high in t.tile)
    return {
        b for b, ops in writers.items()
        if len(ops) == 1 and min(ops) >= 0 and points[b] == math.prod(program.buffers[b].extents)
    }  # fmt: skip


def _target(kernel: Kernel) -> int:
    return next(i for i, o in enumerate(kernel.operands) if o.name == kernel.nest.target)


def _is_plain(nest: Nest) -> bool:
    """Whether every step stores an element of its own, as the variables count, and reads none of them."""
    variables = [e for e in nest.index if e.op is Op.VAR]
    return (
        len(set(variables)) == len(nest.vars) and all(e.is_const or e.op is Op.VAR for e in nest.index)
        and not nest.walked and all(v.args[0].is_const for v in nest.vars)
        and all(e.attr != nest.target for e in nest.loads())
    )  # fmt: skip


def _elements(task: Task, buffer: int) -> int:
    return sum(math.prod(s.high - s.low for s in r.box) for r in task.reads if r.buffer == buffer)


# --- events -----------------------------------------------------------------------------------------------------------


def _waiting(program: Program, flagged: set[int], fetched: list[set[int]]) -> tuple[set[int], set[tuple[int, int]]]:
    """Kernels of which some task touches memory without flags that an op before it has touched, one of them writing;
    and kernels' operands without flags that an op before some task writes. What is ``fetched`` for each kernel's tasks
    is waited for by who fetches it.
    """
    memory = _memory(program)
    written: set[int] = set()
    touched: set[int] = set()
    found: set[int] = set()
    unsettled: set[tuple[int, int]] = set()
    for _, group in itertools.groupby(program.tasks, key=lambda t: t.op):
        tasks = list(group)
        own = {t.operands[i] for t in tasks for i in fetched[t.kernel]}
        reads, writes = (
            {memory[r.buffer] for t in tasks for r in getattr(t, kind) if r.buffer not in flagged}
            for kind in ("reads", "writes")
        )
        if (reads - {memory[b] for b in own}) & written or writes & touched:
            found |= {t.kernel for t in tasks}
        unsettled |= {
            (t.kernel, i) for t in tasks for i, b in enumerate(t.operands) if b not in flagged and memory[b] in written
        }  # fmt: skip
        written |= writes
        touched |= reads | writes
    return found, unsettled


def _memory(program: Program) -> list[int]:
    """A number for each buffer; those of the workspace that share memory, also by way of others, have the same."""
    numbers, end, last = list(range(len(program.buffers))), -1, -1
    own = [n for n, b in enumerate(program.buffers) if b.role is Role.WORKSPACE]
    for n in sorted(own, key=lambda n: program.buffers[n].offset):
        b = program.buffers[n]
        if b.offset >= end:
            last = n
        numbers[n], end = last, max(end, b.offset + b.nbytes)
    return numbers
