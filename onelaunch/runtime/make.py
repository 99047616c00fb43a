"""From a graph to something to launch: transform, check, build, each timed; or all of it found on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
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
from onelaunch.program.text import parse_printed
from onelaunch.program.text import parse_program
from onelaunch.program.text import print_program
from onelaunch.runtime import cache as caches
from onelaunch.runtime.apart import Draft
from onelaunch.runtime.targets import select
from onelaunch.targets.base import Executable
from onelaunch.targets.base import Target

log = logging.getLogger(__name__)

PROGRAM, CERTIFICATE = "program.txt", "certificate.json"


@dataclasses.dataclass(eq=False)
class Made:
    """A program, what runs it, and how it came about. Built files that are not in the cache live as long as this, where
    somebody wants to see them (``dump_dir``), and else no longer than it takes to load them.
    """

    program: Program
    executable: Executable
    cache_hit: bool
    seconds: dict[str, float]  # by stage: transform, check, build; or load, build, with check if it was never made
    folder: Path | None  # of the built files; None: they are gone


class Maker:
    """Makes programs for one set of options."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.target: Target = select(options.target, options.launch)
        self.machine = self.target.machine(options.workers)
        self.cache: Cache | None = caches.of(options)

    def begin(
        self, name: str, text: str, graph: Callable[[], Graph], draft: Callable[[], Draft | None] | None = None
    ) -> Callable[[], Made]:
        """Start to make the program of ``graph()``, which ``text`` identifies, under a name of its own. The call that
        is returned ends it; several may be begun before the first is ended, then they compile side by side. Either step
        raises UnsupportedError, CheckError, CompilerError. ``draft``: gives what another process has made of the graph.
        """
        key = self._key(text)
        with _disable_current_modes():  # the caller traces fake tensors; a target may allocate real ones
            found = self._stored(key, name)
            return self._fresh(key, name, graph, draft) if found is None else lambda: found

    def is_stored(self, text: str) -> bool:
        """Whether the cache has an entry for what ``text`` identifies."""
        return self.cache is not None and self.cache.find(self._key(text)) is not None

    def _key(self, text: str) -> str:
        return cache_key("program", text, *caches.settings(self.options))

    def _stored(self, key: str, name: str) -> Made | None:
        entry = self.cache.find(key) if self.cache is not None else None
        if self.cache is None or entry is None:
            return None
        clock = Clock()
        try:
            with clock("load"):
                text = (entry / PROGRAM).read_text()
                certified = _is_certified(entry, text)
                program = dataclasses.replace((parse_printed if certified else parse_program)(text), name=name)
            if not certified:
                self._check(program, clock)
            with clock("build"):
                executable = self.target.load(program, entry)
        except (OSError, ValueError, ProgramFormatError, CheckError, CompilerError) as error:
            log.warning("cache entry %s is built anew: %s", key[:16], error)
            self.cache.drop(key)
            return None
        return Made(program, executable, True, clock.seconds, entry)

    def _fresh(
        self, key: str, name: str, graph: Callable[[], Graph], draft: Callable[[], Draft | None] | None
    ) -> Callable[[], Made]:
        from onelaunch.transform import compile_graph

        clock = Clock()
        with clock("transform"):
            drafted = None if draft is None else draft()
            if drafted is not None:
                program = drafted.program
            else:
                program = dataclasses.replace(compile_graph(graph(), self.machine), name=name)
        return self._begin(program, key, clock, drafted)

    def build(self, program: Program) -> Made:
        """Check and build a program that is at hand; nothing is kept on disk."""
        return self._begin(program, None, Clock())()

    def _begin(
        self, program: Program, key: str | None, clock: Clock, drafted: Draft | None = None
    ) -> Callable[[], Made]:
        try:
            with clock("build"):
                load = self.target.begin(program)  # what compiles meanwhile is not loaded before the check has passed
        except CompilerError:
            self._check(program, clock)  # what it finds is the better reason
            raise

        def end() -> Made:
            with _disable_current_modes():
                return self._end(program, load, key, clock, drafted)

        return end

    def _end(
        self, program: Program, load: Callable[[Path], Executable], key: str | None, clock: Clock, drafted: Draft | None
    ) -> Made:
        if drafted is not None and drafted.certificate is not None:
            certificate: str | None = drafted.certificate
        else:
            certificate = self._check(program, clock)
        built: list[Executable] = []

        def write(folder: Path) -> None:
            if key is not None:
                text = print_program(program) if drafted is None else drafted.text
                (folder / PROGRAM).write_text(text)
                if certificate is not None:
                    (folder / CERTIFICATE).write_text(_print_certificate(certificate, text))
            built.append(load(folder))

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

    def _check(self, program: Program, clock: Clock) -> str | None:
        """The certificate's text; None: nobody wants one."""
        if not self.options.check:
            return None
        from onelaunch.check import check

        with clock("check"):
            return str(check(program))


def _print_certificate(certificate: str, text: str) -> str:
    """What ``_is_certified`` believes: an entry's key names the sources that checked it (``fingerprint``)."""
    return json.dumps({"program": hashlib.sha256(text.encode()).hexdigest(), "certificate": certificate}, indent=1)


def _is_certified(entry: Path, text: str) -> bool:
    """Whether the program that ``text`` prints was checked before it was stored."""
    try:
        found = json.loads((entry / CERTIFICATE).read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("program") == hashlib.sha256(text.encode()).hexdigest()


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
