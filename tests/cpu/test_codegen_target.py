"""The CPU target around its kernels: compiler, features, workers, errors, launches from threads and after a fork."""

from __future__ import annotations

import dataclasses
import json
import os
import threading

import pytest
import torch

from onelaunch.errors import CompilerError
from onelaunch.errors import LaunchError
from onelaunch.errors import OptionError
from onelaunch.program.program import Event
from onelaunch.targets.cpu import compiler
from onelaunch.targets.cpu import features
from onelaunch.targets.cpu import library
from onelaunch.targets.cpu.target import CpuTarget
from tests import programs as P
from tests.cpu.codegen_run import folder


@pytest.fixture
def forgetful():
    """Tests that change where the compiler is looked up."""
    compiler.find.cache_clear()
    yield
    compiler.find.cache_clear()


def test_hand_written_programs_agree_with_the_reference():
    for name in ("mlp", "chain", "reuse", "attention", "embed"):
        given = getattr(P, f"{name}_inputs", dict)()
        for style in ("task", "op"):
            program = getattr(P, name)(style=style)
            executable = CpuTarget().build(program, folder())
            executable.set_counters(2**32 - 2)
            for _ in range(4):  # across the wrap-around
                got, want = P.run(program, given, executable=executable), P.run(program, given)
                for key in want:
                    torch.testing.assert_close(got[key], want[key], rtol=1e-5, atol=1e-5)


def test_no_compiler(forgetful, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompilerError, match=r"no C\+\+ compiler on PATH .* target='reference'"):
        compiler.find()


def test_a_compiler_that_does_not_exist(forgetful, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(CompilerError, match="CXX=/nowhere/c\\+\\+ is not an executable"):
        compiler.find()


def test_refused_source(tmp_path):
    with pytest.raises(CompilerError, match=r"refused generated code .*error"):
        compiler.compile_one("int f( {", tmp_path)
    assert not list(tmp_path.iterdir()), "a failed build leaves nothing behind"


def test_a_build_is_reused_and_replaced_when_it_is_damaged(tmp_path):
    text = 'extern "C" int one() { return 1; }'
    path = compiler.compile_one(text, tmp_path)
    before = path.stat().st_mtime_ns
    assert compiler.compile_one(text, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert library.load(path).one() == 1
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"not a library")
    damaged.with_suffix(".json").write_text("[]")
    with pytest.raises(CompilerError, match="cannot be loaded"):
        library.load(damaged)


def test_a_library_for_another_cpu_is_not_loaded(tmp_path):
    path = compiler.compile_one('extern "C" int two() { return 2; }', tmp_path)
    path.with_suffix(".json").write_text(json.dumps([*features.features(), "avx9000"]))
    with pytest.raises(CompilerError, match="built for a CPU with avx9000"):
        library.load(path)


def test_workers():
    assert CpuTarget().machine(None).workers == features.cores() >= 1
    assert CpuTarget().machine(3).workers == 3
    for bad in (0, -1, 100000):
        with pytest.raises(OptionError, match=f"workers={bad} "):
            CpuTarget().machine(bad)


def test_cores_respect_affinity():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert features.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_an_event_that_is_never_reached():
    """The tasks that signal it stand behind the one that awaits it, in the same queue."""
    program = P.mlp(workers=1, style="op")
    awaited = dataclasses.replace(program.tasks[0], waits=((0, 1),), signals=())
    last = dataclasses.replace(program.tasks[-1], waits=(), signals=(0,))
    tasks = (awaited, *(dataclasses.replace(t, waits=(), signals=()) for t in program.tasks[1:-1]), last)
    program = dataclasses.replace(program, tasks=tasks, events=(Event(1),))
    executable = CpuTarget().build(program, folder())
    executable.set_deadline(0.05)
    with pytest.raises(LaunchError, match=r"worker 0, task 0 \(gate_up\): event 0 stood at 0 .*, awaited 1"):
        P.run(program, executable=executable)


def test_threads_take_turns():
    program = P.mlp()
    executable = CpuTarget().build(program, folder())
    want, failures = P.run(program), []

    def work(seed):
        for _ in range(20):
            got = P.run(program, executable=executable)
            if not torch.allclose(got["out"], want["out"], atol=1e-4):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_forked_child_launches():
    program = P.mlp()
    executable = CpuTarget().build(program, folder())
    want = P.run(program, executable=executable)["out"]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if torch.equal(P.run(program, executable=executable)["out"], want) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_same_program_gives_the_same_source_and_bits():
    from onelaunch.targets.cpu.emit import source

    program = P.attention()
    assert source(program) == source(P.attention())
    executable = CpuTarget().build(program, folder())
    first = P.run(program, P.attention_inputs(), executable=executable)
    second = P.run(program, P.attention_inputs(), executable=executable)
    assert all(torch.equal(first[k], second[k]) for k in first)
