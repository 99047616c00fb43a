"""From a graph to something to launch: transform, check, build, each timed; or all of it found on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

from torch.utils._python_dispatch import _disable_current_modes

from onelaunch.errors import CheckError
from onelaunch.errors import CompilerError
from onelaunch.errors import ProgramFormatError
from onelaunch.frontend.options import Options
from onelaunch.graph.graph import Graph
from onelaunch.program.cache import Cache
from onelaunch.program.cache import key as cache_key
from onelaunch.program.program import Program
from onelaunch.program.text import parse_program
from onelaunch.program.text import print_program
from onelaunch.runtime import cache as caches
from onelaunch.runtime.targets import select
from onelaunch.targets.base import Executable
from onelaunch.targets.base import Target

log = logging.getLogger(__name__)

PROGRAM = "program.txt"


@dataclasses.dataclass(eq=False)
class Made:
    """A program, what runs it, and how it came about. Built files that are not in the cache live as long as this, where
    somebody wants to see them (``dump_dir``), and else no longer than it takes to load them.
    """

    program: Program
    executable: Executable
    cache_hit: bool
    seconds: dict[str, float]  # by stage: transform, check, build; or load, check, build
    folder: Path | None  # of the built files; None: they are gone


class Maker:
    """Makes programs for one set of options."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.target: Target = select(options.target, options.launch)
        self.machine = self.target.machine(options.workers)
        self.cache: Cache | None = caches.of(options)

    def make(self, name: str, text: str, graph: Callable[[], Graph]) -> Made:
        """The program of ``graph()``, which ``text`` identifies, under a name of its own. Raises UnsupportedError,
        CheckError, CompilerError.
        """
        key = cache_key("program", text, *caches.settings(self.options))
        with _disable_current_modes():  # the caller traces fake tensors; a target may allocate real ones
            found = self._stored(key, name)
            return self._fresh(key, name, graph) if found is None else found

    def _stored(self, key: str, name: str) -> Made | None:
        entry = self.cache.find(key) if self.cache is not None else None
        if self.cache is None or entry is None:
            return None
        clock = Clock()
        try:
            with clock("load"):
                program = parse_program((entry / PROGRAM).read_text())
                program = dataclasses.replace(program, name=name)
            self._check(program, clock)
            with clock("build"):
                executable = self.target.build(program, entry)
        except (OSError, ValueError, ProgramFormatError, CheckError, CompilerError) as error:
            log.warning("cache entry %s is built anew: %s", key[:16], error)
            self.cache.drop(key)
            return None
        return Made(program, executable, True, clock.seconds, entry)

    def _fresh(self, key: str, name: str, graph: Callable[[], Graph]) -> Made:
        from onelaunch.transform import compile_graph

        clock = Clock()
        with clock("transform"):
            program = dataclasses.replace(compile_graph(graph(), self.machine), name=name)
        return self.build(program, key, clock)

    def build(self, program: Program, key: str | None = None, clock: Clock | None = None) -> Made:
        """Check and build a program; ``key``: where to keep it on disk."""
        clock = clock or Clock()
        self._check(program, clock)
        built: list[Executable] = []

        def write(folder: Path) -> None:
            if key is not None:
                (folder / PROGRAM).write_text(print_program(program))
            built.append(self.target.build(program, folder))

        with clock("build"):
            kept = self.cache.store(key, write) if self.cache is not None and key is not None else None
            if built:
                return Made(program, built[0], False, clock.seconds, kept)
            folder = Path(tempfile.mkdtemp(prefix="onelaunch-"))
            keep = False
            try:
                write(folder)
                keep = self.options.dump_dir is not None
            finally:
                if not keep:  # what is loaded needs no file, and a process that is killed cleans up nothing
                    shutil.rmtree(folder, ignore_errors=True)
        made = Made(program, built[0], False, clock.seconds, folder if keep else None)
        if keep:
            weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
        return made

    def _check(self, program: Program, clock: Clock) -> None:
        if not self.options.check:
            return
        from onelaunch.check import check

        with clock("check"):
            check(program)


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time inside to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
