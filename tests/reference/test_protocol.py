"""The device protocols, in every order of steps: nothing is lost, nothing waits forever; and each fault is noticed."""

import itertools

import pytest

from onelaunch.targets.reference.protocol.explore import ProtocolError
from onelaunch.targets.reference.protocol.launches import Launches
from onelaunch.targets.reference.protocol.ring import Ring

SIZES = [(1,) * 7, (3, 1, 2, 3, 1, 1, 2), (9, 1, 9, 1, 9)]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("limit", [1, 4, 100])
def test_ring(stages, sizes, limit):
    assert Ring(stages, sizes, limit).explore() > len(sizes)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no-empty-wait", "overwrites stage"),
        ("early-release", "overwrites stage"),
        ("no-limit", "bytes in flight"),
        ("strict-limit", "deadlock"),
        ("stale-parity", "overwrites stage|deadlock"),
        ("no-full-wait", "finds item"),
    ],
)
def test_a_broken_ring_is_noticed(fault, message):
    with pytest.raises(ProtocolError, match=message):
        Ring(2, (3, 1, 2, 3, 1, 1, 2), 2, fault).explore()


# Two producers, one that waits for both, one that waits for its half; and a chain back.
FORK = (
    (((), (0,)), (((1, 1),), (2,))),
    (((), (0,)), (((0, 1),), (2,))),
    ((((0, 2),), (1,)), (((2, 2),), ())),
)


@pytest.mark.parametrize(("bits", "epoch"), list(itertools.product([3, 4], range(9))))
def test_counters_wrap_in_every_order(bits, epoch):
    assert Launches(FORK, launches=4, bits=bits, epoch=epoch).explore() > 20


def test_plain_comparison_does_not_survive_the_wrap():
    with pytest.raises(ProtocolError, match=r"too early|deadlock"):
        Launches(FORK, launches=5, bits=3, fault="absolute").explore()


def test_totals_of_half_the_range_are_too_many():
    """A wait may be a whole launch's signals ahead of the count: with 2 bits, 3 signals behind looks like reached."""
    three = tuple((((), (0,)),) for _ in range(3))
    with pytest.raises(ProtocolError, match="too early"):
        Launches((*three, ((((0, 3),), ()),)), launches=2, bits=2).explore()


@pytest.mark.parametrize("failures", [1, 2])
def test_an_abort_leaves_nobody_behind_and_the_next_launch_starts_clean(failures):
    assert Launches(FORK, launches=3, bits=4, epoch=5, failures=failures).explore() > 100


@pytest.mark.parametrize(
    ("fault", "message"), [("deaf", "deadlock"), ("no-reset", "too early|deadlock|all its signals")]
)
def test_a_broken_abort_is_noticed(fault, message):
    with pytest.raises(ProtocolError, match=message):
        Launches(FORK, launches=3, bits=4, failures=1, fault=fault).explore()
