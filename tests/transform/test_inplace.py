"""Updates of arguments: in place where an order of the nodes allows it, copied back where none does."""

from __future__ import annotations

import pytest
import torch

from onelaunch.program.program import Role
from onelaunch.transform import optimise
from onelaunch.transform.inplace import inplace
from tests.lowering.test_pointwise import real
from tests.transform.graphs import MACHINE
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine


def ordered(function, *args):
    """Names of nodes in order, and storages."""
    graph = graph_of(function, *args)
    optimise(graph, MACHINE, verified=True)
    found = inplace(graph)
    return [n.out.name for n in found.nodes], found.storage


def copies(function, *args) -> list[str]:
    return [n for n in ordered(function, *args)[0] if n.endswith(("_back", "_base"))]


def write_slot(cache, slot, x):
    cache.index_copy_(1, slot, x)
    return cache.sum(1)


def use_then_write(cache, slot, x):
    before = cache.mean(1)
    cache.index_copy_(1, slot, x)
    return before, cache.amax(1)


def count(counter, x):
    old = counter * 1
    counter.add_(1)
    return x + counter, x * old


def decay(state, x):
    state.mul_(0.5).add_(x)
    return state.sin()


def write_twice(cache, slot, x):
    cache.index_copy_(1, slot, x)
    first = cache.sum(1)
    cache[:, 0] = first
    return cache * 2, first


def write_and_scale(cache, slot, x):
    cache.index_copy_(1, slot, x)
    cache[:, 0] = cache[:, 0] * 2
    return cache.sum(1)


def write_and_move(cache, slot, x):
    cache.index_copy_(1, slot, x)
    cache[:, 0] = cache[:, 3] * 2
    cache[:, 1:3] = cache[:, :2] + 1
    return cache.sum(1)


def scale_slots(cache, slots):
    cache[:, slots] *= 2
    return cache.sum(1)


def needs_both(state, x):
    new = state.roll(1) + x
    state.copy_(new)
    return new


def roll_window(cache, x):
    cache.copy_(torch.cat([cache[:, 1:], x], 1))
    return cache.sum(1)


def swap(a, b):
    old = a.clone()
    a.copy_(b)
    b.copy_(old)
    return a - b


def same_for_two(a, b, x):
    new = a + x
    a.copy_(new)
    b.copy_(new)
    return new


def transpose_into(a):
    a.copy_(a.t().clone())
    return a * 1


CACHE, SLOT, ROW = real(2, 7, 5), torch.tensor([3]), real(2, 1, 5)
CASES = {  # with the copies that are needed
    "a slot of the cache": (write_slot, (CACHE, SLOT, ROW), 0),
    "an old value before the new": (use_then_write, (CACHE, SLOT, ROW), 0),
    "a counter": (count, (torch.tensor([4.0]), real(5)), 0),
    "a state": (decay, (real(9), real(9)), 0),
    "two stores": (write_twice, (CACHE, SLOT, ROW), 0),
    "two stores, the second one of what was there": (write_and_scale, (CACHE, SLOT, ROW), 0),
    "two stores, the second one of what was elsewhere": (write_and_move, (CACHE, SLOT, ROW), None),
    "stores that may meet, of what was there": (scale_slots, (CACHE, torch.tensor([3, 3])), None),
    "a value that others read shifted": (needs_both, (real(9), real(9)), 0),
    "a window that moves": (roll_window, (CACHE, ROW), 1),
    "two that change places": (swap, (real(9), real(9).flip(0)), None),
    "one value for two": (same_for_two, (real(9), real(9).flip(0), real(9)), None),
    "a transpose of itself": (transpose_into, (real(5, 5),), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_updates(case: str) -> None:
    function, args, needed = CASES[case]
    if needed is not None:
        assert len(copies(function, *args)) == needed
    program = compiled(function, *args)
    assert_runs(program, function, *args)


def test_a_cache_lives_in_its_argument_alone() -> None:
    program = compiled(write_slot, CACHE, SLOT, ROW)
    large = [b for b in program.buffers if b.nbytes >= CACHE.nbytes]
    assert [b.role for b in large] == [Role.STATE]


def test_readers_of_the_old_come_first() -> None:
    names, storage = ordered(use_then_write, CACHE, SLOT, ROW)
    assert names.index("mean") < names.index("index_put") < names.index("amax")
    assert storage == {"index_put": "arg0_1"}


def test_outputs_have_memory_of_their_own() -> None:
    def f(cache, slot, x):
        cache.index_copy_(1, slot, x)
        return cache, x, cache

    program = compiled(f, CACHE, SLOT, ROW)
    assert [b.role for b in program.buffers].count(Role.OUTPUT) == 3
    assert_runs(program, f, CACHE, SLOT, ROW)


def test_a_version_in_between_that_is_an_output() -> None:
    def f(cache, slot, x):
        first = cache.index_copy(1, slot, x)
        cache.copy_(first.index_copy(1, slot - 1, x * 2))
        return first, cache * 1

    assert_runs(compiled(f, CACHE, SLOT, ROW), f, CACHE, SLOT, ROW)


def test_stores_into_values_that_are_no_arguments() -> None:
    def f(x, slot, row):
        y = (x + 1).index_copy(1, slot, row)
        z = torch.zeros(2, 7, 5).index_copy(1, slot, row)
        return y, z.sum(1), y.index_copy(1, slot + 1, row)

    assert_runs(compiled(f, CACHE, SLOT, ROW), f, CACHE, SLOT, ROW)


def test_an_argument_that_a_later_store_needs_as_it_was() -> None:
    def f(cache, slot, x):
        old = cache.clone()
        cache.index_copy_(1, slot, x)
        return old.index_copy(1, slot - 1, x), cache * old

    assert_runs(compiled(f, CACHE, SLOT, ROW), f, CACHE, SLOT, ROW)


def write_slots(cache, slots, x):
    cache.index_copy_(1, slots, x)
    return cache.sum(1)


@pytest.mark.parametrize("slots", [[1, 2], [4, 4]])
def test_stores_that_may_meet_are_made_in_place_by_one_task_a_row(slots: list[int]) -> None:
    args = CACHE, torch.tensor(slots), real(2, 2, 5)
    assert copies(write_slots, *args) == []
    program = compiled(write_slots, *args, on=machine(task=1.0, dependency=0.0))
    assert_runs(program, write_slots, *args)
    stores = [t for t in program.tasks if program.kernels[t.kernel].nest.walked]
    assert len(stores) > 1 and all(t.tile[1] == (0, 2) for t in stores)  # each takes all slots, in order


def test_stores_that_nobody_waits_for_come_behind_the_next_two_products() -> None:
    """The first product reads what both overwrite; the second store overwrites what the first one reads."""

    def step(cache, length, x, a, b, c, d):
        old = cache.sum(0) + length
        cache.index_copy_(0, length, x)
        length.add_(1)
        return torch.tanh(torch.tanh(torch.tanh((old + x) @ a.T) @ b.T) @ c.T) @ d.T

    args = real(4, 16), torch.tensor([2]), real(1, 16), *(real(16, 16) for _ in range(4))
    names, storage = ordered(step, *args)
    assert storage == {"index_put": "arg0_1", "add_1": "arg1_1"}
    assert names == ["tanh", "tanh_1", "tanh_2", "index_put", "add_1", "mm_3"]
    assert_runs(compiled(step, *args), step, *args)
