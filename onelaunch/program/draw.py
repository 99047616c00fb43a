"""Pictures of a program, as self-contained SVG: its ops and what they depend on, and the queue of each worker."""

from __future__ import annotations

from pathlib import Path

from onelaunch.errors import UserError
from onelaunch.program.draw_ops import draw_ops
from onelaunch.program.draw_queues import draw_queues
from onelaunch.program.program import Program

__all__ = ["draw", "draw_ops", "draw_queues"]


def draw(program: Program, path: str | Path) -> list[Path]:
    """Write ``<path>.svg`` of ops and dependencies and ``<path>.queues.svg`` of workers; returns the files.

    ``path`` may carry its suffix already. Raises UserError where the disk refuses.
    """
    base = Path(path)
    base = base.with_suffix("") if base.suffix in (".svg", ".html") else base
    files = [base.with_name(base.name + ".svg"), base.with_name(base.name + ".queues.svg")]
    for file, picture in zip(files, (draw_ops, draw_queues), strict=True):
        try:
            file.write_text(picture(program), encoding="utf-8")
        except OSError as error:
            raise UserError(f"the drawing cannot be written to {file}: {error.strerror}") from None
    return files
