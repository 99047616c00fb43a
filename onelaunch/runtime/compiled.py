"""Segments: what a lowered part of a model becomes. Programs by token bucket, made when a call needs them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import torch

from onelaunch.errors import CallError
from onelaunch.errors import OnelaunchError
from onelaunch.errors import ProgramFormatError
from onelaunch.errors import UnsupportedError
from onelaunch.frontend.options import Options
from onelaunch.frontend.symbols import ranges as symbol_ranges
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph_text import parse_graph
from onelaunch.graph.graph_text import print_graph
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import Symbol
from onelaunch.runtime import buckets
from onelaunch.runtime import signature
from onelaunch.runtime.apart import Draft
from onelaunch.runtime.apart import Processes
from onelaunch.runtime.binding import Binding
from onelaunch.runtime.binding import device_of
from onelaunch.runtime.dump import dump
from onelaunch.runtime.forks import renewed_in_children
from onelaunch.runtime.make import Clock
from onelaunch.runtime.make import Made
from onelaunch.runtime.make import Maker
from onelaunch.runtime.signature import Signature

log = logging.getLogger(__name__)
VERSION = 1  # of what ``save`` returns
NAME = "segment"  # of every graph's text, so that equal graphs have equal texts


class CompiledSegment:
    """See ``onelaunch.frontend.segment.Segment``. Calls may come from several threads.

    ``text``: the graph with the ranges torch knows, from which the programs of all buckets are made, and which (with
    the machine and all else in ``cache.settings``) names them on disk.
    """

    def __init__(self, name: str, text: str, sign: Signature, symbols: tuple[Symbol, ...], maker: Maker) -> None:
        self.name, self.text, self.signature, self.symbols, self.maker = name, text, sign, symbols, maker
        self.sizing: frozenset[str] = frozenset()
        self.graph: Graph | None = None  # what ``text`` says, once it has been needed
        self.programs: list[Program] = []
        self.seconds: dict[str, float] = {}  # spent on compilation, by stage
        self.cache_hit = True
        self.launches = 0
        self._bindings: dict[tuple[Symbol, ...], Binding] = {}
        self._by_values: dict[tuple[int, ...], Binding] = {}
        self._lock = threading.Lock()
        renewed_in_children(self)

    def renew(self) -> None:
        """In a forked child: another thread may have been making a program."""
        self._lock = threading.Lock()

    @property
    def compile_seconds(self) -> float:
        """Spent on compilation so far."""
        return sum(self.seconds.values())

    @property
    def launch(self) -> str:
        """How programs run: as one launch, or op by op in a graph."""
        return self.maker.options.launch

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The programs made so far, each with what it is called through."""
        return tuple(self._bindings.values())

    @property
    def copies(self) -> int:
        """Arguments copied so far because their strides were not those of the program."""
        return sum(b.copies for b in self._bindings.values())

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Run once; see ``onelaunch.frontend.segment.Segment``."""
        sign = self.signature
        if len(args) != sign.arguments:
            raise CallError(f"{self.name} got {len(args)} arguments; accepted: {sign.arguments}")
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in args):
            raise CallError(f"{self.name} got a tensor that requires grad; accepted: calls under torch.no_grad()")
        values = self._values(args) if self.symbols else ()
        binding = self._by_values.get(values) or self._binding(values)
        made = binding.call(args, values)
        self.launches += 1
        return tuple([args[-1 - r] if r < 0 else made[r] for r in sign.results])

    def prepare(self, values: Sequence[int]) -> Program:
        """Make the program for these values of the symbols now, rather than at the first call."""
        return self._binding(tuple(values)).program

    def save(self) -> dict[str, Any] | None:
        """See ``onelaunch.frontend.segment.Segment``."""
        return {
            "version": VERSION,
            "graph": self.text,
            "signature": self.signature.to_json(),
            "symbols": _symbols_to_json(self.symbols),
            "sizing": sorted(self.sizing),
            "prepared": [_symbols_to_json(symbols) for symbols in self._bindings],
        }

    def _values(self, args: Sequence[Any]) -> tuple[int, ...]:
        sources = zip(self.signature.sources, self.symbols, strict=True)
        return tuple([source.read(args, symbol.name) for source, symbol in sources])

    def _binding(self, values: tuple[int, ...]) -> Binding:
        binding = self.bind(buckets.ranges(self.symbols, self.sizing, values, self.maker.machine.fixed))
        with self._lock:
            if len(self._by_values) >= 1024:  # positions grow without end
                self._by_values.clear()
            self._by_values[values] = binding
        return binding

    def bind(self, symbols: tuple[Symbol, ...]) -> Binding:
        """The program for these ranges of the symbols, made if there is none, and what it is called through."""
        with self._lock:
            return self._bindings.get(symbols) or self._make(symbols)

    def extend(self, symbol: str, sizes: Sequence[int]) -> None:
        """Make the programs so far for other sizes of one symbol now, side by side. Where that fails for a size, its
        first call says why.
        """
        with self._lock, Processes() as processes:
            others = self._others(symbol, sizes)
            absent = [other for other in others if not self.maker.is_stored(self._identity(other))]
            drafts = {other: self._draft(other, processes) for other in absent} if len(absent) > 1 else {}
            ends = []
            for other in others:
                with _left_to_its_call():
                    ends.append(self._begin(other, drafts.get(other)))
            for end in ends:
                with _left_to_its_call():
                    end()

    def _others(self, symbol: str, sizes: Sequence[int]) -> list[tuple[Symbol, ...]]:
        """The symbols' ranges of the programs that there are not yet for other sizes of one symbol."""
        found: dict[tuple[Symbol, ...], None] = {}
        for made, size in itertools.product(list(self._bindings), sizes):
            with _left_to_its_call():
                other = tuple(
                    buckets.ranges([own], self.sizing, [size], self.maker.machine.fixed)[0] if own.name == symbol else s
                    for own, s in zip(self.symbols, made, strict=True)
                )
                if other not in self._bindings:
                    found[other] = None
        return list(found)

    def _draft(self, symbols: tuple[Symbol, ...], processes: Processes) -> Callable[[], Draft | None]:
        maker = self.maker
        return processes.draft(self.text, symbols, self._name(symbols), maker.machine, maker.options.check)

    def _make(self, symbols: tuple[Symbol, ...]) -> Binding:
        return self._begin(symbols)()

    def _begin(
        self, symbols: tuple[Symbol, ...], draft: Callable[[], Draft | None] | None = None
    ) -> Callable[[], Binding]:
        identity = self._identity(symbols)
        end = self.maker.begin(self._name(symbols), identity, lambda: self._specialised(symbols), draft)
        return lambda: self._keep(symbols, end())

    def _identity(self, symbols: tuple[Symbol, ...]) -> str:
        """What the program for these ranges is made from."""
        return "".join(f"{s.name} {s.minimum} {s.maximum}\n" for s in symbols) + self.text

    def _name(self, symbols: tuple[Symbol, ...]) -> str:
        largest = [self._size(s) for s in symbols if s.name in self.sizing]
        return f"{self.name}@{','.join(largest)}" if largest else self.name

    def _keep(self, symbols: tuple[Symbol, ...], made: Made) -> Binding:
        outputs = {b.argument for b in made.program.buffers if b.role is Role.OUTPUT}
        missing = [r for r in self.signature.results if r >= 0 and r not in outputs]
        if missing:
            raise UnsupportedError(f"result {missing[0]} of {self.name} has no memory of its own")
        for stage, seconds in made.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.cache_hit = self.cache_hit and made.cache_hit
        self.programs.append(made.program)
        binding = self._bindings[symbols] = Binding(made.program, made.executable, device_of(made.executable))
        binding.keep = made
        if (folder := self.maker.options.dump_dir) is not None:
            dump(folder, self.text, made.program, made.folder)
        return binding

    def _size(self, symbol: Symbol) -> str:
        """What a program's name says of a size: the largest, and where another program may have the same, the least."""
        varies = self.maker.machine.fixed and symbol.minimum != symbol.maximum
        return f"{symbol.minimum}-{symbol.maximum}" if varies else str(symbol.maximum)

    def _specialised(self, symbols: tuple[Symbol, ...]) -> Graph:
        graph = self.graph or parse_graph(self.text)
        self.graph = graph if symbols else None  # compilation uses a graph up
        return buckets.specialise(graph, symbols) if symbols else graph


@contextlib.contextmanager
def _left_to_its_call() -> Iterator[None]:
    """A program that nobody has asked for yet: whoever does will meet the error again."""
    try:
        yield
    except OnelaunchError as error:
        log.info("not made ahead: %s", error)
    except Exception:
        log.exception("a program could not be made ahead")


def compile_segment(module: torch.fx.GraphModule, constants: set[str], options: Options, name: str) -> CompiledSegment:
    """See ``onelaunch.frontend.segment``. Raises UnsupportedError naming what cannot be lowered, CheckError for a
    program without a certificate, CompilerError where the target cannot be built for.
    """
    from onelaunch.frontend.lower import lower

    clock = Clock()
    with clock("lower"):
        graph = lower(module, constants, symbol_ranges(module), NAME)
        sign = signature.signature_of(module, graph)
        text = print_graph(graph)
    segment = CompiledSegment(name, text, sign, graph.symbols, Maker(options))
    segment.graph, segment.seconds = graph, clock.seconds
    segment.sizing = buckets.sizing_symbols(graph)
    segment.prepare(signature.hints(module, sign, graph.symbols))
    return segment


def load_segment(saved: Mapping[str, Any], options: Options, name: str) -> CompiledSegment:
    """The segment that ``save`` described, its first program made again (from disk, where it is there). Raises
    ProgramFormatError where ``saved`` is not usable.
    """
    if saved.get("version") != VERSION:
        raise ProgramFormatError(f"stored segment has version {saved.get('version')!r}; accepted: {VERSION}")
    try:
        text = str(saved["graph"])
        symbols = _symbols_from_json(saved["symbols"])
        sizing = frozenset(map(str, saved["sizing"]))
        prepared = [_symbols_from_json(s) for s in saved["prepared"]]
        sign = signature.from_json(saved["signature"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProgramFormatError(f"stored segment is damaged: {error!r}") from None
    if len(sign.sources) != len(symbols):
        raise ProgramFormatError("stored segment is damaged: a symbol has no source")
    segment = CompiledSegment(name, text, sign, symbols, Maker(options))
    segment.sizing = sizing
    for ranges in prepared[:1]:
        segment.bind(ranges)
    return segment


def _symbols_to_json(symbols: Sequence[Symbol]) -> list[list[Any]]:
    return [[s.name, s.minimum, s.maximum] for s in symbols]


def _symbols_from_json(stored: Sequence[Any]) -> tuple[Symbol, ...]:
    return tuple(Symbol(str(name), int(low), int(high)) for name, low, high in stored)
