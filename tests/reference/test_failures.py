"""What the reference target refuses, loudly: bad data, bad programs, bad calls; and what a launch leaves behind."""

import dataclasses

import pytest
import torch

from onelaunch.errors import AccessError
from onelaunch.errors import CallError
from onelaunch.errors import LaunchError
from onelaunch.program.program import Event
from onelaunch.program.program import Region
from onelaunch.program.program import Span
from onelaunch.targets.reference.executable import ReferenceExecutable
from tests import programs


def edit(program, number, **changes):
    tasks = list(program.tasks)
    tasks[number] = dataclasses.replace(tasks[number], **changes)
    return dataclasses.replace(program, tasks=tuple(tasks))


@pytest.mark.parametrize("bad", [7, -1, 1 << 40])
def test_data_out_of_bounds_names_buffer_index_and_size(bad):
    given = {"ids": torch.tensor([1, bad, 2])}
    with pytest.raises(IndexError, match=rf"task \d .*index {bad} of dimension 0 of buffer table .* size 7"):
        programs.run(programs.embed(), given)


def test_a_negative_slot_stores_nothing_and_a_large_one_is_an_error():
    program = programs.attention()
    given = {"slots": torch.tensor([-1, 4]), "length": torch.tensor([3])}
    cache = programs.tensors(program, given)[5]
    found = programs.run(program, given, debug=True)["cache_k"]
    assert torch.equal(found[:4], cache[:4])
    assert not torch.equal(found[4], cache[4])
    with pytest.raises(IndexError, match=r"index 8 of dimension 0 of buffer cache_."):
        programs.run(program, {"slots": torch.tensor([8, 4]), "length": torch.tensor([3])})


def test_slots_that_are_not_distinct_break_the_axiom():
    with pytest.raises(AccessError, match="elements of slots are not distinct"):
        programs.run(programs.attention(), {"slots": torch.tensor([4, 4]), "length": torch.tensor([3])}, debug=True)


def test_a_lost_signal_is_a_stuck_launch_and_the_next_one_starts_clean():
    program = programs.mlp()
    signalling = next(i for i, t in enumerate(program.tasks) if t.signals)
    executable = ReferenceExecutable(edit(program, signalling, signals=()))
    with pytest.raises(LaunchError, match=r"worker \d waits in task \d .*for event \d, which has reached 0 of 1"):
        programs.run(program, executable=executable)
    assert executable.aborted
    whole = ReferenceExecutable(program)
    expected = programs.run(program, executable=whole)["out"]
    executable.program = program
    assert torch.equal(programs.run(program, executable=executable)["out"], expected)
    assert not executable.aborted


@pytest.mark.parametrize("epoch", [2**32 - 2, 2**31 - 1, (2**32 - 3) // 3, 12345678901])
@pytest.mark.parametrize("name", ["mlp-op", "pipeline", "reuse-op"])
def test_counters_wrap(name, epoch):
    make, given = programs.SMALL[name]
    program = make()
    expected = programs.run(program, given())
    executable = ReferenceExecutable(program, epoch=epoch, debug=True)
    for _ in range(4):
        found = programs.run(program, given(), executable=executable)
        assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_reading_outside_the_declared_region():
    program = programs.mlp()
    narrow = tuple(Region(r.buffer, (r.box[0], Span(0, 4))) if len(r.box) == 2 else r for r in program.tasks[0].reads)
    with pytest.raises(AccessError, match=r"task 0 .* reads x\[0, 4\], which is outside"):
        programs.run(edit(program, 0, reads=narrow), debug=True)


def test_writing_outside_the_declared_region():
    program = programs.mlp()
    region = program.tasks[1].writes[0]
    with pytest.raises(AccessError, match=r"writes mid\[0, 5\], which is outside"):
        programs.run(edit(program, 1, writes=(Region(region.buffer, (region.box[0], Span(4, 5))),)), debug=True)


def test_reading_what_nobody_wrote_and_what_another_buffer_overwrote():
    program = programs.chain()
    early = edit(program, 2, waits=())
    with pytest.raises(AccessError, match="nobody wrote"):
        programs.run(early, mode="last", debug=True)
    program = programs.reuse()
    over = tuple(dataclasses.replace(b, offset=4) if b.name == "c" else b for b in program.buffers)
    with pytest.raises(AccessError, match=r"reads an element of a that c has overwritten"):
        programs.run(dataclasses.replace(program, buffers=over), debug=True, mode="last")


def test_an_output_with_a_hole():
    program = programs.mlp()
    last = program.tasks[-1]
    with pytest.raises(AccessError, match=r"output out has unwritten elements, first at \[0, 7\]"):
        programs.run(edit(program, len(program.tasks) - 1, tile=(last.tile[0], (4, 7))), debug=True)


def test_bad_calls():
    program = programs.embed()
    executable = ReferenceExecutable(program)
    with pytest.raises(CallError, match="0 pointers, the program has 5"):
        executable.launch([], [3])
    with pytest.raises(CallError, match="symbol T is 4, the program takes 1 to 3"):
        executable.launch([0] * 5, [4])
    with pytest.raises(CallError, match="no address for buffer ids"):
        executable.launch([0] * 5, [3])


def test_an_event_that_cannot_be_reached():
    program = dataclasses.replace(programs.mlp(), events=(*programs.mlp().events, Event(1)))
    program = edit(program, 0, waits=((len(program.events) - 1, 1),))
    with pytest.raises(LaunchError, match="stuck"):
        programs.run(program)
