"""Bytes of tasks and what each kind of op took, on programs small enough to count by hand."""

from __future__ import annotations

import pytest

from onelaunch.program.program import Program
from onelaunch.program.text import parse_program
from onelaunch.program.traffic import Meter
from onelaunch.program.traffic import Traffic
from onelaunch.program.usage import group_name
from onelaunch.program.usage import op_name
from onelaunch.program.usage import total
from onelaunch.program.usage import union
from onelaunch.program.usage import usage
from tests.program.programs import odd_names
from tests.program.programs import two_ops
from tests.program.timelines import known


def embedding() -> Program:
    return parse_program("""onelaunch program 1
name "embedding"
machine "cpu"
workspace 0
buffer 0 input ids: i64[2] strides [1] argument 0
buffer 1 weight table: bf16[1000, 8] strides [8, 1] argument 1
buffer 2 output y: f32[2, 8] strides [8, 1] argument 0
kernel 0
  operand ids: i64[2] strides [1]
  operand table: bf16[1000, 8] strides [8, 1]
  operand y: f32[2, 8] strides [8, 1]
  for i < 2, j < 8
    store f32 %y[i, j] = f32(%table[%ids[i], j])
op 0 "rows embedding"
task 0 op 0 kernel 0 on 0 1 2 tile 0:2 0:4 reads 0[0:2] 1[0:1000,0:8] writes 2[0:2,0:4]
queue 0 tasks 0
end
""")


def test_bytes_of_every_task():
    meter = Meter(two_ops())
    assert [meter.of(n) for n in range(5)] == [
        Traffic(0, 64 + 64), Traffic(0, 64 + 64),  # x and h, 4 rows of 4 numbers
        Traffic(64, 128 + 64 + 64), Traffic(64, 128 + 64 + 64),  # h whole, half of w, half of y
        Traffic(0, 8 + 8),  # the counter, read and written
    ]  # fmt: skip


def test_what_data_pick_counts_once_and_not_as_the_whole_table():
    assert Meter(embedding()).of(0) == Traffic(2 * 4 * 2, 2 * 8 + 2 * 4 * 2 + 2 * 4 * 4)
    assert Meter(odd_names()).of(0) == Traffic(0, 3 * 8 + 3 * 4)


def test_usage_of_the_known_launch():
    timeline = known()
    by_name = {u.name: u for u in usage(timeline)}
    assert list(by_name) == ["rows add", "linear up_proj", "rows counter"]
    add = by_name["rows add"]
    assert (add.runs, add.busy, add.waiting, add.wall) == (2, 90 + 195, 10 + 5, 195)
    assert (add.weights, add.nbytes) == (0, 256) and add.bandwidth == pytest.approx(256 / 195)
    linear = by_name["linear up_proj"]
    assert (linear.runs, linear.busy, linear.waiting, linear.wall) == (2, 90 + 48, 110 + 2, 400 - 302)
    sums = total(timeline, usage(timeline))
    assert (sums.nanoseconds, sums.busy, sums.weights) == (400, 90 + 195 + 90 + 48 + 99, 128)
    assert sums.nbytes == 256 + 512 + 16 and sums.weight_bandwidth == pytest.approx(128 / 400)


def test_union():
    assert union([]) == 0
    assert union([(5, 9), (0, 3), (2, 4), (6, 7), (9, 12), (4, 4)]) == 4 + 7


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("linear mm_1 model.layers.0.self_attn.q_proj modeling_llama.py:243", "linear q_proj"),
        ("linear add_7 model.layers.11 modeling_llama.py:306", "linear add modeling_llama.py:306"),
        ("rows mul_4 model.layers.0.input_layernorm modeling_llama.py:66", "rows input_layernorm mul"),
        ("linear view_631 lm_head modeling_llama.py:468", "linear lm_head"),
        ("rows index_put_12_base copy", "rows copy index_put_base"),
        ("rows counter", "rows counter"),
        ("", ""),
    ],
)
def test_names_without_layers(label, name):
    assert op_name(label) == name


def test_a_kernel_is_named_after_the_ops_that_run_it():
    assert group_name(two_ops(), 1) == "linear up_proj"
