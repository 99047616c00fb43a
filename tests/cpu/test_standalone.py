"""Programs of the real compiler, saved, loaded and run without Python under ThreadSanitizer."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from onelaunch.program.file import load
from onelaunch.program.file import save
from onelaunch.program.program import Program
from onelaunch.targets.cpu.standalone import standalone
from tests.check import scheduled

SANITIZED = ("-fsanitize=thread", "-g", "-O1", "-w")


def run(native, program: Program, folder: Path) -> subprocess.CompletedProcess[str]:
    """Save, load, compile with the sanitizer, launch 20 times."""
    save(program, folder / "program.onelaunch")
    source = folder / "program.cpp"
    source.write_text(standalone(load(folder / "program.onelaunch")))
    path = native.build(source, flags=SANITIZED, shared=False)
    return subprocess.run([str(path), "20"], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("make", [scheduled.block, scheduled.attend])
def test_thread_sanitizer_is_content(native, make, tmp_path):
    done = run(native, make(), tmp_path)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr


def test_thread_sanitizer_sees_a_program_without_waits(native, tmp_path):
    """The positive control: the same program, no task waits for anything."""
    program = scheduled.block()
    loose = dataclasses.replace(program, tasks=tuple(dataclasses.replace(t, waits=()) for t in program.tasks))
    assert "data race" in run(native, loose, tmp_path).stderr
