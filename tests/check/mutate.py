"""Mutants of programs, by class. A harmful class breaks what the program relies on; some of its mutants are equivalent
(a wait that others imply), which the oracle sorts out. A benign class keeps the meaning."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from collections.abc import Iterator

from onelaunch.program.program import Event
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Scope
from onelaunch.program.program import Span
from onelaunch.program.program import Task

Mutator = Callable[[Program, random.Random], Iterator[Program]]


def with_task(p: Program, number: int, **changes: object) -> Program:
    """The program with one task changed."""
    tasks = list(p.tasks)
    tasks[number] = dataclasses.replace(tasks[number], **changes)
    return dataclasses.replace(p, tasks=tuple(tasks))


def with_buffer(p: Program, number: int, **changes: object) -> Program:
    """The program with one buffer changed."""
    buffers = list(p.buffers)
    buffers[number] = dataclasses.replace(buffers[number], **changes)
    return dataclasses.replace(p, buffers=tuple(buffers))


def with_queue(p: Program, worker: int, queue: list[int]) -> Program:
    """The program with one queue changed."""
    return dataclasses.replace(p, queues=(*p.queues[:worker], tuple(queue), *p.queues[worker + 1 :]))


def without(items: tuple, i: int) -> tuple:
    return (*items[:i], *items[i + 1 :])


# --- harmful -------------------------------------------------------------------------------------------------------


def dropped_wait(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for i in range(len(t.waits)):
            yield with_task(p, n, waits=without(t.waits, i))


def lowered_threshold(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for i, (e, v) in enumerate(t.waits):
            for less in {max(v - 1, 0), 0} - {v}:  # a wait for nothing cannot be lowered
                yield with_task(p, n, waits=(*t.waits[:i], (e, less), *t.waits[i + 1 :]))


def raised_threshold(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for i, (e, v) in enumerate(t.waits):
            yield with_task(p, n, waits=(*t.waits[:i], (e, v + 1), *t.waits[i + 1 :]))


def swapped_tasks(p: Program, rng: random.Random) -> Iterator[Program]:
    for w, q in enumerate(p.queues):
        for i in range(len(q)):
            for j in range(i):
                new = list(q)
                new[i], new[j] = new[j], new[i]
                yield with_queue(p, w, new)


def moved_task(p: Program, rng: random.Random) -> Iterator[Program]:
    for w, q in enumerate(p.queues):
        for i, t in enumerate(q):
            for other in range(len(p.queues)):
                if other != w:
                    target = list(p.queues[other])
                    target.insert(rng.randint(0, len(target)), t)
                    yield with_queue(with_queue(p, w, list(without(q, i))), other, target)


def overlapped_buffers(p: Program, rng: random.Random) -> Iterator[Program]:
    places = [n for n, b in enumerate(p.buffers) if b.role is Role.WORKSPACE]
    for a in places:
        for c in places:
            x, y = p.buffers[a], p.buffers[c]
            shift = rng.choice([0, 0, y.dtype.itemsize, y.nbytes // 2])
            offset = (y.offset + shift) // x.dtype.itemsize * x.dtype.itemsize
            if a != c and offset + x.nbytes <= p.workspace and offset != x.offset:
                yield with_buffer(p, a, offset=offset)


def _spans(p: Program) -> Iterator[tuple[int, str, int, int, Region, Span]]:
    for n, t in enumerate(p.tasks):
        for side in ("reads", "writes"):
            for i, r in enumerate(getattr(t, side)):
                for d, s in enumerate(r.box):
                    yield n, side, i, d, r, s


def _with_span(p: Program, n: int, side: str, i: int, d: int, r: Region, s: Span) -> Program:
    regions = getattr(p.tasks[n], side)
    changed = dataclasses.replace(r, box=(*r.box[:d], s, *r.box[d + 1 :]))
    return with_task(p, n, **{side: (*regions[:i], changed, *regions[i + 1 :])})


def shrunk_region(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, side, i, d, r, s in _spans(p):
        low, high = rng.choice([(s.low + 1, s.high), (s.low, s.high - 1), (s.low, s.low)])
        yield _with_span(p, n, side, i, d, r, dataclasses.replace(s, low=low, high=high))


def shifted_region(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, side, i, d, r, s in _spans(p):
        step = rng.choice([-1, 1])
        if s.low + step < 0:
            step = 1
        yield _with_span(p, n, side, i, d, r, dataclasses.replace(s, low=s.low + step, high=s.high + step))


def dropped_region(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for side in ("reads", "writes"):
            regions = getattr(t, side)
            for i in range(len(regions)):
                yield with_task(p, n, **{side: without(regions, i)})


def missing_task(p: Program, rng: random.Random) -> Iterator[Program]:
    """A task does nothing any more, and all counts agree with that: what it wrote is missing."""
    for n in range(len(p.tasks)):
        yield remove(p, n)


def remove(p: Program, n: int) -> Program:
    gone = set(p.tasks[n].signals)
    fewer = tuple(dataclasses.replace(e, total=e.total - (i in gone)) for i, e in enumerate(p.events))

    def waits(t: Task) -> tuple:
        return tuple((e, min(v, fewer[e].total)) for e, v in t.waits)

    tasks = tuple(dataclasses.replace(t, waits=waits(t)) for i, t in enumerate(p.tasks) if i != n)
    queues = tuple(tuple(t - (t > n) for t in q if t != n) for q in p.queues)
    return dataclasses.replace(p, tasks=tasks, events=fewer, queues=queues)


def unqueued_task(p: Program, rng: random.Random) -> Iterator[Program]:
    for w, q in enumerate(p.queues):
        for i in range(len(q)):
            yield with_queue(p, w, list(without(q, i)))


def doubled_task(p: Program, rng: random.Random) -> Iterator[Program]:
    for w, q in enumerate(p.queues):
        for i, t in enumerate(q):
            yield with_queue(p, w, [*q[: i + 1], t, *q[i + 1 :]])


def dropped_signal(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for i in range(len(t.signals)):
            yield with_task(p, n, signals=without(t.signals, i))


def silent_task(p: Program, rng: random.Random) -> Iterator[Program]:
    """A signal is dropped and all counts agree with that: waits end too early."""
    for n, t in enumerate(p.tasks):
        for i, e in enumerate(t.signals):
            less = p.events[e].total - 1
            events = (*p.events[:e], dataclasses.replace(p.events[e], total=less), *p.events[e + 1 :])
            q = dataclasses.replace(with_task(p, n, signals=without(t.signals, i)), events=events)
            tasks = tuple(
                dataclasses.replace(u, waits=tuple((f, min(v, less) if f == e else v) for f, v in u.waits))
                for u in q.tasks
            )
            yield dataclasses.replace(q, tasks=tasks)


def stray_signal(p: Program, rng: random.Random) -> Iterator[Program]:
    """A task signals an event that is not its own; the total agrees, the waits do not know."""
    for e, event in enumerate(p.events):
        others = [n for n, t in enumerate(p.tasks) if e not in t.signals]
        for n in rng.sample(others, min(2, len(others))):
            events = (*p.events[:e], dataclasses.replace(event, total=event.total + 1), *p.events[e + 1 :])
            yield dataclasses.replace(with_task(p, n, signals=(*p.tasks[n].signals, e)), events=events)


def wrong_total(p: Program, rng: random.Random) -> Iterator[Program]:
    for e, event in enumerate(p.events):
        for change in (-1, 1):
            changed = dataclasses.replace(event, total=event.total + change)
            yield dataclasses.replace(p, events=(*p.events[:e], changed, *p.events[e + 1 :]))


def wrong_scope(p: Program, rng: random.Random) -> Iterator[Program]:
    for e, event in enumerate(p.events):
        changed = dataclasses.replace(event, home=1, scope=Scope.DEVICE)
        yield dataclasses.replace(p, events=(*p.events[:e], changed, *p.events[e + 1 :]))


def cyclic_wait(p: Program, rng: random.Random) -> Iterator[Program]:
    """A task waits for one that comes after it in its own queue, or that waits for it."""
    for q in p.queues:
        for i in range(len(q)):
            for j in range(i):
                yield add_wait(p, q[j], q[i])
    for n, t in enumerate(p.tasks):
        for e, v in t.waits:
            if v == p.events[e].total:
                for m, u in enumerate(p.tasks):
                    if e in u.signals:
                        yield add_wait(p, m, n)


def add_wait(p: Program, waiter: int, signaller: int) -> Program:
    """The program in which ``waiter`` also waits for ``signaller``, through an event of their own."""
    e = len(p.events)
    p = dataclasses.replace(p, events=(*p.events, Event(1)))
    p = with_task(p, signaller, signals=(*p.tasks[signaller].signals, e))
    return with_task(p, waiter, waits=(*p.tasks[waiter].waits, (e, 1)))


def changed_tile(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for d, (low, high) in enumerate(t.tile):
            choices = [(low, high + 1), (low - 1, high), (low, high - 1), (low + 1, high), (low + 1, high + 1)]
            for tile in rng.sample(choices, 2):
                yield with_task(p, n, tile=(*t.tile[:d], tile, *t.tile[d + 1 :]))


def wrong_operand(p: Program, rng: random.Random) -> Iterator[Program]:
    for n, t in enumerate(p.tasks):
        for i, own in enumerate(t.operands):
            others = [b for b in range(len(p.buffers)) if b != own]
            alike = [
                b
                for b in others
                if (p.buffers[b].dtype, p.buffers[b].shape) == (p.buffers[own].dtype, p.buffers[own].shape)
            ]
            yield with_task(p, n, operands=(*t.operands[:i], rng.choice(alike or others), *t.operands[i + 1 :]))


def small_workspace(p: Program, rng: random.Random) -> Iterator[Program]:
    places = [b for b in p.buffers if b.role is Role.WORKSPACE]
    if places:
        end = max(b.offset + b.nbytes for b in places)
        for less in (1, 4, end // 2):
            yield dataclasses.replace(p, workspace=end - less)


def written_weight(p: Program, rng: random.Random) -> Iterator[Program]:
    for r in {r.buffer for t in p.tasks for r in t.writes}:
        if p.buffers[r].role is not Role.INPUT:
            yield with_buffer(p, r, role=Role.WEIGHT if p.buffers[r].role is Role.STATE else Role.INPUT)


HARMFUL: dict[str, Mutator] = {
    f.__name__.replace("_", " "): f
    for f in (
        dropped_wait, lowered_threshold, raised_threshold, swapped_tasks, moved_task, overlapped_buffers, shrunk_region,
        shifted_region, dropped_region, missing_task, unqueued_task, doubled_task, dropped_signal, silent_task,
        stray_signal, wrong_total, wrong_scope, cyclic_wait, changed_tile, wrong_operand, small_workspace,
        written_weight,
    )
}  # fmt: skip

# Rules of form whose breach the reference target need not show (it is one process, and an event may have no waiter).
RULES = frozenset({"wrong scope", "written weight", "doubled task", "unqueued task", "wrong total"})


# --- benign --------------------------------------------------------------------------------------------------------


def extra_wait(p: Program, rng: random.Random) -> Iterator[Program]:
    """Waits that an order which really happens satisfies: an earlier task of one schedule is awaited once more."""
    line = schedule(p)
    for _ in range(4):
        a, b = sorted(rng.sample(range(len(line)), 2))
        yield add_wait(p, line[b], line[a])


def schedule(p: Program) -> list[int]:
    """Tasks in one order that happens."""
    done: list[int] = []
    heads, counts = [0] * len(p.queues), [0] * len(p.events)
    while len(done) < len(p.tasks):
        for w, q in enumerate(p.queues):
            if heads[w] < len(q) and all(counts[e] >= v for e, v in p.tasks[q[heads[w]]].waits):
                done.append(q[heads[w]])
                for e in p.tasks[q[heads[w]]].signals:
                    counts[e] += 1
                heads[w] += 1
                break
    return done


def renamed(p: Program, rng: random.Random) -> Iterator[Program]:
    buffers = tuple(dataclasses.replace(b, name=f"n{i}.{b.name[::-1]}") for i, b in enumerate(p.buffers))
    yield dataclasses.replace(p, buffers=buffers)


def renumbered_tasks(p: Program, rng: random.Random) -> Iterator[Program]:
    new = list(range(len(p.tasks)))
    rng.shuffle(new)
    tasks = [p.tasks[0]] * len(p.tasks)
    for old, n in enumerate(new):
        tasks[n] = p.tasks[old]
    yield dataclasses.replace(p, tasks=tuple(tasks), queues=tuple(tuple(new[t] for t in q) for q in p.queues))


def renumbered_workers(p: Program, rng: random.Random) -> Iterator[Program]:
    queues = list(p.queues)
    rng.shuffle(queues)
    yield dataclasses.replace(p, queues=(*queues, ()))


def spread_buffers(p: Program, rng: random.Random) -> Iterator[Program]:
    """Every workspace buffer in a place of its own, in another order."""
    numbers = [n for n, b in enumerate(p.buffers) if b.role is Role.WORKSPACE]
    rng.shuffle(numbers)
    at = 0
    for n in numbers:
        p = with_buffer(p, n, offset=at)
        at = -(-(at + p.buffers[n].nbytes) // 64) * 64 + rng.choice([0, 64])
    yield dataclasses.replace(p, workspace=at + 128)


def swapped_buffers(p: Program, rng: random.Random) -> Iterator[Program]:
    """Two workspace buffers of one size change places, with all that shares their memory exactly."""
    places = {(b.offset, b.nbytes) for b in p.buffers if b.role is Role.WORKSPACE}
    for low, size in sorted(places):
        for low2, size2 in sorted(places):
            if size == size2 and low < low2:
                moved = {low: low2, low2: low}
                group = [n for n, b in enumerate(p.buffers) if b.role is Role.WORKSPACE and b.offset in moved]
                clear = all(p.buffers[n].nbytes == size for n in group) and not any(
                    b.role is Role.WORKSPACE and b.offset not in moved
                    and any(b.offset < o + size and o < b.offset + b.nbytes for o in moved) for b in p.buffers
                )  # fmt: skip
                if clear:
                    q = p
                    for n in group:
                        q = with_buffer(q, n, offset=moved[p.buffers[n].offset])
                    yield q


def extra_event(p: Program, rng: random.Random) -> Iterator[Program]:
    n = rng.randrange(len(p.tasks))
    e = len(p.events)
    q = dataclasses.replace(p, events=(*p.events, Event(1, rng.choice(list(Scope)))))
    yield with_task(q, n, signals=(*p.tasks[n].signals, e))


def wider_scope(p: Program, rng: random.Random) -> Iterator[Program]:
    yield dataclasses.replace(p, events=tuple(dataclasses.replace(e, scope=Scope.SYSTEM, home=1) for e in p.events))


def split_event(p: Program, rng: random.Random) -> Iterator[Program]:
    """One event more a signaller: full waits become waits for each of them."""
    for e, event in enumerate(p.events):
        who = [n for n, t in enumerate(p.tasks) if e in t.signals]
        if len(who) < 2 or any(f == e and v != event.total for t in p.tasks for f, v in t.waits):
            continue
        first = len(p.events)
        q = dataclasses.replace(p, events=(*p.events, *(Event(1) for _ in who)))
        for i, n in enumerate(who):
            q = with_task(q, n, signals=(*q.tasks[n].signals, first + i))
        for n, t in enumerate(p.tasks):
            if any(f == e for f, _ in t.waits):
                own = tuple(w for w in t.waits if w[0] != e)
                q = with_task(q, n, waits=own + tuple((first + i, 1) for i in range(len(who))))
        yield q


BENIGN: dict[str, Mutator] = {
    f.__name__.replace("_", " "): f
    for f in (
        extra_wait, renamed, renumbered_tasks, renumbered_workers, spread_buffers, swapped_buffers, extra_event,
        wider_scope, split_event,
    )
}  # fmt: skip
