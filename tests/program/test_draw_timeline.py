"""The picture of a launch: well-formed, self-contained, complete, with its numbers and the critical path."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from onelaunch.program import draw_timeline as pictures
from onelaunch.program.draw_path import LISTED
from onelaunch.program.draw_timeline import draw_timeline
from onelaunch.program.draw_timeline import palette
from onelaunch.program.timeline import critical_path
from onelaunch.program.usage import usage
from tests.program.programs import many_tasks
from tests.program.programs import odd_names
from tests.program.timelines import known
from tests.program.timelines import soonest

NAMESPACE = "{http://www.w3.org/2000/svg}"
TIMELINES = [
    known(),
    soonest(many_tasks(2, 40, 132), 1, 30),
    soonest(many_tasks(30, 20, 2), 1),
    soonest(odd_names(), 2),
]


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda t: f"{len(t.program.queues)} workers")
def test_it_holds_every_worker_and_every_task(timeline):
    picture = draw_timeline(timeline, "a <note> & more")
    root = ET.fromstring(picture)
    assert root.tag == f"{NAMESPACE}svg" and "http" not in picture.replace("http://www.w3.org/2000/svg", "")
    assert "script" not in picture and "href" not in picture
    names = [g.get("id", "") for g in root.iter(f"{NAMESPACE}g")]
    workers = {m[1] for name in names if (m := re.match(r"worker-(\d+)-", name))}
    assert workers == {str(w) for w in range(len(timeline.program.queues))}
    hovers = [t.text or "" for t in root.iter(f"{NAMESPACE}title")]
    tasks = {int(m[1]): m[2] for h in hovers if (m := re.match(r"task (\d+), worker (\d+)\n", h))}
    assert tasks == {s.task: str(s.worker) for s in timeline.slices}
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for rect in root.iter(f"{NAMESPACE}rect"):
        if "%" not in rect.get("width", ""):
            assert float(rect.get("x", 0)) + float(rect.get("width", 0)) <= width
            assert float(rect.get("y", 0)) + float(rect.get("height", 0)) <= height
    for x, y, wide in re.findall(r" d='M([\d.]+) ([\d.]+)h([\d.]+)'", picture):
        assert float(x) + float(wide) <= width and float(y) <= height
    for text in root.iter(f"{NAMESPACE}text"):
        assert 0 <= float(text.get("x", -1)) <= width and 0 <= float(text.get("y", -1)) <= height


def texts(timeline) -> list[str]:
    return [t.text or "" for t in ET.fromstring(draw_timeline(timeline)).iter(f"{NAMESPACE}text")]


def test_numbers_of_the_known_launch():
    found = texts(known())
    assert any(
        t.startswith("0.4 us; all bytes 2.0 GB/s, weights alone 0.3 GB/s; critical path of 3 tasks") for t in found
    )
    for name in ("rows add", "linear up_proj", "rows counter", "all"):
        assert name in found
    assert "≤ 1.3" in found, "rows add moved 256 bytes in 195 ns"
    picture = draw_timeline(known())
    lines = "".join(re.findall(r"<path class='w' d='([^']*)'", picture))
    waits = re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", lines)
    # Task 2 waited 110 of 400 ns, which is 1500 pixels wide.
    assert any(float(b) - float(a) == pytest.approx(110 / 400 * 1500, abs=0.2) for a, b in waits)


def test_the_critical_path_is_named_and_framed():
    picture = draw_timeline(known())
    assert len(re.findall(r"<rect class='c", picture)) == 3
    found = texts(known())
    at = found.index("1 rows add ← launch")
    assert found[at + 1] in ("+0.01, 0.20 us", "+0.01, 0.19 us")
    at = found.index("2 linear up_proj ← event 0 at 2 of 2 (task 1, rows add)")
    assert found[at + 1].startswith("+0.01, 0.09")
    assert "4 rows counter ← task 2 before it" in found
    assert {"rows", "up_proj"} <= set(found), "names in the lane of the path"


def test_the_table_divides_the_path_by_kind():
    found = texts(known())
    row = found[found.index("linear up_proj") :]
    assert row[8:11] == ["1", "0.1", "0.0"]
    row = found[found.index("all") :]
    assert row[8] == "3" and float(row[9]) + float(row[10]) == pytest.approx(0.4, abs=0.11)


def test_a_crowded_launch_is_drawn_small_and_enlarged(monkeypatch):
    timeline = soonest(many_tasks(30, 20, 8), 1, 30)
    monkeypatch.setattr(pictures, "CROWDED", 100)
    picture = draw_timeline(timeline)
    shown = {int(n) for n in re.findall(r"<title>task (\d+), worker", picture)}
    assert 0 < len(shown) < len(timeline.slices) / 2
    middle = [s.task for s in timeline.slices if s.began <= timeline.begin + timeline.nanoseconds / 2 < s.ended]
    assert middle and set(middle) <= shown
    monkeypatch.setattr(pictures, "CROWDED", 10**9)
    assert len(picture) < 0.7 * len(draw_timeline(timeline))


def test_a_long_path_is_cut_and_says_so():
    timeline = soonest(many_tasks(200, 2, 2), 1)
    length = len(critical_path(timeline))
    assert length > LISTED
    found = texts(timeline)
    assert sum("←" in t for t in found) == LISTED and f"and {length - LISTED} more" in found


def test_every_kind_has_a_colour_of_its_own():
    groups = usage(known())
    colours = palette(groups)
    assert set(colours) == {u.kernel for u in groups} and len(set(colours.values())) == len(groups)
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in colours.values())
