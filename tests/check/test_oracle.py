"""The check against brute force: every order of small random programs and of random damage to them."""

import random

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from onelaunch.check import check
from onelaunch.check.clock import Clocks
from onelaunch.check.progress import Progress
from onelaunch.errors import CheckError
from tests import programs
from tests.check import mutate
from tests.check import oracle
from tests.check.random_programs import random_program

ORDERINGS = ("dropped wait", "lowered threshold", "swapped tasks", "moved task", "silent task", "stray signal")


def damaged(seed, kinds):
    """A random program, linked or without implied waits, with some mutations that keep its form."""
    rng = random.Random(seed)
    program = random_program(seed, ops=3, workers=3)
    if rng.random() < 0.5:
        program = oracle.minimal(program)
    for kind in kinds:
        mutants = list(mutate.HARMFUL[kind](program, rng))
        if mutants:
            program = rng.choice(mutants)
    return program


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(ORDERINGS), max_size=2))
def test_before_is_what_every_order_shows(seed, kinds):
    program = damaged(seed, kinds)
    if len(program.tasks) > 11:
        return
    run = Progress(program)
    assert run.finished == (oracle.run_without(program, -1) == set(range(len(program.tasks))))
    if not run.finished:
        return
    clocks = Clocks(program, run.order)
    everything = range(len(program.tasks))
    assert oracle.explored(program) == {(a, b) for a in everything for b in everything if clocks.before(a, b)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(ORDERINGS), min_size=1, max_size=2))
def test_a_verdict_agrees_with_all_orders(seed, kinds):
    """Refused exactly if some order shows harm: stuck, a race of bytes, or another result than op by op."""
    program = damaged(seed, kinds)
    healthy = oracle.Witness(random_program(seed, ops=3, workers=3), {})
    try:
        check(program)
        no = ""
    except CheckError as error:
        no = str(error)
    harm = healthy.harm(program, thorough=True)
    if not harm and oracle.run_without(program, -1) == set(range(len(program.tasks))):
        harm = str(oracle.races(program) or "")
    if harm:
        assert no, harm
    elif no:
        assert "order:" in no or "coverage:" in no, no  # an order of ops that happens not to change the numbers


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_correct_programs_are_accepted_and_run_alike_in_every_order(seed):
    program = random_program(seed)
    check(program)
    check(oracle.minimal(program))
    assert not oracle.races(program)
    assert not oracle.Witness(program, {}).harm(program, thorough=True)


def test_two_waits_that_only_together_need_a_task():
    """Each of x and y is released by s or by the other: neither starts before s, which clocks alone do not see."""
    p = programs.Builder("knot", 3)
    x, out = p.buffer("x", (8,), programs.Role.INPUT), p.buffer("out", (8,), programs.Role.OUTPUT)
    mid = p.buffer("mid", (8,), programs.Role.WORKSPACE)
    copy = programs.rows("y", (8,), lambda i: programs.b.load("x", (i,), programs.F32))
    p.op("s")
    p.task(copy, {"x": x, "y": mid}, ((0, 8),), 0)
    p.op("use")
    p.task(copy, {"x": mid, "y": out}, ((0, 4),), 1)
    p.task(copy, {"x": mid, "y": out}, ((4, 8),), 2)
    program = p.program([t for t, _ in p.tasks], [], [[0], [1], [2]])
    program = programs.dataclasses.replace(program, events=(programs.Event(2), programs.Event(2)))
    program = mutate.with_task(program, 0, signals=(0, 1))
    program = mutate.with_task(program, 1, waits=((0, 1),), signals=(1,))
    program = mutate.with_task(program, 2, waits=((1, 1),), signals=(0,))
    assert (0, 1) in oracle.explored(program)
    check(program)
