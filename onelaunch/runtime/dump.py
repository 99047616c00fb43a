"""Writes what was compiled to a folder, for people: graph, program, pictures, generated sources."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from onelaunch.program.draw import draw_ops
from onelaunch.program.draw import draw_queues
from onelaunch.program.program import Program
from onelaunch.program.text import print_program

log = logging.getLogger(__name__)

_SOURCES = (".cpp", ".h", ".cu", ".cuh")


def dump(folder: Path, graph: str, program: Program, built: Path | None) -> None:
    """Write all levels of one program below ``folder/<its name>``; ``built``: where its target's files are.

    A folder that cannot be written is no error: a warning says so.
    """
    place = folder / "".join(c if c.isalnum() or c in "._-@" else "_" for c in program.name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "graph.txt").write_text(graph)
        (place / "program.txt").write_text(print_program(program))
        (place / "ops.svg").write_text(draw_ops(program))
        (place / "queues.svg").write_text(draw_queues(program))
        for file in sorted(built.iterdir()) if built is not None and built.is_dir() else ():
            if file.suffix in _SOURCES:
                shutil.copyfile(file, place / file.name)
    except OSError as error:
        log.warning("nothing is dumped to %s: %s", folder, error)
