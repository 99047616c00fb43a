"""The check, rule by rule: each broken program is refused for the reason that names what is broken."""

import dataclasses
import time

import pytest

from onelaunch.check import check
from onelaunch.errors import CheckError
from onelaunch.graph import build as b
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Axiom
from onelaunch.program.program import Event
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Scope
from onelaunch.program.program import Span
from onelaunch.program.program import Symbol
from tests import programs
from tests.check import mutate
from tests.check.synthetic import TINY
from tests.check.synthetic import decoder
from tests.programs import F32
from tests.programs import I64


@pytest.mark.parametrize("name", programs.SMALL)
def test_hand_written_programs_are_accepted(name):
    certificate = check(programs.SMALL[name][0]())
    assert certificate.tasks and certificate.accesses and len(certificate.axioms) >= 2
    assert certificate.program in str(certificate)


def test_a_program_of_8b_size_takes_less_than_5_seconds():
    """CPU seconds of this process: the machine may be busy with other tests."""
    program = decoder()
    assert len(program.tasks) >= 20_000 and len(program.queues) == 132
    start = time.process_time()
    certificate = check(program)
    assert time.process_time() - start < 5
    assert certificate.apart > 1000
    broken = mutate.with_task(program, 12_345, waits=())
    with pytest.raises(CheckError, match=r"race: tasks \d+ and 12345"):
        check(broken)


def test_the_same_program_in_small_is_accepted_and_runs():
    import torch

    program = decoder(TINY)
    check(program)
    given = {"ids": torch.tensor([1, 2]), "slots": torch.tensor([3, 4]), "length": torch.tensor([3])}
    runs = [programs.run(program, given, debug=True, mode=mode) for mode in ("first", "last", "newest")]
    assert all(torch.equal(runs[0]["logits"], r["logits"]) for r in runs)


def rename(program, **changes):
    return dataclasses.replace(program, **changes)


BASE = programs.mlp()
CASES = {
    "task 0 is queued 2 times": rename(BASE, queues=((0, 0), *BASE.queues[1:])),
    "task 0 is in no queue": mutate.with_queue(BASE, 0, list(BASE.queues[0][1:])),
    "holds task 99": mutate.with_queue(BASE, 0, [*BASE.queues[0], 99]),
    "task 0 belongs to op 9": mutate.with_task(BASE, 0, op=9),
    "names a kernel or buffer": mutate.with_task(BASE, 0, kernel=7),
    "gives 1 operands to a kernel of 5": mutate.with_task(BASE, 0, operands=(0,)),
    "which has another type or layout": mutate.with_task(BASE, 0, operands=(1, 1, 2, 3, 5)),
    "tile of 1 ranges": mutate.with_task(BASE, 0, tile=((0, 2),)),
    "has the tile 0 to 3 of variable i0": mutate.with_task(BASE, 0, tile=((0, 3), (0, 4))),
    "waits for event 9": mutate.with_task(BASE, 3, waits=((9, 1),)),
    "waits for 2 signals of event 0, which gets 1": mutate.with_task(BASE, 3, waits=((0, 2),)),
    "signals event 9": mutate.with_task(BASE, 0, signals=(9,)),
    "has total 2 and gets 1": rename(BASE, events=(Event(2), *BASE.events[1:])),
    "cannot reach": rename(BASE, events=(Event(1, Scope.DEVICE, 1), *BASE.events[1:])),
    "of a workspace of 8": rename(BASE, workspace=8),
    "cannot be aligned": mutate.with_buffer(rename(BASE, workspace=999), 5, offset=2),
    "which is a weight": mutate.with_task(BASE, 0, writes=(*BASE.tasks[0].writes, Region(1, (Span(0, 8),)))),
    "whose size is 8 there": mutate.with_task(BASE, 0, reads=(Region(1, (Span(0, 9),)),)),
    "in 1 dimensions": mutate.with_task(BASE, 0, reads=(Region(0, (Span(0, 1),)),)),
    "is argument -1, which does not exist": mutate.with_buffer(BASE, 1, argument=-1),
    "and one is written": mutate.with_buffer(
        mutate.with_buffer(BASE, 1, role=Role.STATE), 2, argument=BASE.buffers[1].argument
    ),
    "declares buffer 77": mutate.with_task(BASE, 0, reads=(Region(77, ()),)),
    "no axiom says they are distinct": mutate.with_task(BASE, 0, reads=(Region(1, (Span(0, 8, (0, 0, 1)),)),)),
    "axiom of unknown kind": rename(BASE, axioms=(Axiom("sorted", 0),)),
    "which may change during a launch": rename(BASE, axioms=(Axiom("distinct", 5),)),
    "op 2 (more) has no task": rename(BASE, ops=(*BASE.ops, "more")),
    "leave elements out": mutate.with_task(BASE, 0, tile=((0, 2), (0, 3))),
    "compute elements twice": mutate.with_task(BASE, 1, tile=((0, 2), (3, 8))),
    "more than it declares": mutate.with_task(BASE, 0, reads=BASE.tasks[0].reads[1:]),
    "waits forever": mutate.add_wait(BASE, 0, 4),
    "touch mid in either order": mutate.with_task(BASE, 3, waits=()),
    "output out is never written": mutate.with_task(
        mutate.with_task(BASE, 3, writes=()), 4, writes=()
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", CASES)
def test_refused(message):
    with pytest.raises(CheckError) as caught:
        check(CASES[message])
    assert message in str(caught.value)


def test_findings_are_bounded_and_counted():
    program = decoder(TINY)
    tasks = tuple(dataclasses.replace(t, reads=()) for t in program.tasks)
    with pytest.raises(CheckError) as caught:
        check(dataclasses.replace(program, tasks=tasks))
    assert str(caught.value).count("\n") < 60
    assert "footprint: " in str(caught.value) and " more" in str(caught.value)


# --- nests ---------------------------------------------------------------------------------------------------------


def one(nest, bound, shapes, symbols=(), axioms=(), tile=None, via=None):
    """A program of one task."""
    p = programs.Builder("one", 1, symbols)
    numbers = {}
    for name, (shape, role, *rest) in shapes.items():
        numbers[name] = p.buffer(name, shape, role, *rest)
    p.axioms += [Axiom("distinct", numbers[n]) for n in axioms]
    p.op("one")
    full = tuple((0, programs.maximum(v.args[0])) for v in nest.vars)
    p.task(nest, {o: numbers[n] for o, n in bound.items()}, tile or full, 0, via=via)
    return p.link()


def refused(program):
    with pytest.raises(CheckError) as caught:
        check(program)
    return str(caught.value)


def test_an_index_that_leaves_its_buffer():
    shapes = {"x": ((8,), Role.INPUT), "out": ((8,), Role.OUTPUT)}
    for shift, ok in ((0, True), (1, False), (-1, False)):
        nest = programs.rows("y", (8,), lambda i, s=shift: b.load("x", (b.add(i, b.const(s)),), F32))
        program = one(nest, {"x": "x", "y": "out"}, shapes)
        assert ok or "index" in refused(program)
        if ok:
            check(program)


def test_conditions_narrow_what_is_read():
    """x[i + 3] where i < 5; the triangle x[i - j] where j <= i; x[ids[i]] where 0 <= ids[i] < 8."""
    i, j = programs.grid(8, 8)
    at = b.load("ids", (i,), I64)
    inside = b.logical_and(b.le(b.const(0), at), b.lt(at, b.const(8)))
    zero = b.const(0.0, F32)
    bodies = [
        b.where(b.lt(i, b.const(5)), b.load("x", (b.add(i, b.const(3)),), F32), zero),
        b.where(b.le(j, i), b.load("x", (b.sub(i, j),), F32), zero),
        b.where(inside, b.load("x", (at,), F32), zero),
        b.where(b.pointwise(Op.NOT, b.lt(i, b.const(4))), b.load("x", (b.sub(i, b.const(4)),), F32), zero),
    ]
    shapes = {"x": ((8,), Role.INPUT), "ids": ((8,), Role.INPUT, I64), "out": ((8, 8), Role.OUTPUT)}
    for body in bodies:
        check(one(Nest((i, j), "y", F32, (i, j), body), {"x": "x", "ids": "ids", "y": "out"}, shapes))
    wrong = b.where(b.lt(i, b.const(6)), b.load("x", (b.add(i, b.const(3)),), F32), zero)
    program = one(Nest((i, j), "y", F32, (i, j), wrong), {"x": "x", "ids": "ids", "y": "out"}, shapes)
    assert "may reach 8" in refused(program)


def test_bounds_hold_at_every_size_not_only_the_largest():
    t = b.sym("T", 1, 8)
    symbols = (Symbol("T", 1, 8),)
    shapes = {"x": ((t,), Role.INPUT), "out": ((t,), Role.OUTPUT)}
    fine = programs.rows("y", (t,), lambda i: b.load("x", (b.sub(b.sub(t, b.const(1)), i),), F32))
    check(one(fine, {"x": "x", "y": "out"}, shapes, symbols))
    last = programs.rows("y", (t,), lambda i: b.load("x", (b.const(7),), F32))
    assert "may reach 7, its size is $T" in refused(one(last, {"x": "x", "y": "out"}, shapes, symbols))


def test_an_output_is_covered_at_every_size():
    s, t = b.sym("S", 1, 8), b.sym("T", 1, 8)
    symbols = (Symbol("S", 1, 8), Symbol("T", 1, 8))
    shapes = {"x": ((8,), Role.INPUT), "out": ((t,), Role.OUTPUT)}
    nest = programs.rows("y", (t,), lambda i: b.load("x", (i,), F32))
    check(one(nest, {"x": "x", "y": "out"}, shapes, symbols))
    short = programs.rows("y", (s,), lambda i: b.load("x", (i,), F32))
    found = refused(one(short, {"x": "x", "y": "out"}, shapes, symbols))
    assert "not every element of output out" in found and "may reach" in found


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        (lambda i, j: (b.add(b.mul(i, b.const(4)), j),), ""),
        (lambda i, j: (b.add(b.mul(j, b.const(2)), i),), ""),
        (lambda i, j: (b.add(i, j),), "stored at one place"),
        (lambda i, j: (j,), "stored at one place"),
        (lambda i, j: (b.mul(j, b.const(2)),), "stored at one place"),
        (lambda i, j: (b.mod(b.add(b.add(b.mul(i, b.const(4)), j), b.const(3)), 8),), ""),
        (lambda i, j: (b.mod(b.add(b.mul(i, b.const(4)), j), 5),), "stored at one place"),
        (lambda i, j: (b.add(b.mul(i, b.const(4)), b.sub(b.const(3), j)),), ""),
        (lambda i, j: (b.sub(b.add(b.mul(i, b.const(4)), j), b.const(1)),), "not every element"),
    ],
)
def test_where_a_nest_stores(index, fault):
    i, j = programs.grid(2, 4)
    nest = Nest((i, j), "y", F32, index(i, j), b.load("x", (i, j), F32))
    program = one(nest, {"x": "x", "y": "out"}, {"x": ((2, 4), Role.INPUT), "out": ((8,), Role.OUTPUT)})
    if fault:
        assert fault in refused(program)
    else:
        check(program)


def scatter(axioms, index, via=None):
    i, j = programs.grid(4, 2)
    nest = Nest((i, j), "y", F32, (index(i, b.load("s", (i,), I64)), j), b.load("x", (i, j), F32))
    shapes = {"x": ((4, 2), Role.INPUT), "s": ((4,), Role.INPUT, I64), "cache": ((9, 2), Role.STATE)}
    return one(nest, {"x": "x", "s": "s", "y": "cache"}, shapes, axioms=axioms, via=via)


def test_one_task_may_store_twice_where_data_say():
    check(scatter([], lambda i, s: s))
    check(scatter(["s"], lambda i, s: b.where(b.lt(i, b.const(2)), s, b.const(-1))))
    check(scatter(["s"], lambda i, s: b.floordiv(s, 2)))
    program = scatter(["s"], lambda i, s: s, via={"y": ((1, 0, 3), None)})
    assert "more than it declares" in refused(program)


@pytest.mark.parametrize("axioms", [(), ("slots",)])
@pytest.mark.parametrize("workers", [1, 2])
def test_slots_of_two_tasks_must_be_distinct_by_axiom(axioms, workers):
    """Also on one worker: that one task happens to come last is not what the op says."""
    p = programs.Builder("two", workers)
    slots = p.buffer("slots", (4,), Role.INPUT, I64)
    x, cache = p.buffer("x", (4,), Role.INPUT), p.buffer("cache", (9,), Role.STATE)
    p.axioms += [Axiom("distinct", slots) for _ in axioms]
    p.op("write")
    (i,) = programs.grid(4)
    nest = Nest((i,), "y", F32, (b.load("s", (i,), I64),), b.load("x", (i,), F32))
    for n in range(2):
        via = {"y": ((slots, 2 * n, 2 * n + 2),)} if axioms else None
        p.task(nest, {"x": x, "s": slots, "y": cache}, ((2 * n, 2 * n + 2),), n % workers, via=via)
    if axioms:
        check(p.link())
    else:
        assert "another task of op 0 has written" in refused(p.link())


def test_what_is_stored_twice_is_not_read():
    i = b.var("i", 4)
    at = b.load("s", (i,), I64)
    nest = Nest((i,), "y", F32, (at,), b.add(b.load("y", (at,), F32), b.load("x", (i,), F32)))
    shapes = {"x": ((4,), Role.INPUT), "s": ((4,), Role.INPUT, I64), "cache": ((9,), Role.STATE)}
    bound = {"x": "x", "s": "s", "y": "cache"}
    check(one(nest, bound, shapes, axioms=["s"]))
    assert "which it reads" in refused(one(nest, bound, shapes))


def test_data_that_only_shift_an_index_need_no_axiom():
    i, j = programs.grid(4, 2)
    start = b.load("s", (b.const(0),), I64)
    nest = Nest((i, j), "y", F32, (b.add(start, i), j), b.load("x", (i, j), F32))
    shapes = {"x": ((4, 2), Role.INPUT), "s": ((4,), Role.INPUT, I64), "cache": ((9, 2), Role.STATE)}
    check(one(nest, {"x": "x", "s": "s", "y": "cache"}, shapes))


def test_in_place_only_at_the_same_index():
    shapes = {"state": ((8,), Role.STATE), "out": ((8,), Role.OUTPUT)}
    double = programs.rows("y", (8,), lambda i: b.mul(b.load("x", (i,), F32), b.const(2.0, F32)))
    turn = programs.rows("y", (8,), lambda i: b.load("x", (b.sub(b.const(7), i),), F32))
    for nest, ok in ((double, True), (turn, False)):
        p = programs.Builder("place", 1)
        state = p.buffer("state", shapes["state"][0], Role.STATE)
        p.op("place")
        p.task(nest, {"x": state, "y": state}, ((0, 8),), 0)
        if ok:
            check(p.link())
        else:
            assert "which it reads" in refused(p.link())
    own = programs.rows("y", (8,), lambda i: b.mul(b.load("y", (i,), F32), b.const(2.0, F32)))
    check(one(own, {"y": "state"}, {"state": shapes["state"]}))


def test_stale_memory_between_interleaved_buffers():
    """a is written, then c over its half, then a is read: ordered, and wrong."""
    p = programs.Builder("stale", 1)
    x, out = p.buffer("x", (8,), Role.INPUT), p.buffer("out", (8,), Role.OUTPUT)
    a, c = p.buffer("a", (8,), Role.WORKSPACE), p.buffer("c", (4,), Role.WORKSPACE, offset=16)
    copy = programs.rows("y", (8,), lambda i: b.load("x", (i,), F32))
    half = programs.rows("y", (4,), lambda i: b.load("x", (i,), F32))
    for source, target, nest in ((x, a, copy), (x, c, half), (a, out, copy)):
        p.op("copy")
        n = programs.maximum(nest.vars[0].args[0])
        p.task(nest, {"x": source, "y": target}, ((0, n),), 0)
    assert "another buffer has overwritten" in refused(p.link())
