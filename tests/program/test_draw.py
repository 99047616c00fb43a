"""Pictures: well-formed, complete, safe for odd names, and small enough for large programs."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree as ET

import pytest

from onelaunch.program.draw import draw_ops
from onelaunch.program.draw import draw_queues
from onelaunch.program.draw_ops import dependencies
from onelaunch.program.draw_ops import find_bands
from onelaunch.program.draw_ops import repetition
from onelaunch.program.draw_queues import simulate
from onelaunch.program.program import Program
from tests.program.programs import many_tasks
from tests.program.programs import odd_names
from tests.program.programs import two_ops

NAMESPACE = "{http://www.w3.org/2000/svg}"


def by_op(program: Program) -> list:
    return [[t for t in program.tasks if t.op == op] for op in range(len(program.ops))]


@pytest.mark.parametrize("draw", [draw_ops, draw_queues])
@pytest.mark.parametrize("program", [two_ops(), odd_names(), many_tasks(3, 4, 5)], ids=lambda p: p.name[:4])
def test_pictures_are_self_contained_and_name_everything(draw, program: Program):
    picture = draw(program)
    root = ET.fromstring(picture)
    assert root.tag == f"{NAMESPACE}svg" and "http" not in picture.replace("http://www.w3.org/2000/svg", "")
    assert "script" not in picture and "href" not in picture
    titles = [t.text or "" for t in root.iter(f"{NAMESPACE}title")]
    assert len(titles) == (len(program.ops) if draw is draw_ops else len(program.tasks))
    for label in program.ops:
        assert any(label in t for t in titles)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for rect in root.iter(f"{NAMESPACE}rect"):
        if "%" not in rect.get("width", ""):
            assert float(rect.get("x", 0)) + float(rect.get("width", 0)) <= width
            assert float(rect.get("y", 0)) + float(rect.get("height", 0)) <= height


def test_dependencies_follow_the_data():
    assert dependencies(two_ops(), by_op(two_ops())) == [(0, 1)]
    chain = many_tasks(2, 3, 5)
    assert dependencies(chain, by_op(chain)) == [(n, n + 1) for n in range(7)]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], (0, 1, 1)),
        ([1, 2, 3], (0, 1, 1)),
        ([9, 1, 2, 3, 1, 2, 3, 1, 2, 3, 8], (1, 3, 3)),
        ([1, 2, 3, 1, 2, 3, 1, 2], (0, 3, 2)),
        ([1, 2, 3, 4] * 5, (0, 4, 5)),
    ],
)
def test_repetitions(items: list[int], expected: tuple[int, int, int]):
    assert repetition(items) == expected


def test_bands_begin_where_a_layer_begins():
    program = many_tasks(6, 2, 2)  # every op has the same kernel, so only the labels tell layers apart
    bands = find_bands(program, by_op(program))
    assert sorted(op for band in bands for op in band) == list(range(24))


def test_queues_show_waiting():
    slots = simulate(two_ops())
    assert [[s.task for s in queue] for queue in slots] == [[0, 2, 4], [1, 3]]
    linear = slots[0][1]
    assert linear.start > linear.idle  # it waits for the event
    assert "class='w'" in draw_queues(two_ops())


def test_a_queue_that_is_stuck_is_drawn_as_far_as_it_goes():
    program = two_ops()
    stuck = Program(
        **{f: getattr(program, f) for f in program.__dataclass_fields__} | {"queues": ((2, 0), (1,), (3, 4))}
    )
    assert [len(q) for q in simulate(stuck)] == [0, 1, 0]
    ET.fromstring(draw_queues(stuck))


def test_large_programs_are_drawn_in_seconds():
    program = many_tasks()
    start = time.process_time()
    ops, queues = draw_ops(program), draw_queues(program)
    assert time.process_time() - start < 10
    assert len(ops) < 1 << 20 and len(queues) < 12 << 20
    assert len(re.findall("<rect class", queues)) >= len(program.tasks)
