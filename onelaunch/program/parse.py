"""Reads the text form of a program, line by line; every error names the line and what was expected there."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import overload

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest_text import NestReader
from onelaunch.graph.text import Scope
from onelaunch.graph.text import parse_list
from onelaunch.graph.text import short
from onelaunch.program.program import VERSION
from onelaunch.program.program import Axiom
from onelaunch.program.program import Buffer
from onelaunch.program.program import Event
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Scope as EventScope
from onelaunch.program.program import Span
from onelaunch.program.program import Symbol
from onelaunch.program.program import Task

_N = r"(\d{1,18})"
_I = r"(-?\d{1,19})"
_SHAPED = r"(\w+)\[(.*)\] strides \[(.*)\]"
_STRING = r'("(?:[^"\\]|\\.)*")'
_LINES = {
    "name": ('name "..."', rf"name {_STRING}"),
    "machine": ('machine "..."', rf"machine {_STRING}"),
    "workspace": ("workspace BYTES", rf"workspace {_N}"),
    "symbol": ("symbol NAME MINIMUM MAXIMUM", rf"symbol ([\w.]+) {_I} {_I}"),
    "buffer": (
        "buffer N ROLE NAME: TYPE[SHAPE] strides [STRIDES] argument N at BYTES",
        rf"buffer {_N} (\w+) (?:{_STRING}|([\w.]+)): {_SHAPED}(?: argument {_I})?(?: at {_N})?",
    ),
    "axiom": ("axiom KIND BUFFER", rf"axiom (\w+) {_N}"),
    "kernel": ("kernel N", rf"kernel {_N}"),
    "operand": ("operand NAME: TYPE[SHAPE] strides [STRIDES]", rf"  operand ([\w.]+): {_SHAPED}"),
    "event": ("event N total N scope SCOPE home N", rf"event {_N} total {_N} scope (\w+) home {_N}"),
    "op": ('op N "label"', rf"op {_N} {_STRING}"),
    "task": (
        "task N op N kernel N on BUFFERS tile L:H.. waits E>=V.. signals E.. reads B[L:H,..].. writes B[L:H,..]..",
        rf"task {_N} op {_N} kernel {_N} on((?: \d+)*)(?: tile((?: -?\d+:-?\d+)+))?(?: waits((?: \d+>=\d+)+))?"
        r"(?: signals((?: \d+)+))?(?: reads((?: \d+\[[^ ]*\])+))?(?: writes((?: \d+\[[^ ]*\])+))?",
    ),
    "queue": ("queue N tasks N N ..", rf"queue {_N} tasks((?: \d+)*)"),
    "end": ("end", "end"),
}
_PATTERNS = {word: re.compile(pattern) for word, (_, pattern) in _LINES.items()}
_REGION = re.compile(r"(\d+)\[((?:[-\d:,@]|\[\d+:\d+\])*)\]")
_SPAN = re.compile(r"(-?\d+):(-?\d+)(?:@(\d+)\[(\d+):(\d+)\])?")


def parse_program(text: str) -> Program:
    """The program that was printed as ``text``. Raises ProgramFormatError, which names the line and what was expected,
    or both versions where the text is of another one.
    """
    return _Reader(text).program()


def parse_printed(text: str) -> Program:
    """As ``parse_program``, for a text that ``print_program`` is known to have written: tasks, by far the most of it,
    are read when somebody looks at one.
    """
    return _Reader(text, later=True).program()


class _Later(Sequence[Task]):
    """The tasks of a text, of which only the number is known so far."""

    def __init__(self, count: int, read: Callable[[], tuple[Task, ...]]) -> None:
        self._count, self._read = count, read
        self._tasks: tuple[Task, ...] | None = None
        self._lock = threading.Lock()

    def _all(self) -> tuple[Task, ...]:
        with self._lock:
            if self._tasks is None:
                self._tasks = self._read()
                del self._read  # and with it the text
        return self._tasks

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Task: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Task, ...]: ...
    def __getitem__(self, at: int | slice) -> Task | tuple[Task, ...]:
        return self._all()[at]

    def __iter__(self) -> Iterator[Task]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, _Later) else other)

    def __hash__(self) -> int:
        return hash(self._all())


class _Reader:
    """Takes the lines in order; the sections' methods fill the lists that make the program."""

    def __init__(self, text: str, later: bool = False) -> None:
        self.later = later
        self.lines = text.split("\n")
        self.at = 0  # index of the next line
        self.scope = Scope({}, {}, DType)
        self.buffers: list[Buffer] = []
        self.kernels: list[Kernel] = []
        self.events: list[Event] = []
        self.ops: list[str] = []
        self.shapes: dict[str, tuple[Expr, ...]] = {}
        self.spans: dict[str, Span] = {}
        self.regions: dict[str, Region] = {}
        self.groups: dict[str, tuple[Region, ...]] = {}
        self.pairs: dict[str, tuple[tuple[int, int], ...]] = {}

    def program(self) -> Program:
        """Everything, or the first thing that is wrong."""
        self._version()
        try:
            return self._program()
        except ProgramFormatError as error:
            raise ProgramFormatError(f"program, line {self.at}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ProgramFormatError(f"program, line {self.at}: not understood ({error})") from None

    def _version(self) -> None:
        first = self.lines[0].rstrip("\r")
        found = re.fullmatch(r"onelaunch program (\d{1,9})", first)
        self.at = 1
        if found is None:
            raise ProgramFormatError(f"program, line 1: expected 'onelaunch program {VERSION}', found {short(first)}")
        if int(found[1]) != VERSION:
            raise ProgramFormatError(f"the program is of version {found[1]}, this onelaunch reads version {VERSION}")

    def _program(self) -> Program:
        name, machine = (json.loads(self._line(word)[1]) for word in ("name", "machine"))
        workspace = int(self._line("workspace")[1])
        symbols = tuple(Symbol(m[1], int(m[2]), int(m[3])) for m in self._all("symbol"))
        for s in symbols:
            self.scope.symbols[s.name] = Expr.make(Op.SYM, (), (s.name, s.minimum, s.maximum), DType.I64)
        self.buffers = [self._buffer(m) for m in self._numbered("buffer")]
        axioms = tuple(Axiom(m[1], self._below(m[2], "buffer", self.buffers)) for m in self._all("axiom"))
        for _ in self._numbered("kernel"):
            self.kernels.append(self._kernel())
        self.events = [Event(int(m[2]), EventScope(m[3]), int(m[4])) for m in self._numbered("event")]
        self.ops = [json.loads(m[2]) for m in self._numbered("op")]
        tasks: Sequence[Task] = self._tasks_later() if self.later else self._tasks()
        queues = tuple(tuple(self._below(t, "task", tasks) for t in m[2].split()) for m in self._numbered("queue"))
        self._line("end")
        if any(line.strip() for line in self.lines[self.at :]):
            self.at += 1
            raise ProgramFormatError(f"expected nothing after 'end', found {short(self.lines[self.at - 1])}")
        return Program(
            name, machine, symbols, tuple(self.buffers), tuple(self.kernels), tuple(self.events), tuple(self.ops),
            tasks, queues, workspace, axioms,
        )  # fmt: skip

    def _tasks(self) -> tuple[Task, ...]:
        return tuple(self._task(m) for m in self._numbered("task"))

    def _tasks_later(self) -> _Later:
        begin = self.at
        while self._starts("task"):
            self.at += 1
        count = self.at - begin

        def read() -> tuple[Task, ...]:
            self.at = begin
            return self._tasks()

        return _Later(count, read)

    def _line(self, word: str) -> re.Match[str]:
        """The next line, which must be of kind ``word``."""
        line = self.lines[self.at].rstrip("\r") if self.at < len(self.lines) else ""
        last = self.at >= len(self.lines) - (not self.lines[-1])
        self.at += 1
        found = _PATTERNS[word].fullmatch(line)
        if found is None:
            seen = "the end of the text" if last and not line else short(line)
            raise ProgramFormatError(f"expected '{_LINES[word][0]}', found {seen}")
        return found

    def _starts(self, word: str) -> bool:
        return self.at < len(self.lines) and self.lines[self.at].startswith(word + " ")

    def _all(self, word: str) -> list[re.Match[str]]:
        found = []
        while self._starts(word):
            found.append(self._line(word))
        return found

    def _numbered(self, word: str) -> Iterator[re.Match[str]]:
        """Every following line of kind ``word``; they must count up from 0."""
        number = 0
        while self._starts(word):
            found = self._line(word)
            if int(found[1]) != number:
                raise ProgramFormatError(f"expected '{word} {number}', found {short(found[0])}")
            yield found
            number += 1

    def _below(self, text: str, word: str, things: Sequence[object]) -> int:
        number = int(text)
        if number >= len(things):
            raise ProgramFormatError(f"{word} {number} does not exist; there are {len(things)}")
        return number

    def _exprs(self, text: str) -> tuple[Expr, ...]:
        found = self.shapes.get(text)
        if found is None:
            found = self.shapes[text] = parse_list(text, self.scope)
        return found

    def _shaped(self, dtype: str, shape: str, strides: str) -> tuple[DType, tuple[Expr, ...], tuple[Expr, ...]]:
        sizes, steps = self._exprs(shape), self._exprs(strides)
        if len(sizes) != len(steps):
            raise ProgramFormatError(f"expected a stride for each of {len(sizes)} dimensions, found {len(steps)}")
        return DType(dtype), sizes, steps

    def _buffer(self, m: re.Match[str]) -> Buffer:
        name = json.loads(m[3]) if m[3] else m[4]
        return Buffer(name, *self._shaped(m[5], m[6], m[7]), Role(m[2]), int(m[8] or -1), int(m[9] or 0))

    def _kernel(self) -> Kernel:
        operands = []
        while self._starts("  operand"):
            m = self._line("operand")
            operands.append(Operand(m[1], *self._shaped(m[2], m[3], m[4])))
        types = {o.name: o.dtype for o in operands}

        def dtype_of(name: str) -> DType:
            if name not in types:
                raise ProgramFormatError(f"{name!r} is not among the kernel's operands {', '.join(types)}")
            return types[name]

        reader = NestReader(Scope({}, self.scope.symbols, dtype_of))
        while reader.nest is None:
            line = self.lines[self.at] if self.at < len(self.lines) else ""
            self.at += 1
            if not line.startswith("  "):
                raise ProgramFormatError(f"expected a line of the kernel's nest, found {short(line)}")
            reader.feed(line)
        dtype_of(reader.nest.target)
        return Kernel(tuple(operands), reader.nest)

    def _task(self, m: re.Match[str]) -> Task:
        operands = tuple(self._below(b, "buffer", self.buffers) for b in m[4].split())
        kernel = self._below(m[3], "kernel", self.kernels)
        signals = tuple(self._below(e, "event", self.events) for e in m[7].split()) if m[7] else ()
        waits = self._pairs(m[6], ">=")
        for event, _ in waits:
            if event >= len(self.events):
                raise ProgramFormatError(f"event {event} does not exist; there are {len(self.events)}")
        return Task(
            self._below(m[2], "op", self.ops), kernel, operands, self._pairs(m[5], ":"), waits, signals,
            self._group(m[8]), self._group(m[9]),
        )  # fmt: skip

    def _pairs(self, text: str | None, sign: str) -> tuple[tuple[int, int], ...]:
        if text is None:
            return ()
        found = self.pairs.get(text)
        if found is None:
            parts = (piece.partition(sign) for piece in text.split())
            found = self.pairs[text] = tuple((int(a), int(b)) for a, _, b in parts)
        return found

    def _group(self, text: str | None) -> tuple[Region, ...]:
        if text is None:
            return ()
        found = self.groups.get(text)
        if found is None:
            found = self.groups[text] = tuple(self.regions.get(p) or self._region(p) for p in text.split())
        return found

    def _region(self, text: str) -> Region:
        m = _REGION.fullmatch(text)
        if m is None:
            raise ProgramFormatError(f"expected a region BUFFER[LOW:HIGH,..], found {short(text)}")
        pieces = m[2].split(",") if m[2] else ()
        box = [self.spans.get(piece) or self._span(piece) for piece in pieces]
        region = Region(self._below(m[1], "buffer", self.buffers), tuple(box))
        if len(box) != len(self.buffers[region.buffer].shape):
            raise ProgramFormatError(f"region {text} has {len(box)} dimensions, its buffer another number")
        self.regions[text] = region
        return region

    def _span(self, text: str) -> Span:
        m = _SPAN.fullmatch(text)
        if m is None:
            raise ProgramFormatError(f"expected a span LOW:HIGH or LOW:HIGH@BUFFER[LOW:HIGH], found {short(text)}")
        via = (self._below(m[3], "buffer", self.buffers), int(m[4]), int(m[5])) if m[3] else None
        span = self.spans[text] = Span(int(m[1]), int(m[2]), via)
        return span
