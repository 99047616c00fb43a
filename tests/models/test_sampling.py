"""Choosing tokens: greedy, the nucleus, seeds, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from onelaunch.errors import OptionError
from onelaunch.models.sampling import Sampler

LOGITS = torch.tensor([[[0.0, 3.0, 1.0, 2.0]], [[5.0, 0.0, 0.0, 4.0]]])


def test_greedy_takes_the_largest():
    assert Sampler()(LOGITS).tolist() == [[1], [0]]
    assert Sampler()(LOGITS.bfloat16()).tolist() == [[1], [0]]


def test_a_seed_repeats_and_another_differs():
    wide = torch.randn(4, 1, 1000, generator=torch.Generator().manual_seed(0))
    draws = [[Sampler(1.0, seed=seed)(wide).tolist() for _ in range(2)] for seed in (1, 2)]
    assert draws[0][0] == draws[0][1]
    assert draws[0][0] != draws[1][0]


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(20_000, 1, 4)
    seen = torch.bincount(Sampler(1.0, top_p=0.7, seed=0)(logits).flatten(), minlength=4) / 20_000
    assert seen[2:].tolist() == [0, 0]
    assert abs(seen[0].item() - 0.5 / 0.8) < 0.02


def test_frequencies_follow_the_temperature():
    logits = torch.tensor([1.0, 0.0]).expand(20_000, 1, 2)
    seen = Sampler(0.5, seed=0)(logits).float().mean().item()
    assert abs(seen - 1 / (1 + math.exp(2))) < 0.02


def test_a_tiny_top_p_is_greedy():
    assert Sampler(1.0, top_p=1e-6)(LOGITS).tolist() == [[1], [0]]


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.5},
        {"seed": -3},
    ],
)
def test_refused(bad):
    ((_, value),) = bad.items()
    with pytest.raises(OptionError, match=str(value)):
        Sampler(**bad)
