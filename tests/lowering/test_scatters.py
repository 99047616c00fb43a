"""Stores at places that data choose, several at once and also the same ones: in place, and the last one wins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.lowering.compiled import assert_same
from tests.lowering.compiled import compiled
from tests.lowering.test_pointwise import real

BOTH = pytest.mark.parametrize("target", ["reference", "cpu"])
Step = Callable[..., torch.Tensor]


def prompt(cache, places, new):
    cache[:, :, places] = new
    return cache.sum(2)


def copied(cache, places, new):
    cache.index_copy_(2, places, new)
    return cache * 2


def scattered(cache, places, new):
    cache.scatter_(2, places[None, None, :, None].expand_as(new), new)
    return cache - 1


def slots(cache, places, new):
    """A paged cache: blocks of 9 rows; a slot is a row of a block."""
    cache.transpose(1, 2).reshape(-1, 3, 4)  # views that are not stored to
    flat = cache.view(-1, 4)
    flat[places * 5 % 54] = new[0, 0]
    return flat[:7] * 2


def per_row(cache, places, new):
    """Every row of the batch has positions of its own."""
    own = torch.stack([places, places.flip(0)])
    cache[torch.arange(2)[:, None], :, own] = new.transpose(1, 2)
    return cache.mean(2)


def grid(cache, places, new):
    cache[:, places[:, None] % 3, places[None]] = new[:, 0, :, None, :].expand(-1, -1, places.shape[0], -1)
    return cache * 1


STEPS = [prompt, copied, scattered, slots, per_row, grid]
APART, MEETING = torch.tensor([1, 5, 2, 8]), torch.tensor([7, 3, 3, 7, 0, 3])


@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_several_places(step: Step) -> None:
    for places in (APART, MEETING):
        assert_same(step, real(2, 3, 9, 4), places, real(2, 3, len(places), 4), calls=2)


def test_several_places_in_generated_code() -> None:
    def steps(places, new, *caches):
        return [step(cache, places, new) for step, cache in zip(STEPS, caches, strict=True)]

    assert_same(steps, MEETING, real(2, 3, 6, 4), *(real(2, 3, 9, 4) for _ in STEPS), target="cpu", calls=2)


@BOTH
def test_the_last_of_many_wins(target: str) -> None:
    """Long enough that a loop in any other order, or in vectors, would show."""

    def store(out: torch.Tensor, places: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        out[places] = new
        return out + 0

    generator = torch.Generator().manual_seed(0)
    places, new = torch.randint(-13, 13, (4099,), generator=generator), torch.arange(4099.0)
    out = torch.zeros(13)
    found = compiled(store, target)(out, places, new)
    wanted = torch.zeros(13)
    for p, n in zip(places.tolist(), new.tolist(), strict=True):
        wanted[p] = n
    assert torch.equal(found, wanted) and torch.equal(out, wanted)


@BOTH
def test_what_is_added_to_places_that_meet_is_added_to_what_was_there(target: str) -> None:
    def add(out: torch.Tensor, places: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        out[places] += new  # reads all, then stores all: the last one wins
        return out * 2

    assert_same(add, real(9), MEETING, real(6), target=target, calls=2)


@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="this torch gives equal sizes different symbols, and the check refuses the store"
)
def test_sizes_that_change() -> None:
    step = compiled(copied, dynamic=True)
    for places in (APART, MEETING):
        ours, theirs, new = real(2, 3, 9, 4), real(2, 3, 9, 4), real(2, 3, len(places), 4)
        assert torch.equal(step(ours, places, new), copied(theirs, places, new)) and torch.equal(ours, theirs)
