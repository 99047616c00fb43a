"""``onelaunch program``: what it says of a saved program, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import onelaunch
from tests.cli.test_refusals import refused
from tests.program.programs import two_ops


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onelaunch.save(two_ops(), tmp_path / "program.txt")
    return tmp_path / "program.txt"


def test_summary_and_certificate(command, file):
    outcome = command("program", file)
    assert outcome.status == 0 and outcome.err == ""
    name, numbers, checked = outcome.out.splitlines()
    assert name.startswith(two_ops().name) and "tokens from 1 to 4" in name
    assert "3 ops, 5 tasks" in numbers and checked.startswith("checked: ")


def test_the_whole_program_is_printed(command, file):
    assert file.read_text().rstrip("\n") in command("program", file, "--print").out
    assert str(onelaunch.load(file)) == file.read_text().rstrip("\n")


def test_pictures(command, file):
    outcome = command("program", file, "--draw", file.parent / "step")
    assert outcome.status == 0
    for picture in ("step.svg", "step.queues.svg"):
        assert str(file.parent / picture) in outcome.out
        assert (file.parent / picture).read_text().startswith("<svg ")


def test_launches(command, file):
    assert (
        "launched 3 times on made-up arguments: "
        in command("program", file, "--launches", "3", "--target", "reference").out
    )


def test_what_is_refused(command, file, tmp_path):
    refused(command("program", tmp_path / "none"), str(tmp_path / "none"), "No such file")
    refused(command("program", tmp_path), str(tmp_path), "Is a directory")
    refused(command("program", file, "--target", "tpu"), "'tpu'", "reference")
    refused(command("program", file, "--launches", "-1"), "launches -1", "from 0 up")
    refused(command("program", file, "--draw", tmp_path / "absent" / "step"), "absent/step.svg", "No such file")
    text = file.read_text()
    (tmp_path / "other").write_text(text.replace("onelaunch program 1", "onelaunch program 99", 1))
    refused(command("program", tmp_path / "other"), "other", "version 99", "reads version 1")
    (tmp_path / "half").write_text(text[: len(text) // 2])
    refused(command("program", tmp_path / "half"), "half")
    (tmp_path / "binary").write_bytes(b"\x7fELF\xff\xfe")
    refused(command("program", tmp_path / "binary"), "is not a program")
    racing = dataclasses.replace(two_ops().tasks[2], waits=())
    broken = dataclasses.replace(two_ops(), tasks=(*two_ops().tasks[:2], racing, *two_ops().tasks[3:]))
    onelaunch.save(broken, tmp_path / "racing")
    refused(command("program", tmp_path / "racing", "--draw", tmp_path / "never"), "is refused", "race")
    assert not list(tmp_path.glob("never*"))


def test_the_same_from_python(tmp_path, file):
    program = onelaunch.load(file)
    assert program == two_ops()
    x, w = torch.randn(3, 8), torch.randn(8, 8).bfloat16()
    (y,) = onelaunch.run(program, [x, w, torch.tensor([41])], options={"target": "reference"})
    torch.testing.assert_close(y, (x + 1) @ w.float().T)
    assert [f.name for f in onelaunch.draw(program, tmp_path / "p.svg")] == ["p.svg", "p.queues.svg"]
    with pytest.raises(onelaunch.errors.OptionError, match="unknown option 'tagret'"):
        onelaunch.run(program, [], options={"tagret": "cpu"})
    with pytest.raises(onelaunch.errors.UserError, match="cannot be written"):
        onelaunch.draw(program, tmp_path / "absent" / "p")
