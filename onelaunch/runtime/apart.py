"""Programs made by processes of their own, several at once: one process runs Python on one core, however many threads
it has.

A process gets a graph as text and gives back a program as text, and its certificate. It imports neither torch nor a
target, and begins in a fraction of a second. What it does not manage is done in this process instead, which then tells
the reason to whoever asked.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.spawn import get_executable
from types import TracebackType
from typing import Any
from typing import Self

from onelaunch.graph.dtype import DType
from onelaunch.graph.graph_text import parse_graph
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program
from onelaunch.program.program import Symbol
from onelaunch.program.text import parse_printed
from onelaunch.program.text import print_program
from onelaunch.runtime import buckets

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A program, the text that it was read from, and what the check says of it, if it was asked."""

    program: Program
    text: str
    certificate: str | None


class Processes:
    """As many at once as there are cores; a context, which waits for all of them."""

    def __init__(self) -> None:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._pool = ThreadPoolExecutor(allowed, "onelaunch-apart")  # threads that wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)

    def draft(
        self, graph: str, symbols: Sequence[Symbol], name: str, machine: Machine, check: bool
    ) -> Callable[[], Draft | None]:
        """Begin to make the program ``name`` of a graph's text for these ranges of its symbols. What is returned waits
        for it; None: the process has failed.
        """
        request = {
            "graph": graph, "symbols": [dataclasses.astuple(s) for s in symbols], "name": name,
            "machine": dataclasses.asdict(machine) | {"activation": machine.activation.value}, "check": check,
        }  # fmt: skip
        answer = self._pool.submit(_ask, json.dumps(request))

        def wait() -> Draft | None:
            found = answer.result()
            if found is None:
                return None
            return Draft(parse_printed(found["program"]), found["program"], found["certificate"])

        return wait


def _ask(request: str) -> dict[str, Any] | None:
    """The answer of a new process; None where it has none."""
    path = os.pathsep.join(p for p in sys.path if p)
    try:
        done = subprocess.run(
            [get_executable(), "-P", "-m", __name__], input=request, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        log.info("a process of its own has made no program: %s", said.rpartition("\n")[2])
        return None


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a process does: see ``Processes.draft``."""
    from onelaunch.check import check
    from onelaunch.transform import compile_graph

    machine = Machine(**request["machine"] | {"activation": DType(request["machine"]["activation"])})
    graph, symbols = parse_graph(request["graph"]), [Symbol(*s) for s in request["symbols"]]
    graph = buckets.specialise(graph, symbols) if symbols else graph
    program = dataclasses.replace(compile_graph(graph, machine), name=request["name"])
    certificate = str(check(program)) if request["check"] else None
    return {"program": print_program(program), "certificate": certificate}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
