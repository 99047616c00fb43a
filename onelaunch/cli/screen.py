"""What a person sees: progress on standard error, the answer and the table on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import Progress
from rich.progress import SpinnerColumn
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.text import Text

from onelaunch.models.gguf_reader import Progress as OnProgress


class Screen:
    """Progress and notes, text, and the table."""

    def __init__(self) -> None:
        self._errors = Console(stderr=True, highlight=False)
        self._output = Console(highlight=False)

    @contextmanager
    def stage(self, text: str) -> Iterator[OnProgress]:
        """A line with a spinner and the time while inside, and a line that stays when done.

        Yields a function to call with (done, total) where the stage can count.
        """
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(20),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._errors) as progress:
            task = progress.add_task(text, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
            progress.update(task, completed=1, total=1)

    def note(self, text: str) -> None:
        """A line on standard error."""
        self._errors.print(text, markup=False, soft_wrap=True)

    @staticmethod
    def write(text: str) -> None:
        """A piece of the answer, at once and exactly as it is."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def table(self, rows: list[tuple[str, str]]) -> None:
        """The closing table."""
        width = max(len(label) for label, _ in rows)
        self._output.print()
        for label, value in rows:  # not a rich table: that would break values to 80 columns where output is piped
            self._output.print(Text(f"{label:<{width}}  ", style="dim").append(value, style="default"), soft_wrap=True)
