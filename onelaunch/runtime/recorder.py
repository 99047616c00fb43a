"""Records the launches of an executable: the only part of a timeline that differs between targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from typing import runtime_checkable

from onelaunch.errors import UserError
from onelaunch.program.timeline import Timeline
from onelaunch.program.timeline import timeline_of
from onelaunch.targets.base import Executable


@runtime_checkable
class Traced(Protocol):
    """An executable that can write down when its tasks ran. Until ``trace`` is called, launches cost nothing more than
    a test of a pointer a task.
    """

    def trace(self) -> object:
        """From now on, every launch writes its tasks' times, over those of the launch before."""

    def times(self) -> Sequence[tuple[int, int, int]]:
        """(arrived, began, ended) of every task of the last launch, in nanoseconds; waits for that launch to end.
        Forgets them: zeros where nothing was launched since.
        """


class Recorder:
    """Turns recording on, and reads it after each launch."""

    def __init__(self, executable: Executable, fresh: bool = True) -> None:
        """``fresh``: forget a launch that was recorded before. Raises UserError for a target that records nothing."""
        if not isinstance(executable, Traced):
            raise UserError(
                f"{executable.program.name} runs on a target that records no times; accepted: --target cpu, cuda"
            )
        self.program = executable.program
        self._executable: Traced = executable
        executable.trace()
        if fresh:
            executable.times()

    def take(self) -> Timeline | None:
        """The last launch; None where there was none since the last call. Raises LaunchError if it ended early."""
        times = self._executable.times()
        if not any(arrived for arrived, _, _ in times):
            return None
        return timeline_of(self.program, times)
