"""Programs as files: the text form, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from onelaunch.errors import ProgramFormatError
from onelaunch.errors import UserError
from onelaunch.program.program import Program
from onelaunch.program.text import parse_program
from onelaunch.program.text import print_program


def save(program: Program, path: str | Path) -> None:
    """Write ``program`` to a file, replacing one that is there. Raises UserError where the disk refuses; then the file
    is as it was.
    """
    path = Path(path)
    text = print_program(program)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8", newline="\n"
        ) as stream:
            temporary = Path(stream.name)
            stream.write(text)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"the program cannot be written to {path}: {error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def load(path: str | Path) -> Program:
    """Read a program. Raises UserError for a file that cannot be read, ProgramFormatError for one that is no program
    or one of another version. It is checked when it is run, not here.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"the program cannot be read from {path}: {error}") from error
    except UnicodeDecodeError:
        raise ProgramFormatError(f"{path} is not a program: it is not text") from None
    try:
        return parse_program(text)
    except ProgramFormatError as error:
        raise ProgramFormatError(f"{path}: {error}") from None
