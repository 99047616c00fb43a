"""The seam to the runtime: what a lowered part of a graph becomes.

``onelaunch.runtime.compiled`` offers two functions:

``compile_segment(module, constants, options, name) -> Segment`` makes a segment from a functional Core ATen module.
Its placeholders carry ``meta["val"]``; those named in ``constants`` are parameters. In-place updates of arguments are
``aten.copy_(placeholder, value)`` nodes, at most one an argument, which no later node reads. The output is a tuple of
nodes; their ``meta["val"]`` gives the size *and strides* the results must have. Symbolic sizes come as placeholders
whose ``val`` is a SymInt; their ranges are in the shape environment (``symbols.ranges``).

``load_segment(saved, options, name) -> Segment`` makes it again from what ``Segment.save`` returned, without tracing;
it raises ProgramFormatError where ``saved`` is not usable.

``onelaunch.runtime.cache`` keeps JSON values on disk (integrity and concurrent writers are its business):
``settings(options) -> list[str]`` is all that decides about a program besides the graph (target and its fingerprint,
machine, workers); ``read(key, options) -> dict | None`` and ``write(key, value, options)`` never raise for a cache that
is damaged or cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import torch

from onelaunch.frontend.options import Options
from onelaunch.program.program import Program


class Segment(Protocol):
    """Programs made from one module, one a token bucket, chosen by the sizes of each call."""

    @property
    def programs(self) -> Sequence[Program]:
        """Compiled so far."""

    @property
    def launches(self) -> int:
        """Launches so far."""

    @property
    def compile_seconds(self) -> float:
        """Spent on compilation so far."""

    @property
    def cache_hit(self) -> bool:
        """Every program so far came from disk."""

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Run once. ``args`` in the order of the module's placeholders; returns fresh tensors, one an output.

        Raises CallError for arguments that no program can take, LaunchError where the launch was aborted.
        """

    def save(self) -> dict[str, Any] | None:
        """A JSON value from which ``load_segment`` makes the segment again; None where that is not possible."""


Compiler = Callable[[torch.fx.GraphModule, set[str], Options, str], Segment]
