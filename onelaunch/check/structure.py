"""The form of a program: everything that can be judged without asking what runs before what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.check.findings import Findings
from onelaunch.check.ranges import Ranges
from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.program.program import Buffer
from onelaunch.program.program import Kernel
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Scope
from onelaunch.program.program import Task

KIND = "structure"
EVERYWHERE = Ranges({})
HERE = 0  # the device that all workers of a program run on


def check_structure(program: Program, findings: Findings) -> None:
    """Report what is wrong with the program's form."""
    for message in _messages(program):
        findings.add(KIND, message)


def _messages(p: Program) -> Iterator[str]:
    symbols = {s.name: (s.minimum, s.maximum) for s in p.symbols}
    if len(symbols) != len(p.symbols):
        yield "two symbols share a name"
    for s in p.symbols:
        if s.minimum > s.maximum:
            yield f"symbol {s.name} has no value: {s.minimum} to {s.maximum}"
    broken = False
    for b in p.buffers:
        for message in _buffer(p, b, symbols):
            broken = True
            yield message
    yield from _arguments(p)
    if broken:
        return
    extents = [b.extents for b in p.buffers]
    for i, k in enumerate(p.kernels):
        yield from _kernel(i, k, symbols)
    yield from _queues(p)
    for i, task in enumerate(p.tasks):
        yield from _task(p, i, task)
        yield from _regions(p, i, task.reads, extents, False)
        yield from _regions(p, i, task.writes, extents, True)
    yield from _events(p)
    for a in p.axioms:
        if a.kind != "distinct":
            yield f"axiom of unknown kind {a.kind!r}"
        elif not 0 <= a.buffer < len(p.buffers):
            yield f"axiom names buffer {a.buffer}, which does not exist"
        elif p.buffers[a.buffer].role not in (Role.WEIGHT, Role.INPUT):
            yield f"axiom names {p.buffers[a.buffer].name}, which may change during a launch"


def _symbols(e: Expr, symbols: dict[str, tuple[int, int]]) -> Iterator[str]:
    for node in walk(e):
        if node.op is Op.SYM and symbols.get(node.attr[0]) != (node.attr[1], node.attr[2]):
            yield f"symbol {node.attr[0]} is used as {node.attr[1]} to {node.attr[2]}, the program does not say so"


def _buffer(p: Program, b: Buffer, symbols: dict[str, tuple[int, int]]) -> Iterator[str]:
    if len(b.shape) != len(b.strides):
        yield f"buffer {b.name} has {len(b.shape)} extents and {len(b.strides)} strides"
        return
    for e in (*b.shape, *b.strides):
        yield from (f"buffer {b.name}: {m}" for m in _symbols(e, symbols))
    if any(EVERYWHERE.of(e)[0] < 0 for e in (*b.shape, *b.strides)):
        yield f"buffer {b.name} may have a negative extent or stride"
        return
    if any(EVERYWHERE.of(e)[1] == float("inf") for e in (*b.shape, *b.strides)):
        yield f"buffer {b.name} has an extent or stride without a maximum"
        return
    if b.role is Role.WORKSPACE:
        if b.offset < 0 or b.offset + b.nbytes > p.workspace:
            yield (f"buffer {b.name} lies at bytes {b.offset} to {b.offset + b.nbytes} of a workspace of {p.workspace}")
        if b.offset % b.dtype.itemsize:
            yield f"buffer {b.name} lies at byte {b.offset}, which {b.dtype} cannot be aligned to"
    if b.role not in (Role.WEIGHT, Role.INPUT) and not _apart(b, EVERYWHERE):
        yield f"buffer {b.name} is writable and its strides let elements meet"


def _arguments(p: Program) -> Iterator[str]:
    """The axiom that arguments do not overlap says nothing about one argument under two names."""
    seen: dict[tuple[bool, int], Buffer] = {}
    for b in p.buffers:
        if b.role is Role.WORKSPACE:
            continue
        output = b.role is Role.OUTPUT
        what = f"{'result' if output else 'argument'} {b.argument}"
        if b.argument < 0:
            yield f"buffer {b.name} is {what}, which does not exist"
        other = seen.setdefault((output, b.argument), b)
        if other is not b and (output or Role.STATE in (b.role, other.role)):
            yield f"buffers {other.name} and {b.name} are both {what}, and one is written"


def _apart(b: Buffer, r: Ranges) -> bool:
    """Whether no two elements share memory: each stride passes over all that smaller ones reach."""
    order = sorted(
        (d for d, n in enumerate(b.extents) if n > 1), key=lambda d: r.of(b.strides[d])[1]
    )  # fmt: skip
    reach: Expr = build.const(0)
    for d in order:
        if r.of(build.sub(b.strides[d], reach))[0] <= 0:
            return False
        reach = build.add(reach, build.mul(build.add(b.shape[d], build.const(-1)), b.strides[d]))
    return True


def _kernel(i: int, k: Kernel, symbols: dict[str, tuple[int, int]]) -> Iterator[str]:
    operands = {o.name: o for o in k.operands}
    if len(operands) != len(k.operands):
        yield f"kernel {i} has two operands of one name"
    target = operands.get(k.nest.target)
    if target is None:
        yield f"kernel {i} stores to {k.nest.target}, which is not an operand"
        return
    if target.dtype is not k.nest.dtype or len(target.shape) != len(k.nest.index):
        yield f"kernel {i} stores {k.nest.dtype} with {len(k.nest.index)} indices to {target.dtype} {target.name}"
    bound = set(k.nest.vars) | {c.var for c in k.nest.contractions}
    if k.nest.attention is not None:
        bound |= {k.nest.attention.key, k.nest.attention.head}
    if len(set(k.nest.vars)) != len(k.nest.vars):
        yield f"kernel {i} binds a variable twice"
    sums = 1 if k.nest.attention is not None else len(k.nest.contractions)
    for e in k.nest.exprs():
        yield from (f"kernel {i}: {m}" for m in _symbols(e, symbols))
        if not e.free <= bound:
            yield f"kernel {i} uses variables that nothing binds in {e}"
        for node in walk(e):
            if node.op is Op.LOAD:
                o = operands.get(node.attr)
                if o is None:
                    yield f"kernel {i} loads {node.attr}, which is not an operand"
                elif o.dtype is not node.dtype or len(o.shape) != len(node.args):
                    yield f"kernel {i} loads {node.dtype} with {len(node.args)} indices from {o.dtype} {o.name}"
            elif node.op is Op.ACC and not 0 <= node.attr < sums:
                yield f"kernel {i} uses sum {node.attr} of {sums}"
    for c in k.nest.contractions:
        if k.nest.vars and k.nest.vars[-1] in c.x.free:
            yield f"kernel {i} has a prologue that depends on the output column"


def _queues(p: Program) -> Iterator[str]:
    times = Counter(t for q in p.queues for t in q)
    for t, n in times.items():
        if not 0 <= t < len(p.tasks):
            yield f"a queue holds task {t}, which does not exist"
        elif n > 1:
            yield f"task {t} is queued {n} times"
    for t in range(len(p.tasks)):
        if t not in times:
            yield f"task {t} is in no queue"


def _task(p: Program, i: int, t: Task) -> Iterator[str]:
    if not 0 <= t.op < len(p.ops):
        yield f"task {i} belongs to op {t.op}, which does not exist"
    if not 0 <= t.kernel < len(p.kernels) or not all(0 <= b < len(p.buffers) for b in t.operands):
        yield f"task {i} names a kernel or buffer that does not exist"
        return
    k = p.kernels[t.kernel]
    if len(t.operands) != len(k.operands):
        yield f"task {i} gives {len(t.operands)} operands to a kernel of {len(k.operands)}"
        return
    for o, number in zip(k.operands, t.operands, strict=True):
        b = p.buffers[number]
        if (b.dtype, b.shape, b.strides) != (o.dtype, o.shape, o.strides):
            yield f"task {i} gives {b.name} as operand {o.name}, which has another type or layout"
    if len(t.tile) != len(k.nest.vars):
        yield f"task {i} has a tile of {len(t.tile)} ranges for {len(k.nest.vars)} variables"
    else:
        for (low, high), v in zip(t.tile, k.nest.vars, strict=True):
            if not 0 <= low <= high <= EVERYWHERE.of(v.args[0])[1]:
                yield f"task {i} has the tile {low} to {high} of variable {v.attr}, whose extent is {v.args[0]}"
    for e, value in t.waits:
        if not 0 <= e < len(p.events):
            yield f"task {i} waits for event {e}, which does not exist"
        elif not 0 <= value <= p.events[e].total:
            yield f"task {i} waits for {value} signals of event {e}, which gets {p.events[e].total}"
    for e in t.signals:
        if not 0 <= e < len(p.events):
            yield f"task {i} signals event {e}, which does not exist"
    if len(set(t.signals)) != len(t.signals):
        yield f"task {i} signals an event twice"


def _regions(
    p: Program, i: int, regions: Sequence[Region], extents: Sequence[tuple[int, ...]], write: bool
) -> Iterator[str]:
    for r in regions:
        if not 0 <= r.buffer < len(p.buffers):
            yield f"task {i} declares buffer {r.buffer}, which does not exist"
            continue
        b = p.buffers[r.buffer]
        if write and b.role in (Role.WEIGHT, Role.INPUT):
            yield f"task {i} writes {b.name}, which is a {b.role}"
        if len(r.box) != len(b.shape):
            yield f"task {i} declares a region of {b.name} in {len(r.box)} dimensions"
        for s, n in zip(r.box, extents[r.buffer], strict=False):
            if not 0 <= s.low <= s.high <= n:
                yield f"task {i} declares {s.low} to {s.high} of {b.name}, whose size is {n} there"
            if s.via is None:
                continue
            picks, first, last = s.via
            if not 0 <= picks < len(p.buffers) or not any(a.buffer == picks for a in p.axioms):
                yield f"task {i} declares indices picked by buffer {picks}, and no axiom says they are distinct"
            elif not 0 <= first <= last:
                yield f"task {i} declares indices picked by elements {first} to {last}"


def _events(p: Program) -> Iterator[str]:
    signals = Counter(e for t in p.tasks for e in t.signals)
    for i, e in enumerate(p.events):
        if e.total != signals[i]:
            yield f"event {i} has total {e.total} and gets {signals[i]} signals"
        if e.total >= 1 << 31:
            yield f"event {i} has total {e.total}, too many to compare modulo 2^32"
        if e.home != HERE and e.scope is not Scope.SYSTEM:
            yield f"event {i} is at home on device {e.home} and has scope {e.scope}, which device {HERE} cannot reach"
