"""Timelines: what is refused, and the critical path of launches for which it is known."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from onelaunch.errors import LaunchError
from onelaunch.program.timeline import Cause
from onelaunch.program.timeline import Step
from onelaunch.program.timeline import critical_path
from onelaunch.program.timeline import timeline_of
from tests.program.programs import many_tasks
from tests.program.programs import two_ops
from tests.program.timelines import TIMES
from tests.program.timelines import known
from tests.program.timelines import soonest


def changed(**tasks):
    """The known times with some replaced: ``t2=(200, 310, 400)``."""
    return [tasks.get(f"t{n}", times) for n, times in enumerate(TIMES)]


def test_slices_know_their_workers():
    timeline = known()
    assert [s.worker for s in timeline.slices] == [0, 1, 0, 1, 0]
    assert [[s.task for s in queue] for queue in timeline.queues()] == [[0, 2, 4], [1, 3]]
    assert (timeline.begin, timeline.end, timeline.nanoseconds) == (100, 500, 400)


def test_the_known_path():
    assert critical_path(known()) == [
        Step(1, Cause.LAUNCH, None, 5, 195),
        Step(2, Cause.EVENT, (0, 2), 10, 90),
        Step(4, Cause.QUEUE, None, 1, 99),
    ]


def test_the_queue_where_it_ended_later_than_the_event():
    times = changed(t0=(100, 110, 320), t2=(320, 330, 400))
    path = critical_path(timeline_of(two_ops(), times))
    assert [(s.task, s.cause) for s in path] == [(0, Cause.LAUNCH), (2, Cause.QUEUE), (4, Cause.QUEUE)]


def one_of_two(*queues):
    """``two_ops`` on other queues, with task 3 waiting for one of two signals."""
    program = two_ops()
    tasks = list(program.tasks)
    tasks[3] = dataclasses.replace(tasks[3], waits=((0, 1),))
    return dataclasses.replace(program, tasks=tuple(tasks), queues=queues)


def test_the_signal_that_completed_the_value_and_no_later_one():
    """The first signal let task 3 go, however late the second is."""
    times = [(100, 110, 200), (100, 105, 900), (900, 905, 910), (200, 210, 300), (300, 301, 1000)]
    path = critical_path(timeline_of(one_of_two((0, 3, 4), (1, 2)), times))
    assert [s.task for s in path] == [0, 3, 4]


def test_no_signal_of_a_task_that_began_later():
    """Task 0 let task 3 go, and was interrupted before its stamp; meanwhile task 1 began and ended."""
    times = [(100, 110, 700), (100, 500, 600), (700, 701, 800), (200, 210, 300), (300, 301, 1000)]
    path = critical_path(timeline_of(one_of_two((0, 2), (3, 4), (1,)), times))
    assert [(s.task, s.event) for s in path] == [(0, None), (3, (0, 1)), (4, None)]


def test_a_stamp_that_comes_late():
    """Task 1 was interrupted between its signal and its stamp: task 2 began before task 1 seems to have ended."""
    timeline = timeline_of(two_ops(), changed(t1=(100, 105, 380), t3=(380, 381, 390)))
    path = critical_path(timeline)
    assert [s.task for s in path] == [1, 2, 4]
    assert path[1].gap == 0 and sum(s.gap + s.run for s in path) == timeline.nanoseconds


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("latency", [0, 70])
def test_where_tasks_begin_as_soon_as_they_may_the_path_is_the_launch(seed, latency):
    """Then nothing lies between the steps of the path but the latency of its events."""
    program = many_tasks(3, 7, 5)
    timeline = soonest(program, seed, latency)
    path = critical_path(timeline)
    assert path[0].cause is Cause.LAUNCH and timeline.slices[path[-1].task].ended == timeline.end
    assert all(s.gap == latency for s in path if s.cause is Cause.EVENT)
    assert all(0 <= s.gap <= latency for s in path), "of two that ended, the one that ended last is taken"
    assert sum(s.gap + s.run for s in path) == timeline.nanoseconds
    for before, step in itertools.pairwise(path):
        if step.event is not None:
            assert step.event in program.tasks[step.task].waits and step.event[0] in program.tasks[before.task].signals
        else:
            queue = program.queues[timeline.slices[step.task].worker]
            assert queue[queue.index(step.task) - 1] == before.task


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (TIMES[:4], "has 5 tasks, and times of 4"),
        (changed(t2=(0, 0, 0)), "task 2 .linear up_proj. has times 0, 0, 0"),
        (changed(t2=(199, 310, 400)), "task 2 .* after 200"),
        (changed(t3=(300, 299, 350)), "task 3"),
        (changed(t3=(300, 302, 301)), "task 3"),
    ],
)
def test_what_is_not_one_launch_is_refused(times, words):
    with pytest.raises(LaunchError, match=words):
        timeline_of(two_ops(), times)


def test_a_program_without_tasks():
    program = dataclasses.replace(two_ops(), tasks=(), queues=((), ()))
    timeline = timeline_of(program, [])
    assert timeline.nanoseconds == 0 and critical_path(timeline) == []
