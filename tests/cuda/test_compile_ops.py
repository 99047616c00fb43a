"""Launches of single ops compiled by NVRTC, on any machine that has it: nothing is spilled, and what lies in memory is
where the host puts it.
"""

from __future__ import annotations

import ctypes
import re

import pytest
import torch

from onelaunch.program.program import Program
from onelaunch.targets.cuda import ops
from onelaunch.targets.cuda.architecture import TESTED
from onelaunch.targets.cuda.loaded_ops import Parameters
from tests import programs as P
from tests.cuda.test_compile import attention
from tests.cuda.test_compile import product
from tests.cuda.test_compile import said_of

BLOCK_REGISTERS = 65536 // ops.THREADS


def fits(program: Program) -> None:
    source = ops.generate(program)
    log = said_of(source.text())
    used = re.findall(r"Used (\d+) registers", log)
    assert len(used) == len(program.kernels) and max(map(int, used)) <= BLOCK_REGISTERS
    spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert spilled and set(spilled) == {("0", "0")}, log
    assert max(source.shared_of(n) for n in range(len(program.kernels))) <= TESTED.shared


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("name", ["mlp", "attention", "embed"])
def test_programs(name):
    fits(getattr(P, name)())


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products(dtype):
    fits(product(1, dtype))


@pytest.mark.usefixtures("nvrtc")
def test_attention():
    fits(attention(9, 3, 64))


def test_launches_are_the_ops_in_order():
    program = P.mlp()
    launches = ops.launches_of(program)
    assert [program.tasks[launch.tasks[0]].op for launch in launches] == list(range(len(program.ops)))
    assert sorted(n for launch in launches for n in launch.tasks) == list(range(len(program.tasks)))
    for launch in launches:
        assert {program.tasks[n].operands for n in launch.tasks} == {launch.operands}


def test_a_launch_carries_its_own_operands_and_begins_at_its_own_records():
    program = P.embed()
    source, launches = ops.generate(program), ops.launches_of(program)
    own = {i: 1000 + i for i, b in enumerate(program.buffers) if b.offset or b.role == "workspace"}
    fixed = {"records": 4096, "control": 7, "n_events": 0}
    parameters = Parameters(program, source.shape, launches, own, fixed)
    parameters.give([2000 + i for i in range(len(program.buffers))], [3])
    parameters.stamp(9)
    begin = 4096
    for launch, words in zip(launches, parameters.all, strict=True):
        wanted = [own.get(i, 2000 + i) for i in launch.operands]
        assert list(words.buffers)[: len(wanted)] == wanted
        assert (words.records, words.control, words.stamps, words.symbols[0]) == (begin, 7, 9, 3)
        assert words.last == (launch is launches[-1])
        begin += len(launch.tasks) * 4 * source.shape.record_words
    words, starts = ops.tables_of(program, source).packed()
    records = words[starts["records"] // 4 :][: len(program.tasks) * source.shape.record_words]
    numbers = records.reshape(len(program.tasks), -1)[:, 1].tolist()
    assert numbers == [n for launch in launches for n in launch.tasks]
    assert ctypes.sizeof(parameters.all[0]) == source.shape.launch_bytes
