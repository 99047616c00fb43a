"""Hypothesis strategies: programs that are well-formed as text (their schedules need not make sense)."""

from __future__ import annotations

from hypothesis import strategies as st

from onelaunch.graph.build import const
from onelaunch.graph.build import mul
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Axiom
from onelaunch.program.program import Buffer
from onelaunch.program.program import Event
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Scope
from onelaunch.program.program import Span
from onelaunch.program.program import Symbol
from onelaunch.program.program import Task
from tests.graph.strategies import LOADED
from tests.graph.strategies import SYMBOLS
from tests.graph.strategies import dtypes
from tests.graph.strategies import nests

small = st.integers(0, 300)
extents = st.one_of(st.integers(0, 2**40).map(const), st.sampled_from([SYMBOLS["s"], mul(SYMBOLS["s"], const(64))]))


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    nest: Nest = draw(nests())
    types = {"y": nest.dtype, **LOADED}
    return Kernel(tuple(Operand(name, dtype, (const(3),), (const(1),)) for name, dtype in types.items()), nest)


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    rank = draw(st.integers(0, 3))
    return Buffer(
        draw(st.text(max_size=6)), draw(dtypes), tuple(draw(extents) for _ in range(rank)),
        tuple(draw(extents) for _ in range(rank)), draw(st.sampled_from(list(Role))), draw(st.integers(-1, 9)),
        draw(small),
    )  # fmt: skip


@st.composite
def programs(draw: st.DrawFn) -> Program:
    table = draw(st.lists(buffers(), min_size=1, max_size=4))
    some_kernels = draw(st.lists(kernels(), min_size=1, max_size=2))
    events = draw(st.lists(st.builds(Event, small, st.sampled_from(list(Scope)), small), max_size=3))
    numbers = st.integers(0, len(table) - 1)

    def region() -> Region:
        number = draw(numbers)
        via = st.one_of(st.none(), st.tuples(numbers, small, small))
        return Region(
            number, tuple(draw(st.builds(Span, st.integers(-5, 99), small, via)) for _ in table[number].shape)
        )

    def task() -> Task:
        signalled = draw(st.lists(st.sampled_from(range(len(events))), max_size=3)) if events else []
        return Task(
            0, draw(st.integers(0, len(some_kernels) - 1)), tuple(draw(st.lists(numbers, max_size=4))),
            tuple(draw(st.lists(st.tuples(small, small), max_size=3))), tuple((e, draw(small)) for e in signalled),
            tuple(signalled), tuple(region() for _ in range(draw(st.integers(0, 2)))), (region(),),
        )  # fmt: skip

    tasks = [task() for _ in range(draw(st.integers(0, 3)))]
    queue = st.lists(st.sampled_from(range(len(tasks))), max_size=4).map(tuple) if tasks else st.just(())
    return Program(
        draw(st.text(max_size=8)), "cpu", (Symbol("s", 1, 8), Symbol("pos", -(2**62), 2**62)), tuple(table),
        tuple(some_kernels), tuple(events), tuple(draw(st.lists(st.text(max_size=5), min_size=1, max_size=3))),
        tuple(tasks), tuple(draw(st.lists(queue, max_size=3))), draw(small),
        tuple(draw(st.lists(st.builds(Axiom, st.just("distinct"), numbers), max_size=1))),
    )  # fmt: skip
