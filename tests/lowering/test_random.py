"""Random graphs of pointwise operations, reductions, products, views and in-place updates against eager torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings

from tests.lowering.compiled import assert_same
from tests.lowering.compiled import compare
from tests.lowering.compiled import compiled
from tests.lowering.random_functions import BINARY
from tests.lowering.random_functions import IN_PLACE
from tests.lowering.random_functions import UNARY
from tests.lowering.random_functions import Step
from tests.lowering.random_functions import function_of
from tests.lowering.random_functions import functions
from tests.lowering.test_pointwise import real

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


def arguments(shapes) -> list[torch.Tensor]:
    return [real(*shape) + 0.1 * n for n, shape in enumerate(shapes)]


@settings(max_examples=40, **QUIET)
@given(functions)
def test_on_the_reference(made) -> None:
    program, shapes, outputs = made
    assert_same(function_of(program, outputs), *arguments(shapes), limit=10)


@settings(max_examples=12, **QUIET)
@given(functions)
def test_on_the_cpu(made) -> None:
    program, shapes, outputs = made
    assert_same(function_of(program, outputs), *arguments(shapes), target="cpu", limit=10)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_every_operation_after_every_kind(target: str) -> None:
    """All operations in one function: each follows a product, a norm and a view, and meets an updated argument."""
    program = [Step("in place", n, 0, 0) for n in IN_PLACE]
    for name in (*UNARY, *BINARY):
        program += [Step("binary", "linear", 0, 0), Step("unary", "norm", 0, 0), Step("unary", "every other", 0, 0)]
        program.append(Step("unary" if name in UNARY else "binary", name, 0, 1))
    for begin in range(0, len(program), 40):
        assert_same(function_of(program[begin : begin + 40], {0, 1, 5}), real(7, 13), target=target, limit=20)


@settings(max_examples=10, **QUIET)
@given(functions)
def test_sizes_that_change(made) -> None:
    program, shapes, outputs = made
    program = [s for s in program if s.name not in ("flat", "t", "matmul", "linear", "attend", "repeat", "halves")]
    function = function_of(program, outputs)
    step = compiled(function, dynamic=None)
    for rows in (3, 5, 2, 9):
        ours = [real(rows, shapes[0][1]) for _ in range(2)]
        theirs = [a.clone() for a in ours]
        for a in ours:
            torch._dynamo.mark_dynamic(a, 0)
        with torch.no_grad():
            compare((step(*ours), ours), (function(*theirs), theirs), 10)
