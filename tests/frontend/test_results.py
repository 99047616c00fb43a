"""Outputs made from a launch's results, and plans that remember how."""

import json

import pytest
import torch

from onelaunch.errors import ProgramFormatError
from onelaunch.frontend import plan
from onelaunch.frontend.calling import finishing
from onelaunch.frontend.results import Result
from onelaunch.frontend.results import is_identity

RESULTS = (
    Result("view", 0, (2,), (3,), 1),
    Result("argument", 1),
    Result("constant", value=None),
    Result("constant", value=2.5),
    Result("sum", offset=3, terms=((1, 2),)),
    Result("result", 0),
)


def test_finish():
    made = (torch.arange(6.0).view(2, 3),)
    view, argument, none, number, total, result = finishing(lambda *_: made, RESULTS)("x", 7)
    assert view.tolist() == [1.0, 4.0] and view.untyped_storage().data_ptr() == made[0].untyped_storage().data_ptr()
    assert (argument, none, number, total) == (7, None, 2.5, 17) and result is made[0]


def test_identity():
    assert is_identity([Result("result", 0), Result("result", 1)])
    assert not is_identity([Result("result", 1), Result("result", 0)]) and not is_identity(RESULTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_plan_round_trip(dtype):
    tensor = torch.tensor([[0.1, -2.5, 1e30], [0.0, 3.0, 1.0]]).nan_to_num().clamp(0 if dtype is torch.uint8 else -9, 9)
    made = plan.Plan(3, {"text": "..."}, RESULTS, (tensor.to(dtype),), (0, 2), "t0 < 5")
    again = plan.from_json(json.loads(json.dumps(made.to_json())))
    assert again.results == RESULTS and again.segment == made.segment and again.guards == "t0 < 5"
    assert again.tensors[0].dtype is dtype and torch.equal(again.tensors[0], made.tensors[0])


def test_odd_floats_survive():
    tensor = torch.tensor([float("inf"), -float("inf"), -0.0, 1e-45])
    again = plan.from_json(json.loads(json.dumps(plan.Plan(1, {}, (), (tensor,), (), None).to_json()))).tensors[0]
    assert torch.equal(again.view(torch.int32), tensor.view(torch.int32))


@pytest.mark.parametrize(
    "change",
    [{"version": 0}, {"results": [{"kind": "magic"}]}, {"inputs": None}, {"tensors": [{"dtype": "nothing"}]}],
)
def test_damaged_plans_are_refused(change):
    stored = plan.Plan(1, {}, RESULTS, (), (), None).to_json() | change
    with pytest.raises(ProgramFormatError):
        plan.from_json(stored)


@pytest.mark.parametrize("stored", [[], None, "text", {}])
def test_what_is_no_plan_is_refused(stored):
    with pytest.raises(ProgramFormatError, match="version"):
        plan.from_json(stored)
