"""Programs as files: whole or not at all, and errors that say what is wrong with which file."""

from __future__ import annotations

from pathlib import Path

import pytest

from onelaunch.errors import ProgramFormatError
from onelaunch.errors import UserError
from onelaunch.program.file import load
from onelaunch.program.file import save
from tests.program.programs import odd_names
from tests.program.programs import two_ops


def test_what_was_saved_is_loaded(tmp_path: Path):
    for program in (two_ops(), odd_names()):
        save(program, tmp_path / "p.onelaunch")
        assert load(str(tmp_path / "p.onelaunch")) == program
    assert [p.name for p in tmp_path.iterdir()] == ["p.onelaunch"]


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "p"
    save(two_ops(), path)

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match=r"cannot be written to .*: disk full"):
        save(odd_names(), path)
    assert load(path) == two_ops() and [p.name for p in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("path", ["missing/p", "folder"])
def test_where_nothing_can_be_written(tmp_path: Path, path: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        save(two_ops(), tmp_path / path)
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "p: program, line 1: expected 'onelaunch program 1', found ''"),
        (b"\x7fELF\xff\xfe", "p is not a program: it is not text"),
        (b"onelaunch program 2\n", "the program is of version 2, this onelaunch reads version 1"),
        (b"onelaunch program 1\nname ", "line 2: expected 'name"),
    ],
)
def test_what_is_no_program_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ProgramFormatError, match=message):
        load(tmp_path / "p")
