"""Several GPUs in one process: each has the program in its own memory, and launches go where the arguments are."""

from __future__ import annotations

import copy

import pytest
import torch

from onelaunch.errors import CallError
from onelaunch.frontend.backend import backend
from onelaunch.program.program import Role
from onelaunch.runtime.run import Runner
from tests import programs as P
from tests.cuda import on_gpu

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu", "two")]
DEVICES = ("cuda:0", "cuda:1")


@pytest.fixture
def two():
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs 2 GPUs: {torch.cuda.device_count()} found")


class Decoder(torch.nn.Module):
    """Two products with a norm between them, and a state that is written in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = torch.nn.Linear(64, 96), torch.nn.Linear(96, 64)
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.add_(1)
        return x + self.down(torch.nn.functional.silu(self.up(torch.nn.functional.rms_norm(x, (64,)))))


@torch.no_grad()
def test_one_model_on_each():
    """Compiled once for each, called in turn, whatever the current device is."""
    torch._dynamo.reset()
    models = [copy.deepcopy(Decoder()).to(d) for d in DEVICES]
    calls = [torch.compile(m, backend=backend, options={"fallback": "error", "cache": False}) for m in models]
    for turn in range(6):
        x = torch.randn(2, 64)
        want = Decoder()(x)
        with torch.cuda.device(turn % 2):
            got = [call(x.to(d)) for call, d in zip(calls, DEVICES, strict=True)]
        assert [str(y.device) for y in got] == list(DEVICES)
        for y in got:
            torch.testing.assert_close(y.cpu(), want, rtol=1e-4, atol=1e-5)
    assert [int(m.steps) for m in models] == [6, 6]


def test_one_executable_on_both():
    """The same built program; each device has its own events, so that unequal numbers of launches do no harm."""
    program = P.mlp(workers=24, t=3, h=64, f=96, size=8)
    want = P.run(program, {})
    executable = on_gpu.build(program)
    memory = {d: [t.to(d) for t in P.tensors(program, None)] for d in (0, 1)}
    for device in (0, 1, 1, 0, 1):
        executable.device = device
        executable.launch([t.data_ptr() for t in memory[device]], [s.maximum for s in program.symbols])
    executable.synchronize()
    for tensors in memory.values():
        for b, t in zip(program.buffers, tensors, strict=True):
            if b.role is Role.OUTPUT:
                torch.testing.assert_close(t.cpu(), want[b.name], rtol=1e-4, atol=1e-4)


def arguments(runner: Runner, device: str) -> list[torch.Tensor]:
    given = zip(runner.program.buffers, P.tensors(runner.program, None), strict=True)
    found = {b.argument: t.to(device) for b, t in given if b.role in (Role.WEIGHT, Role.INPUT)}
    return [found[n] for n in range(len(found))]


def test_a_runner_follows_its_arguments():
    runner = Runner(P.mlp(), {"target": "cuda", "cache": False})
    first, second = (arguments(runner, d) for d in DEVICES)
    results = [runner(given)[0] for given in (first, second, first)]
    assert [str(r.device) for r in results] == ["cuda:0", "cuda:1", "cuda:0"]
    assert torch.equal(results[0].cpu(), results[1].cpu()) and torch.equal(results[0], results[2])
    with pytest.raises(CallError, match="where other arguments are"):
        runner([first[0], *second[1:]])


def test_a_launch_goes_to_the_current_stream_of_the_arguments_device():
    """What precedes it on that stream is slow, and comes first all the same; the other device is current."""
    runner = Runner(P.mlp(), {"target": "cuda", "cache": False})
    given = arguments(runner, "cuda:1")
    want = runner(given)[0]
    number = next(b.argument for b in runner.program.buffers if b.role is Role.INPUT)
    x, stream = given[number].clone(), torch.cuda.Stream("cuda:1")
    given[number].zero_()
    torch.cuda.synchronize("cuda:1")
    with torch.cuda.stream(stream), torch.cuda.device(0):
        with torch.cuda.device(1):
            torch.cuda._sleep(500_000_000)
            given[number].copy_(x, non_blocking=True)
        found = runner(given)[0]
        assert not stream.query(), "the launch was enqueued, not awaited"
    stream.synchronize()
    assert torch.equal(found, want)
