"""Sizes and integers that vary from call to call: ``dynamic=True``, nothing left to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from onelaunch.errors import CheckError
from onelaunch.frontend.backend import backend
from onelaunch.runtime.make import Maker
from tests.lowering.compiled import compare
from tests.lowering.compiled import compiled
from tests.lowering.compiled import copies
from tests.lowering.test_pointwise import real


@torch.no_grad()
def assert_same(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    """One compiled function, called with each of these arguments, gives what torch gives."""
    step = compiled(function, dynamic=True)
    for args in calls:
        ours, theirs = copies(args), copies(args)
        compare((step(*ours), ours), (function(*theirs), theirs))


def test_a_slice_that_torch_guards_on() -> None:
    def join(h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([h, x[:, :3]], 1) * 2

    assert_same(join, [(real(4, 2), real(4, n)) for n in (5, 9, 3, 17)])


@pytest.mark.parametrize("first", [5, -9])
def test_a_slice_that_starts_at_a_number(first: int) -> None:
    def write(x: torch.Tensor, position: int) -> torch.Tensor:
        cache = torch.zeros(2, 9)
        cache[:, position : position + 1] = x[:, None]
        return cache

    assert_same(write, [(real(2), p) for p in (first, -3, 0, 8, -9, -2, 4)])


def test_heads_are_those_of_the_weights() -> None:
    """Other numbers of heads, and other lengths of one, are another program."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True) + q.shape[1]

    sizes = [(2, 2, 5, 16), (3, 2, 9, 16), (1, 2, 7, 16), (2, 3, 5, 16), (2, 3, 8, 32)]
    assert_same(attend, [(real(b, 2 * h, 1, d), real(b, h, n, d), real(b, h, n, d)) for b, h, n, d in sizes])


def test_numbers_of_either_sign() -> None:
    def compare_with(x: torch.Tensor, p: int) -> torch.Tensor:
        steps = torch.arange(8)
        return torch.where(steps + p >= 0, x * p, -x) + (steps < p + 2**33)

    assert_same(compare_with, [(real(8), p) for p in (5, -3, 2, -(2**34), 2**34)])


def test_sizes_without_a_program_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call has a program; that of another bucket is refused, when a call asks for it."""
    begin, asked = Maker.begin, []

    def once(self: Maker, *args: Any) -> Any:
        asked.append(args[0])
        if len(asked) > 1:
            raise CheckError("refused\nfor once")
        return begin(self, *args)

    def step(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * 2

    monkeypatch.setattr(Maker, "begin", once)
    torch._dynamo.reset()
    ours = torch.compile(step, backend=backend, dynamic=True, options={"target": "reference", "cache": False})
    with torch.no_grad():
        for size in (3, 9, 3):
            x, y = real(size), real(size)
            assert torch.equal(ours(x), step(y)) and torch.equal(x, y)
    assert len(asked) == 2
