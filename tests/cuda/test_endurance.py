"""Many launches of a decode step: the same bits each time, none hangs, whatever else the GPU does."""

from __future__ import annotations

import pytest
import torch

from tests.cuda.endless import Busy
from tests.cuda.endless import Endless

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]
GREEDY = 200
COUNTS = [pytest.param(1_000), pytest.param(20_000, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def endless():
    made = Endless()
    made.executable.set_deadline(10.0)
    return made


@pytest.fixture(autouse=True)
def clean(endless):
    endless.differ.zero_()


@pytest.mark.parametrize("count", COUNTS)
def test_calls(endless, count):
    for _ in range(count):
        endless.once()
    endless.end()


@pytest.mark.parametrize("count", COUNTS)
def test_replays(endless, count):
    graph = endless.graph(10)
    for _ in range(count // 10):
        graph.replay()
    endless.end()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("replayed", [False, True])
def test_beside_a_busy_stream(endless, count, replayed):
    busy = Busy()
    call = endless.graph(1).replay if replayed else endless.once
    for _ in range(count):
        busy.more()
        call()
        busy.more()
    endless.end()


@pytest.mark.parametrize("count", COUNTS)
def test_with_nan_in_the_workspace_before_each_launch(endless, count):
    for _ in range(count):
        endless.poison()
        endless.once()
    endless.end()


def test_a_difference_is_counted(endless):
    values = endless.step.cache.layers[1].values
    kept = values[1, 0, 7, 0].clone()
    values[1, 0, 7, 0] += 1.0
    endless.once()
    values[1, 0, 7, 0] = kept
    endless.executable.synchronize()
    assert int(endless.differ) > 0


@torch.no_grad()
def greedy(endless, cache) -> torch.Tensor:
    """Logits of ``GREEDY`` steps, each fed what the one before chose, [steps, rows, vocabulary]."""
    step = endless.step
    token, position = torch.zeros_like(step._tokens[0]), step._positions[0].clone()
    found = []
    for _ in range(GREEDY):
        made = endless.call(token, past_key_values=cache, use_cache=True, position_ids=position).logits
        found.append(made[:, -1].clone())
        token = found[-1].argmax(-1, keepdim=True)
        position.add_(1)
    return torch.stack(found)


def test_two_runs_of_two_hundred_steps_give_the_same_bits(endless):
    """The second run writes over the cache of the first."""
    runs, caches = [], []
    for _ in range(2):
        endless.step.rewind()
        runs.append(greedy(endless, endless.step.cache))
        caches.append([t.clone() for layer in endless.step.cache.layers for t in (layer.keys, layer.values)])
    endless.step.rewind()
    assert runs[0].isfinite().all()
    assert torch.equal(*runs)
    assert all(torch.equal(a, b) for a, b in zip(*caches, strict=True))


def test_a_step_is_one_launch_by_the_profiler(endless):
    """Nothing else runs on the GPU during a call, copies and fills included."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile

    steps = 5
    endless.step.rewind()
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            endless.step.run(endless.call)
        torch.cuda.synchronize()
    endless.step.rewind()
    names = [event.name for event in profiler.events() if event.device_type == DeviceType.CUDA]
    assert len(names) == steps, names
    assert len(set(names)) == 1, names
