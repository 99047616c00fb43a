"""Recorded launches: what every target writes is the same plain data."""

from __future__ import annotations

import time

import pytest
import torch

from onelaunch.errors import UserError
from onelaunch.program.timeline import critical_path
from onelaunch.runtime.recorder import Recorder
from onelaunch.runtime.recorder import Traced
from onelaunch.runtime.run import Runner
from onelaunch.targets.cuda.executable import CudaExecutable
from tests.program.programs import two_ops


def arguments() -> list[torch.Tensor]:
    return [torch.randn(3, 8), torch.randn(8, 8).bfloat16(), torch.tensor([41])]


def test_launches_on_the_cpu():
    runner = Runner(two_ops(), {"target": "cpu", "cache": False})
    runner(arguments())
    recorder = Recorder(runner.executable)
    assert recorder.take() is None, "the launch before was not recorded"
    ends = []
    for _ in range(3):
        before = time.monotonic_ns()
        given = arguments()
        (y,) = runner(given)
        after = time.monotonic_ns()
        torch.testing.assert_close(y, (given[0] + 1) @ given[1].float().T)
        timeline = recorder.take()
        assert before <= timeline.begin < timeline.end <= after
        assert [s.task for q in timeline.queues() for s in q] == [0, 2, 4, 1, 3]
        signalled = min(timeline.slices[n].began for n in (2, 3))
        assert signalled >= max(timeline.slices[n].began for n in (0, 1)), "both wait for both"
        path = critical_path(timeline)
        assert sum(s.gap + s.run for s in path) == timeline.nanoseconds
        ends.append(timeline.end)
    assert ends == sorted(set(ends)), "each launch has times of its own"
    assert recorder.take() is None


def test_a_target_that_records_nothing():
    runner = Runner(two_ops(), {"target": "reference", "cache": False})
    with pytest.raises(UserError, match="two ops runs on a target that records no times; accepted"):
        Recorder(runner.executable)


def test_what_the_gpu_writes():
    """Its third time is the end; its signals are told while the next task runs. No GPU is needed to read it."""
    stamps = torch.tensor([[1, 2, 3, 4], [1, 5, 6, 7], [4, 8, 9, 10], [7, 8, 9, 11], [10, 11, 12, 13]])
    waited = []

    class Without(CudaExecutable):
        def __init__(self) -> None:
            self.program = two_ops()

        def trace(self) -> torch.Tensor:
            return stamps

        def synchronize(self) -> None:
            waited.append(True)

    executable = Without()
    assert isinstance(executable, Traced)
    kept = stamps.clone()
    assert Recorder(executable).take() is None
    stamps.copy_(kept)  # a launch
    recorder = Recorder(executable, fresh=False)
    timeline = recorder.take()
    assert [(s.arrived, s.began, s.ended) for s in timeline.slices] == [(a, b, c) for a, b, c, _ in kept.tolist()]
    assert len(waited) == 3 and recorder.take() is None
