"""Running a program task by task, in any legal order."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

import torch

from onelaunch.errors import AccessError
from onelaunch.errors import CallError
from onelaunch.errors import LaunchError
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import Task
from onelaunch.targets.reference import nest
from onelaunch.targets.reference import order
from onelaunch.targets.reference.access import Access
from onelaunch.targets.reference.counter import Counters
from onelaunch.targets.reference.guard import Guard
from onelaunch.targets.reference.memory import NOBODY
from onelaunch.targets.reference.memory import View
from onelaunch.targets.reference.memory import Workspace
from onelaunch.targets.reference.memory import bind
from onelaunch.targets.reference.plan import Plan


class ReferenceExecutable:
    """A program ready to run in Python.

    ``mode`` and ``seed`` choose the order (see ``order.make``). ``debug`` poisons the workspace and the outputs before
    each launch and checks every access against the task's declared regions, who wrote it last, and the axioms.
    ``epoch`` starts the counters as if that many launches had been. ``trace`` is called with each task before it runs.
    """

    def __init__(
        self, program: Program, mode: str = "random", seed: int = 0, debug: bool = False, epoch: int = 0,
        trace: Callable[[int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.program, self.debug, self.mode, self.seed, self.trace = program, debug, mode, seed, trace
        self.workspace = Workspace(program.workspace, debug)
        self.counters = Counters(program.events, epoch)
        self.aborted = False
        self._choose = order.make(mode, program, seed)
        self._plans = [Plan(k.nest) for k in program.kernels]

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """Run the program once. See ``onelaunch.targets.base.Executable``."""
        names = self._symbols(symbols)
        if self.aborted:
            self.counters.reset()
            self.workspace.poison()
        elif self.debug:
            self.workspace.poison()
        views = bind(self.program, self.workspace, pointers, names)
        self.aborted = True
        if self.debug:
            self._test_axioms(views)
        self._run(views, names)
        if self.debug:
            self._test_outputs(views)
        self.counters.finish()
        self.aborted = False

    def label(self, number: int) -> str:
        """A task as named in messages."""
        task = self.program.tasks[number]
        return f"task {number} ({self.program.ops[task.op]}, tile {task.tile})"

    def _symbols(self, values: Sequence[int]) -> dict[str, int]:
        if len(values) != len(self.program.symbols):
            raise CallError(f"launch got {len(values)} symbols, the program has {len(self.program.symbols)}")
        for s, value in zip(self.program.symbols, values, strict=True):
            if not s.minimum <= value <= s.maximum:
                raise CallError(f"symbol {s.name} is {value}, the program takes {s.minimum} to {s.maximum}")
        return {s.name: int(v) for s, v in zip(self.program.symbols, values, strict=True)}

    def _run(self, views: list[View], symbols: dict[str, int]) -> None:
        queues, tasks = self.program.queues, self.program.tasks
        heads = [0] * len(queues)
        ready = [w for w in range(len(queues)) if self._runnable(w, heads)]
        blocked = [w for w in range(len(queues)) if queues[w] and w not in set(ready)]
        while ready:
            place = self._choose(ready, [queues[w][heads[w]] for w in ready])
            worker = ready[place]
            number = queues[worker][heads[worker]]
            if self.trace is not None:
                self.trace(worker, number)
            self._task(number, tasks[number], views, symbols)
            for event in tasks[number].signals:
                self.counters.signal(event)
            heads[worker] += 1
            if not self._runnable(worker, heads):
                ready.remove(worker)
                if heads[worker] < len(queues[worker]):
                    blocked.append(worker)
            if tasks[number].signals:
                woken = [w for w in blocked if self._runnable(w, heads)]
                if woken:
                    blocked = [w for w in blocked if w not in woken]
                    ready = sorted(ready + woken)
        if blocked:
            self._stuck(blocked, heads)

    def _runnable(self, worker: int, heads: list[int]) -> bool:
        queue = self.program.queues[worker]
        if heads[worker] >= len(queue):
            return False
        return all(self.counters.passed(e, v) for e, v in self.program.tasks[queue[heads[worker]]].waits)

    def _stuck(self, blocked: Sequence[int], heads: list[int]) -> None:
        worker = blocked[0]
        number = self.program.queues[worker][heads[worker]]
        event, value = next((e, v) for e, v in self.program.tasks[number].waits if not self.counters.passed(e, v))
        raise LaunchError(
            f"launch is stuck: worker {worker} waits in {self.label(number)} for event {event}, which has reached "
            f"{self.counters.seen(event)} of {value} ({len(blocked)} workers wait)"
        )

    def _task(self, number: int, task: Task, views: list[View], symbols: dict[str, int]) -> None:
        kernel = self.program.kernels[task.kernel]
        operands = {o.name: views[b] for o, b in zip(kernel.operands, task.operands, strict=True)}
        label = self.label(number)
        guard = Guard(label, task, views) if self.debug else None
        nest.run(self._plans[task.kernel], task.tile, symbols, Access(label, operands, guard))

    def _test_axioms(self, views: list[View]) -> None:
        for axiom in self.program.axioms:
            if views[axiom.buffer].buffer.role in (Role.WORKSPACE, Role.OUTPUT):
                continue
            values = views[axiom.buffer].whole().reshape(-1)
            values = values[values >= 0]
            if axiom.kind == "distinct" and values.unique().numel() != values.numel():
                raise AccessError(f"axiom broken: elements of {views[axiom.buffer].buffer.name} are not distinct")

    def _test_outputs(self, views: list[View]) -> None:
        for view in views:
            if view.buffer.role is not Role.OUTPUT or view.tags is None or not view.flat.numel():
                continue
            tags = view.tags_at(view.extents, view.strides, 0)
            if bool((tags == NOBODY).any()):
                missing = torch.nonzero((tags == NOBODY).any(-1))[0].tolist()
                raise AccessError(f"output {view.buffer.name} has unwritten elements, first at {missing}")
