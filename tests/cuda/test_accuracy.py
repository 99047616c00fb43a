"""bf16 decode steps on the GPU against fp32, teacher-forced over 64 steps, at most 1.2 times eager's error in any row.

Rows are padded on the left to one length, with masks as transformers makes them. What must be noticed: one cache slot
of one row, and one row of one weight.
"""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.configurations import configuration
from benchmarks.gpu_model import random_model
from tests.cuda import forced

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]
ROWS = (1, 3, 8, 32)


def small(kind: str):
    """Two layers of a real model's widths, with few tokens, and weights large enough for attention to matter."""
    config = configuration(kind, layers=2)
    config.vocab_size = 1009
    model = random_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "embed" not in name:
                parameter.mul_(4)
    return model


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", ["135m", "0.6b"])
def test_error_of_few_layers(kind, rows):
    case = forced.Case.of(small(kind), rows)
    got, eager, exact = case.compiled("cuda"), case.eager(), case.exact()
    assert forced.worst_ratio(got, eager, exact) <= forced.LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", ["135m", "1b", "0.6b", "1.7b"])
def test_error_of_whole_models(kind, rows):
    case = forced.Case.of(random_model(configuration(kind)), rows, longest=100)
    got, eager, exact = case.compiled("cuda"), case.eager(), case.exact()
    assert forced.worst_ratio(got, eager, exact) <= forced.LIMIT


@pytest.mark.parametrize("rows", [1, 8])
def test_damage_is_noticed(rows):
    case = forced.Case.of(small("135m"), rows)
    eager, exact = case.eager(), case.exact()
    slot = case.compiled("cuda", forced.damage_one_slot)
    assert forced.worst_ratio(slot, eager, exact) > forced.LIMIT
    wrong = forced.Case(copy.deepcopy(case.model), case.prompts, case.fed)
    forced.damage_one_weight(wrong.model)
    assert forced.worst_ratio(wrong.compiled("cuda"), eager, exact) > forced.LIMIT
