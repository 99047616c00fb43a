"""Launches on the GPU: whole programs against the reference target, counters, errors, graphs, streams."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onelaunch.errors import LaunchError
from onelaunch.program.program import Event
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from tests import programs as P
from tests.cpu.codegen_run import one_kernel
from tests.cpu.test_codegen_nests import lookup
from tests.cuda import on_gpu

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]


class Step:
    """A program with arguments of its own in GPU memory."""

    def __init__(self, program: Program, given=None, launch: str = "one") -> None:
        self.program, self.executable = program, on_gpu.build(program, launch)
        self.memory = [t.cuda() for t in P.tensors(program, given)]
        self.symbols = [s.maximum for s in program.symbols]

    def __call__(self) -> None:
        self.executable.launch([t.data_ptr() for t in self.memory], self.symbols)

    def named(self, name: str) -> torch.Tensor:
        return next(t for b, t in zip(self.program.buffers, self.memory, strict=True) if b.name == name)

    def results(self) -> list[torch.Tensor]:
        self.executable.synchronize()
        kept = (Role.OUTPUT, Role.STATE)
        return [t.clone() for b, t in zip(self.program.buffers, self.memory, strict=True) if b.role in kept]


def wide(**options) -> Program:
    """Products and norms of moderate size over more workers than a small GPU's share."""
    return P.mlp(workers=options.pop("workers", 24), t=3, h=64, f=96, size=8, **options)


@pytest.mark.parametrize("name", ["mlp", "chain", "reuse", "attention", "embed"])
@pytest.mark.parametrize("style", ["task", "op"])
def test_hand_written_programs_agree_with_the_reference(name, style):
    given = getattr(P, f"{name}_inputs", dict)()
    program = getattr(P, name)(style=style)
    executable = on_gpu.OnGpu(program)
    executable.set_counters(2**32 - 2)
    for _ in range(4):  # across the wrap-around
        got, want = P.run(program, given, executable=executable), P.run(program, given)
        for key in want:
            torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)


def test_more_waits_and_signals_than_a_record_holds():
    """One task waits for 40 others, each of which signals it and six that follow."""
    p = P.Builder("fan", 8)
    x = p.buffer("x", (40,), Role.INPUT)
    mid, out = p.buffer("mid", (40,), Role.WORKSPACE), p.buffer("out", (7, 40), Role.OUTPUT)
    p.op("spread")
    twice = P.rows("y", (40,), lambda i: P.b.mul(P.b.load("x", (i,), P.F32), P.b.const(2.0, P.F32)))
    for i in range(40):
        p.task(twice, {"x": x, "y": mid}, ((i, i + 1),), i % 8)
    p.op("gather")
    r = P.b.var("r", 40)
    total = P.rows("y", (7, 40), lambda i, j: P.b.add(P.b.reduce("sum", r, P.b.load("x", (r,), P.F32)), i))
    for i in range(7):
        p.task(total, {"x": mid, "y": out}, ((i, i + 1), (0, 40)), i)
    program = p.link("task")
    assert max(len(t.waits) for t in program.tasks) > 32
    assert max(len(t.signals) for t in program.tasks) >= 1
    step = Step(program)
    step()
    want = step.named("x").sum() * 2 + torch.arange(7, device="cuda")[:, None]
    torch.testing.assert_close(step.results()[0], want.expand(7, 40), rtol=1e-5, atol=1e-5)


def test_many_launches_in_flight_give_the_same_bits():
    step = Step(wide())
    step()
    first = step.results()[0]
    step.executable.set_counters(2**32 - 500)
    differ = torch.zeros((), dtype=torch.int64, device="cuda")
    out = step.named("out")
    for _ in range(1000):
        out.fill_(float("nan"))
        step()
        differ += (out != first).sum()
    step.executable.synchronize()
    assert int(differ) == 0


def test_twenty_thousand_replays():
    """2,000 replays of ten launches in one graph, each replay with its output poisoned before."""
    step = Step(wide(style="op"))
    step()
    first, out = step.results()[0], step.named("out")
    differ = torch.zeros((), dtype=torch.int64, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            out.fill_(float("nan"))
            step()
            differ += (out != first).sum()
    for _ in range(2000):
        graph.replay()
    step.executable.synchronize()
    assert int(differ) == 0


def test_a_graph_replays_with_what_its_tensors_hold():
    step = Step(wide())
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for seed in range(3):
        torch.manual_seed(seed)
        step.named("x").copy_(torch.randn(3, 64))
        step.named("out").fill_(float("nan"))
        graph.replay()
        got = step.results()[0].cpu()
        want = P.run(step.program, {b.name: t.cpu() for b, t in zip(step.program.buffers, step.memory, strict=True)})
        torch.testing.assert_close(got, want["out"], rtol=1e-4, atol=1e-4)


def test_a_first_launch_inside_a_capture_is_refused():
    step = Step(P.chain())
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(LaunchError, match="first time inside a graph capture"), torch.cuda.graph(graph):
        step()


def test_two_programs_and_two_streams_in_turn():
    one, other = Step(wide()), Step(P.chain(workers=5, length=9, n=64))
    one(), other()
    wanted = [one.results()[0], other.results()[0]]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for i in range(100):
        with torch.cuda.stream(streams[i % 2]):
            for step in (one, other):
                step()
    for step, want in zip((one, other), wanted, strict=True):
        assert torch.equal(step.results()[0], want)


def broken(program: Program) -> Program:
    """The first task that waits does so for an event that nobody signals."""
    events = (*program.events, Event(1))
    number = next(n for n, t in enumerate(program.tasks) if t.waits)
    task = dataclasses.replace(program.tasks[number], waits=((len(events) - 1, 1),))
    return dataclasses.replace(
        program, events=events, tasks=(*program.tasks[:number], task, *program.tasks[number + 1 :])
    )


def test_a_wait_that_never_ends():
    """Forced past the check: the launch ends in order, says why, and the next one works."""
    good = wide(style="op")
    program = broken(good)
    number = next(n for n, t in enumerate(program.tasks) if t.waits and t.waits[0][0] == len(program.events) - 1)
    worker = next(w for w, q in enumerate(program.queues) if number in q)
    step, other = Step(program), Step(good)
    step.executable.set_deadline(0.02)
    other()
    for _ in range(3):  # each launch begins from a clean slate
        step()
        with pytest.raises(LaunchError, match=rf"worker {worker}, task {number} .*event \d+ stood at 0 .*awaited 1"):
            step.executable.synchronize()
    step()
    with pytest.raises(LaunchError, match="until the deadline"):  # the next launch says it, too
        torch.cuda.synchronize()
        step()
    other()
    torch.testing.assert_close(other.results()[0], other.results()[0])


def test_a_program_works_after_its_own_abort():
    """One worker finds an index that does not exist while others wait for what it will not signal."""
    step = Step(P.embed(workers=3), P.embed_inputs())
    step()
    want = step.results()[0]
    for _ in range(5):
        step.named("ids")[1] = 7
        step()
        step()  # in flight behind it: it starts clean, and fails for itself
        with pytest.raises(IndexError, match="index 7 is out of bounds for dimension 0 of table with size 7, in task"):
            step.executable.synchronize()
        step.named("ids")[1] = 0
        step.named("out").fill_(float("nan"))
        step()
        assert torch.equal(step.results()[0], want)


@pytest.mark.parametrize("bad", [-1, 11, 2**40, -(2**40)])
def test_an_index_outside_the_table_is_an_error(bad):
    tensors = {"ids": torch.tensor([3, bad, 0, 3]), "table": torch.randn(11, 9), "y": torch.zeros(4, 9)}
    step = Step(one_kernel(lookup(), tensors), tensors)
    step()
    with pytest.raises(IndexError, match=rf"index {bad} is out of bounds for dimension 0 of table with size 11"):
        step.executable.synchronize()
    step.named("ids")[1] = 5
    step()
    assert torch.equal(step.results()[0], step.named("table")[step.named("ids")])


def test_more_workers_than_fit_are_refused():
    program = P.chain(workers=4)
    step = Step(dataclasses.replace(program, queues=(*program.queues, *((),) * 4000)))
    with pytest.raises(LaunchError, match=r"has 4004 workers, of which cuda:0 can hold \d+ at once"):
        step()
