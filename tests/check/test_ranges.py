"""Interval analysis against brute force."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from onelaunch.check.ranges import Ranges
from onelaunch.check.ranges import never_above
from onelaunch.check.ranges import upper
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import var


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 14), st.booleans(), st.integers(-20, 20))
def test_conditions_on_remainders(size, d, bound, holds, shift):
    """``i % d < bound`` narrows ``i`` itself, exactly at both ends."""
    i = var("i", size)
    place = Ranges({}).with_variable(i).where(build.lt(build.mod(i, const(d)), const(bound)), holds)
    values = [x + shift for x in range(size) if (x % d < bound) is holds]
    if not values:
        assert place.empty or place.of(i)[0] > place.of(i)[1]
    elif size > 1:
        assert place.of(build.add(i, const(shift))) == (min(values), max(values))


def test_rotated_halves_of_flattened_heads():
    """The partner of an element, half a head further or back, stays inside the row."""
    i = var("i", 128)
    within = Ranges({}).with_variable(i)
    first = build.lt(build.mod(i, const(32)), const(16))
    assert within.where(first, True).of(build.add(i, const(16))) == (16, 127)
    assert within.where(first, False).of(build.add(i, const(-16))) == (0, 111)


def test_remainders_by_a_symbol_stay_below_it():
    """A cache that rolls over a length that torch keeps symbolic: no index leaves it, at any length."""
    size = build.sym("s", 2, 8)
    place = Ranges({}).with_variable(i := var("i", size))
    rolled = upper(build.mod(build.add(i, const(5)), size), place)
    assert never_above(build.add(rolled, const(1)), size, place)
    assert not never_above(build.add(rolled, const(2)), size, place)
    maybe_none = build.sym("s", 0, 8)
    assert upper(build.mod(const(5), maybe_none), Ranges({})) == math.inf
