"""What a program can do, found by trying: all orders of its tasks, runs of the reference target. Slow and simple."""

from __future__ import annotations

import dataclasses

import torch

from onelaunch.errors import OnelaunchError
from onelaunch.program.program import Program
from onelaunch.targets.reference.executable import ReferenceExecutable
from tests import programs


def reachable(program: Program) -> set[tuple[int, ...]]:
    """Every state (tasks done, by worker) that some order reaches. Exponential: for programs of a few tasks."""
    start = (0,) * len(program.queues)
    seen, stack = {start}, [start]
    while stack:
        state = stack.pop()
        counts = [0] * len(program.events)
        for queue, head in zip(program.queues, state, strict=True):
            for t in queue[:head]:
                for e in program.tasks[t].signals:
                    counts[e] += 1
        for w, (queue, head) in enumerate(zip(program.queues, state, strict=True)):
            if head < len(queue) and all(counts[e] >= v for e, v in program.tasks[queue[head]].waits):
                after = (*state[:w], head + 1, *state[w + 1 :])
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
    return seen


def explored(program: Program) -> set[tuple[int, int]]:
    """(a, b): in no order does b start before a has finished. By visiting every state."""
    place = {t: (w, i) for w, q in enumerate(program.queues) for i, t in enumerate(q)}
    states = reachable(program)
    ordered = {(a, b) for a in place for b in place if a != b}
    for state in states:
        counts = [0] * len(program.events)
        for queue, head in zip(program.queues, state, strict=True):
            for t in queue[:head]:
                for e in program.tasks[t].signals:
                    counts[e] += 1
        for queue, head in zip(program.queues, state, strict=True):
            if head < len(queue) and all(counts[e] >= v for e, v in program.tasks[queue[head]].waits):
                for a, (w, i) in place.items():
                    if state[w] <= i:
                        ordered.discard((a, queue[head]))
    return ordered


def run_without(program: Program, absent: int) -> set[int]:
    """The tasks that run if task ``absent`` never does (-1: all take part)."""
    counts = [0] * len(program.events)
    heads = [0] * len(program.queues)
    done: set[int] = set()
    moved = True
    while moved:
        moved = False
        for w, queue in enumerate(program.queues):
            while heads[w] < len(queue) and queue[heads[w]] != absent:
                task = program.tasks[queue[heads[w]]]
                if any(counts[e] < v for e, v in task.waits):
                    break
                for e in task.signals:
                    counts[e] += 1
                done.add(queue[heads[w]])
                heads[w] += 1
                moved = True
    return done


def ordered(program: Program) -> set[tuple[int, int]]:
    """As ``explored``, by leaving out each task in turn: counters only grow, so this is exact, too."""
    everything = range(len(program.tasks))
    done = [run_without(program, a) for a in everything]
    return {(a, b) for a in everything for b in everything if b not in done[a] and a != b}


def conflicts(program: Program) -> list[tuple[int, int]]:
    """Pairs of tasks whose declared bytes conflict."""
    touched = [programs.Touched(program, t) for t in program.tasks]
    return [(i, j) for j in range(len(touched)) for i in range(j) if touched[i].conflicts(touched[j])]


def races(program: Program, pairs: list[tuple[int, int]] | None = None) -> list[tuple[int, int]]:
    """Conflicting pairs that run in either order."""
    order = ordered(program)
    pairs = conflicts(program) if pairs is None else pairs
    return [(a, b) for a, b in pairs if (a, b) not in order and (b, a) not in order]


def minimal(program: Program) -> Program:
    """The program without waits that others imply."""
    pairs = conflicts(program)
    for number in range(len(program.tasks)):
        for wait in program.tasks[number].waits:
            task = program.tasks[number]
            less = dataclasses.replace(task, waits=tuple(w for w in task.waits if w != wait))
            trial = dataclasses.replace(program, tasks=(*program.tasks[:number], less, *program.tasks[number + 1 :]))
            if not races(trial, pairs):
                program = trial
    return program


class Witness:
    """Shows harm by running: results of the healthy program against those of a mutant, in every kind of order."""

    def __init__(self, program: Program, given: dict[str, torch.Tensor]) -> None:
        self.given = given
        self.expected = programs.run(program, given, mode="first")

    def harm(self, mutant: Program, thorough: bool) -> str:
        """What goes wrong in some order, or nothing. The first order is launched twice: counters must stay usable."""
        modes = [("first", 0), ("last", 0), ("random", 1), ("newest", 0)]
        modes += [("delay", t) for t in range(len(mutant.tasks))]
        if thorough:
            modes += [("random", seed) for seed in range(2, 8)]
        for mode, seed in modes:
            try:
                executable = ReferenceExecutable(mutant, mode=mode, seed=seed, debug=True)
                for _ in range(2 if mode == "first" else 1):
                    found = programs.run(mutant, self.given, executable=executable)
                    for name, value in self.expected.items():
                        if name in found and not torch.equal(found[name].nan_to_num(7.0), value.nan_to_num(7.0)):
                            return f"another result in order {mode} {seed}"
            except (OnelaunchError, IndexError, RuntimeError, KeyError, ValueError, AssertionError) as error:
                return f"{type(error).__name__} in order {mode} {seed}"
        return ""
