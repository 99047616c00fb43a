"""Interval analysis against brute force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onelaunch.check.ranges import Ranges
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
