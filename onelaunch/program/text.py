"""The text form of programs, which is also how they are stored: one line a thing, in a fixed order.

    onelaunch program 1
    name "decode"
    machine "cpu"
    workspace 4096
    symbol tokens 1 8
    buffer 0 weight up: bf16[1536, 576] strides [576, 1] argument 3
    buffer 1 workspace x1: f32[$tokens, 576] strides [576, 1] at 1024
    axiom distinct 4
    kernel 0
      operand x: f32[$tokens, 576] strides [576, 1]
      ...
      for i0 < $tokens, i1 < 1536       (a nest: onelaunch.graph.nest_text)
        ...
    event 0 total 8 scope device home 0
    op 0 "linear layers.0.up_proj"
    task 0 op 0 kernel 0 on 1 0 2 tile 0:8 64:128 waits 0>=8 signals 1 reads 1[0:8,0:576] writes 2[0:8,64:128]
    queue 0 tasks 0 2 4
    end

In a region, ``0:16@7[0:4]`` are indices 0 to 15 that elements 0 to 3 of buffer 7 pick. ``parse_program`` gives back
a program equal to the one that was printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from collections.abc import Iterator

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.nest_text import print_nest
from onelaunch.graph.text import print_expr
from onelaunch.program.parse import parse_printed
from onelaunch.program.parse import parse_program
from onelaunch.program.program import VERSION
from onelaunch.program.program import Buffer
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Span
from onelaunch.program.program import Task

__all__ = ["parse_printed", "parse_program", "print_program"]

_WORD = re.compile(r"[\w.]+")


def print_program(program: Program) -> str:
    """``program`` as text. Raises ValueError where it could not be read back (a name with odd characters, a symbol
    whose range is not the one declared).
    """
    _verify(program)
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield f"onelaunch program {VERSION}"
    yield f"name {json.dumps(program.name)}"
    yield f"machine {json.dumps(program.machine)}"
    yield f"workspace {program.workspace}"
    yield from (f"symbol {s.name} {s.minimum} {s.maximum}" for s in program.symbols)
    yield from (_buffer(n, b) for n, b in enumerate(program.buffers))
    yield from (f"axiom {a.kind} {a.buffer}" for a in program.axioms)
    for n, kernel in enumerate(program.kernels):
        yield from _kernel(n, kernel)
    yield from (f"event {n} total {e.total} scope {e.scope} home {e.home}" for n, e in enumerate(program.events))
    yield from (f"op {n} {json.dumps(label)}" for n, label in enumerate(program.ops))
    texts: dict[int, str] = {}
    yield from (_task(n, t, texts) for n, t in enumerate(program.tasks))
    yield from (f"queue {n} tasks {' '.join(map(str, q))}".rstrip() for n, q in enumerate(program.queues))
    yield "end"


def _shaped(name: str, thing: Buffer | Operand) -> str:
    return f"{name}: {thing.dtype}[{_items(thing.shape)}] strides [{_items(thing.strides)}]"


def _items(exprs: Iterable[Expr]) -> str:
    return ", ".join(map(print_expr, exprs))


def _buffer(number: int, b: Buffer) -> str:
    name = b.name if _WORD.fullmatch(b.name) else json.dumps(b.name)
    argument = f" argument {b.argument}" if b.argument != -1 else ""
    offset = f" at {b.offset}" if b.offset or b.role is Role.WORKSPACE else ""
    return f"buffer {number} {b.role} {_shaped(name, b)}{argument}{offset}"


def _kernel(number: int, kernel: Kernel) -> Iterator[str]:
    yield f"kernel {number}"
    yield from (f"  operand {_shaped(o.name, o)}" for o in kernel.operands)
    yield print_nest(kernel.nest, "  ")


def _task(number: int, t: Task, texts: dict[int, str]) -> str:
    """``texts``: the text of every region printed before, by the object's identity (the program keeps it alive)."""
    parts = [f"task {number} op {t.op} kernel {t.kernel} on", *map(str, t.operands)]
    if t.tile:
        parts += ["tile", *[f"{low}:{high}" for low, high in t.tile]]
    if t.waits:
        parts += ["waits", *[f"{event}>={value}" for event, value in t.waits]]
    if t.signals:
        parts += ["signals", *map(str, t.signals)]
    for word, regions in (("reads", t.reads), ("writes", t.writes)):
        if regions:
            parts.append(word)
        for region in regions:
            text = texts.get(id(region))
            if text is None:
                text = texts[id(region)] = print_region(region)
            parts.append(text)
    return " ".join(parts)


def print_region(region: Region) -> str:
    """``4[0:1,0:576]``: the buffer's number and one span a dimension."""
    return f"{region.buffer}[{','.join(map(_span, region.box))}]"


def _span(span: Span) -> str:
    if span.via is None:
        return f"{span.low}:{span.high}"
    buffer, low, high = span.via
    return f"{span.low}:{span.high}@{buffer}[{low}:{high}]"


def _verify(program: Program) -> None:
    names = [s.name for s in program.symbols] + [o.name for k in program.kernels for o in k.operands]
    odd = [name for name in names if not _WORD.fullmatch(name)]
    if odd:
        raise ValueError(f"program {program.name}: the name {odd[0]!r} has characters outside letters, digits, _ and .")
    declared = {s.name: (s.name, s.minimum, s.maximum) for s in program.symbols}
    shaped: list[Buffer | Operand] = [*program.buffers, *(o for k in program.kernels for o in k.operands)]
    roots = {e for thing in shaped for e in (*thing.shape, *thing.strides)}
    for kernel in program.kernels:
        roots.update(kernel.nest.exprs(), (v.args[0] for v in kernel.nest.vars))
    seen: set[Expr] = set()
    for root in roots:
        for e in walk(root):
            if e.op is Op.SYM and e not in seen and declared.get(e.attr[0]) != e.attr:
                raise ValueError(f"program {program.name}: symbol {e.attr} is declared as {declared.get(e.attr[0])}")
            seen.add(e)
