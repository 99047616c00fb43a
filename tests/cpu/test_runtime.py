"""The persistent-thread engine: synthetic programs launched by a C++ harness, plain and under ThreadSanitizer."""

from __future__ import annotations

import subprocess

import pytest

CASES = ["storm", "wrap", "abort", "fault", "callers", "crowd", "refuse"]


def run(path, *arguments):
    done = subprocess.run([str(path), *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "ok\n"


@pytest.mark.parametrize("case", [*CASES, "fork"])
def test_synthetic_programs(native, case):
    run(native.build("harness.cpp", shared=False), case)


@pytest.mark.parametrize("case", CASES)
def test_thread_sanitizer(native, case):
    """Without `fork`: the sanitizer does not support threads made after a fork of a process with threads."""
    path = native.build("harness.cpp", flags=("-fsanitize=thread", "-g", "-O1"), shared=False)
    run(path, case, "10")


def test_thread_sanitizer_sees_a_missing_wait(native):
    """The positive control: with the waits taken out, the sanitizer must object."""
    flags = ("-fsanitize=thread", "-g", "-O1", "-DONELAUNCH_TEST_IGNORE_WAITS")
    path = native.build("harness.cpp", flags=flags, shared=False)
    done = subprocess.run([str(path), "race", "10"], capture_output=True, text=True, timeout=300, check=False)
    assert "data race" in done.stderr
