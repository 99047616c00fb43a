"""Programs as text: equal programs come back, damage is named by its line, and large programs are fast."""

from __future__ import annotations

import dataclasses
import time

import pytest
from expecttest import assert_expected_inline
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.build import sym
from onelaunch.program import parse
from onelaunch.program.program import Program
from onelaunch.program.program import Symbol
from onelaunch.program.text import parse_printed
from onelaunch.program.text import parse_program
from onelaunch.program.text import print_program
from tests.program.programs import many_tasks
from tests.program.programs import odd_names
from tests.program.programs import two_ops
from tests.program.strategies import programs


def test_golden():
    assert_expected_inline(
        print_program(two_ops()),
        """\
onelaunch program 1
name "two ops"
machine "cpu"
workspace 192
symbol tokens 1 4
buffer 0 input x: f32[$tokens, 8] strides [8, 1] argument 0
buffer 1 weight w: bf16[8, 8] strides [8, 1] argument 1
buffer 2 state counter: i64[1] strides [1] argument 2
buffer 3 workspace h: f32[$tokens, 8] strides [8, 1] at 64
buffer 4 output y: f32[$tokens, 8] strides [8, 1] argument 0
kernel 0
  operand x: f32[$tokens, 8] strides [8, 1]
  operand out: f32[$tokens, 8] strides [8, 1]
  for i < $tokens, j < 8
    store f32 %out[i, j] = %x[i, j] + 1.0
kernel 1
  operand x: f32[$tokens, 8] strides [8, 1]
  operand w: bf16[8, 8] strides [8, 1]
  operand out: f32[$tokens, 8] strides [8, 1]
  for i < $tokens, j < 8
    contract k < 8
      x = %x[i, k]
      w = %w[j, k]
    store f32 %out[i, j] = @0
kernel 2
  operand out: i64[1] strides [1]
  for n < 1
    store i64 %out[n] = %out[n] + 1
event 0 total 2 scope device home 0
op 0 "rows add"
op 1 "linear up_proj"
op 2 "rows counter"
task 0 op 0 kernel 0 on 0 3 tile 0:4 0:4 signals 0 reads 0[0:4,0:4] writes 3[0:4,0:4]
task 1 op 0 kernel 0 on 0 3 tile 0:4 4:8 signals 0 reads 0[0:4,4:8] writes 3[0:4,4:8]
task 2 op 1 kernel 1 on 3 1 4 tile 0:4 0:4 waits 0>=2 reads 3[0:4,0:8] 1[0:4,0:8] writes 4[0:4,0:4]
task 3 op 1 kernel 1 on 3 1 4 tile 0:4 4:8 waits 0>=2 reads 3[0:4,0:8] 1[4:8,0:8] writes 4[0:4,4:8]
task 4 op 2 kernel 2 on 2 tile 0:1 reads 2[0:1] writes 2[0:1]
queue 0 tasks 0 2 4
queue 1 tasks 1 3
end
""",
    )


@pytest.mark.parametrize("program", [two_ops(), two_ops(3, 16, 1), odd_names(), many_tasks(2, 3, 5)])
def test_program_comes_back(program: Program):
    text = print_program(program)
    again = parse_program(text)
    assert again == program
    assert print_program(again) == text
    assert parse_program(text.replace("\n", "\r\n")) == program


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(programs())
def test_any_program_comes_back(program: Program):
    assert parse_program(print_program(program)) == program


def test_regions_that_recur_are_one_object():
    program = parse_program(print_program(many_tasks(2, 3, 5)))
    assert program.tasks[0].reads[0] is program.tasks[1].reads[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("onelaunch program 1", "onelaunch program 7", "version 7, this onelaunch reads version 1"),
        ("onelaunch program 1", "ELF", "line 1: expected 'onelaunch program 1', found 'ELF'"),
        ('machine "cpu"', "machine cpu", "line 3: expected 'machine"),
        ("symbol tokens 1 4", "symbol tokens 1", "line 5: expected 'symbol NAME MINIMUM MAXIMUM'"),
        ("symbol tokens 1 4\n", "", "line 5: expression text uses 'tokens'"),
        ("buffer 3", "buffer 9", "line 9: expected 'buffer 3', found 'buffer 9"),
        ("input x: f32", "input x: f31", "line 6: not understood .*'f31'"),
        ("strides [8, 1] argument 0", "strides [8] argument 0", "expected a stride for each of 2 dimensions"),
        ("input x", "magic x", "'magic' is not a valid Role"),
        ("    store f32", "store f32", "expected a line of the kernel's nest"),
        ("%x[i, j] + 1.0", "%z[i, j] + 1.0", "'z' is not among the kernel's operands x, out"),
        ("scope device", "scope galaxy", "'galaxy' is not a valid Scope"),
        ("on 0 3", "on 0 30", "buffer 30 does not exist; there are 5"),
        ("kernel 1 on", "kernel 8 on", "kernel 8 does not exist; there are 3"),
        ("signals 0", "signals 1", "event 1 does not exist; there are 1"),
        ("waits 0>=2", "waits 1>=2", "event 1 does not exist; there are 1"),
        ("waits 0>=2", "waits 0>2", "expected 'task N op N"),
        ("reads 0[0:4,0:4]", "reads 0[0:4]", r"region 0\[0:4\] has 1 dimensions"),
        ("reads 0[0:4,0:4]", "reads 0[0:4,0-4]", "expected a span LOW:HIGH"),
        ("queue 0 tasks 0 2 4", "queue 0 tasks 0 2 40", "task 40 does not exist; there are 5"),
        ("queue 0", "queue 1", "expected 'queue 0', found 'queue 1"),
        ("\nend\n", "\nend\nmore\n", "expected nothing after 'end', found 'more'"),
        ("\nend\n", "\n", "expected 'end', found the end of the text"),
        ("workspace 192", "workspace " + "9" * 40, "expected 'workspace BYTES'"),
    ],
)
def test_damage_is_named(old: str, new: str, message: str):
    text = print_program(two_ops())
    assert old in text
    with pytest.raises(ProgramFormatError, match=message) as caught:
        parse_program(text.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_escapes_as_another_error(data: st.DataObject):
    text = print_program(two_ops())
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 40))
    junk = data.draw(st.one_of(st.just(""), st.text(max_size=4), st.sampled_from(["99999", "-1", "(", "[", "\n", ":"])))
    try:
        again = parse_program(text[:at] + junk + text[at + cut :])
    except ProgramFormatError:
        return
    assert parse_program(print_program(again)) == again


def test_what_could_not_be_read_back_is_not_printed():
    program = two_ops()
    with pytest.raises(ValueError, match="declared as"):
        print_program(dataclasses.replace(program, symbols=(Symbol("tokens", 0, 4),)))
    kernel = program.kernels[0]
    spaced = dataclasses.replace(kernel.operands[0], name="a b")
    odd = dataclasses.replace(kernel, operands=(spaced, *kernel.operands[1:]))
    with pytest.raises(ValueError, match="'a b' has characters"):
        print_program(dataclasses.replace(program, kernels=(odd, *program.kernels[1:])))
    assert sym("tokens", 0, 4) is not sym("tokens", 1, 4)


def test_twenty_thousand_tasks_are_fast():
    program = many_tasks()
    assert len(program.tasks) > 20_000
    start = time.process_time()
    text = print_program(program)
    printed = time.process_time()
    assert parse_program(text) == program
    parsed = time.process_time()
    assert printed - start < 2 and parsed - printed < 3, (printed - start, parsed - printed)


@given(programs())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_tasks_that_are_read_later(program):
    text = print_program(program)
    later = parse_printed(text)
    assert len(later.tasks) == len(program.tasks)
    assert later == program and program == later and later == parse_printed(text) and hash(later) == hash(program)
    assert tuple(later.tasks) == later.tasks[:] == program.tasks and print_program(later) == text


def test_none_is_read_before_somebody_looks(monkeypatch):
    text, read = print_program(many_tasks(1, 50)), []
    own = parse._Reader._task
    monkeypatch.setattr(parse._Reader, "_task", lambda self, m: read.append(m[0]) or own(self, m))
    program = dataclasses.replace(parse_printed(text), name="other")
    assert len(program.tasks) == 200 and not read
    assert program.tasks[3] == parse_program(text).tasks[3]
    read.clear()
    assert program.tasks[4].op >= 0 and not read, "once"
