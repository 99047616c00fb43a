"""A saved program, loaded and run by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from onelaunch.errors import CallError
from onelaunch.errors import CheckError
from onelaunch.frontend.options import Options
from onelaunch.program.file import load
from onelaunch.program.file import save
from onelaunch.runtime.run import Runner
from onelaunch.runtime.run import run
from tests.program.programs import two_ops

REFERENCE = Options(target="reference", cache=False)


def test_a_loaded_program_runs(tmp_path: Path):
    save(two_ops(), tmp_path / "p")
    x, w, counter = torch.randn(3, 8), torch.randn(8, 8).bfloat16(), torch.tensor([41])
    (y,) = run(load(tmp_path / "p"), [x, w, counter], options=REFERENCE)
    torch.testing.assert_close(y, (x + 1) @ w.float().T)
    assert counter.item() == 42


def test_it_refuses_by_name_what_does_not_fit():
    runner = Runner(two_ops(), REFERENCE)
    x, w, counter = torch.randn(3, 8), torch.randn(8, 8).bfloat16(), torch.tensor([41])
    with pytest.raises(CallError, match="got 2 arguments; accepted: 3"):
        runner([x, w])
    with pytest.raises(CallError, match="symbol tokens is 5; accepted: 1 to 4"):
        runner([torch.randn(5, 8), w, counter])
    with pytest.raises(CallError, match=r"argument 0 \(x\) has shape \(3, 8\); accepted: \(2, 8\)"):
        runner([x, w, counter], {"tokens": 2})
    assert counter.item() == 41


def test_a_program_without_a_certificate_never_launches():
    program = two_ops()
    racing = dataclasses.replace(program.tasks[2], waits=())
    tasks = (*program.tasks[:2], racing, *program.tasks[3:])
    with pytest.raises(CheckError):
        Runner(dataclasses.replace(program, tasks=tasks), REFERENCE)
