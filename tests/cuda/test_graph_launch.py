"""A launch for each op on the GPU, beside one launch of the same program."""

from __future__ import annotations

import pytest
import torch

from onelaunch.errors import LaunchError
from tests import programs as P
from tests.cpu.codegen_run import one_kernel
from tests.cpu.test_codegen_nests import lookup
from tests.cuda import on_gpu
from tests.cuda.test_launch import Step
from tests.cuda.test_launch import wide
from tests.cuda.test_models import direct
from tests.support import judge
from tests.support import steps
from tests.support.configurations import BY_NAME

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]


@pytest.mark.parametrize("name", ["mlp", "chain", "reuse", "attention", "embed"])
def test_hand_written_programs_agree_with_one_launch(name):
    given, program = getattr(P, f"{name}_inputs", dict)(), getattr(P, name)(style="op")
    one, ops = on_gpu.OnGpu(program), on_gpu.OnGpu(program, "graph")
    ops.set_counters(2**32 - 2)
    for _ in range(4):  # across the wrap-around
        got, want = (P.run(program, given, executable=e) for e in (ops, one))
        for key in want:
            torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)


def test_many_launches_in_flight_give_the_same_bits():
    step = Step(wide(), launch="graph")
    step()
    first, out = step.results()[0], step.named("out")
    differ = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(300):
        out.fill_(float("nan"))
        step()
        differ += (out != first).sum()
    step.executable.synchronize()
    assert int(differ) == 0


def test_a_graph_replays_with_what_its_tensors_hold():
    one, step = Step(wide()), Step(wide(), launch="graph")
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):  # launches of one program after another
            step()
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.randn(3, 64)
        for each in (one, step):
            each.named("x").copy_(x)
            each.named("out").fill_(float("nan"))
        one()
        graph.replay()
        torch.testing.assert_close(step.results()[0], one.results()[0], rtol=1e-5, atol=1e-5)


def test_a_first_launch_inside_a_capture_is_refused():
    step = Step(P.chain(), launch="graph")
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(LaunchError, match="first time inside a graph capture"), torch.cuda.graph(graph):
        step()


def test_streams_in_turn():
    step = Step(wide(), launch="graph")
    step()
    want = step.results()[0]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for i in range(50):
        with torch.cuda.stream(streams[i % 2]):
            step()
    assert torch.equal(step.results()[0], want)


def test_an_index_outside_the_table_is_an_error_of_the_first_op_that_meets_it():
    step = Step(P.embed(workers=3), P.embed_inputs(), launch="graph")
    step()
    want = step.results()[0]
    for _ in range(5):
        step.named("ids")[1] = 7
        with pytest.raises(IndexError, match="index 7 is out of bounds for dimension 0 of table with size 7, in task"):
            step()
            step()  # in flight behind it, unless the first has failed already: it starts clean, and fails for itself
            step.executable.synchronize()
        step.named("ids")[1] = 0
        step.named("out").fill_(float("nan"))
        step()
        assert torch.equal(step.results()[0], want)


def test_an_index_outside_the_table_in_a_replayed_graph():
    tensors = {"ids": torch.tensor([3, 0, 0, 3]), "table": torch.randn(11, 9), "y": torch.zeros(4, 9)}
    step = Step(one_kernel(lookup(), tensors), tensors, "graph")
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    step.named("ids")[1] = 11
    graph.replay()
    with pytest.raises(IndexError, match="index 11 is out of bounds for dimension 0 of table with size 11"):
        step.executable.synchronize()
    step.named("ids")[1] = 5
    graph.replay()
    assert torch.equal(step.results()[0], step.named("table")[step.named("ids")])


def test_times_of_tasks():
    step = Step(wide(), launch="graph")
    step.executable.trace()
    step()
    times = step.executable.times()
    assert len(times) == len(step.program.tasks) and all(0 < a <= b <= s for a, b, s in times)
    assert not any(any(row) for row in step.executable.times())


@pytest.mark.parametrize("batch", [1, 4])
def test_decode_steps_of_a_model(batch):
    torch._dynamo.reset()
    eager = direct(BY_NAME["Llama"], torch.float32, batch)
    with steps.counted() as counts:
        got = direct(BY_NAME["Llama"], torch.float32, batch, compile=steps.compiled("cuda", launch="graph"))
    assert not judge.differences(got, eager)
    assert not judge.one_launch_a_step(counts, got)


def test_half_precision():
    """Teacher-forced along eager's tokens; the error against fp32 is not much larger than eager's own."""
    torch._dynamo.reset()
    configuration = BY_NAME["Qwen3"]
    forced = direct(configuration, torch.float32, 1).tokens
    exact, eager = (direct(configuration, dtype, 1, forced=forced) for dtype in (torch.float32, torch.bfloat16))
    graph = steps.compiled("cuda", launch="graph")
    got = direct(configuration, torch.bfloat16, 1, forced=forced, compile=graph)
    ours, theirs = judge.bf16_errors(got, eager, exact)
    assert ours <= judge.BF16_RATIO * theirs
