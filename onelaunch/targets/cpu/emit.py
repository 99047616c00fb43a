"""C++ source of a program: one function a kernel, which calls the headers in ``include/onelaunch``.

A kernel is ``onelaunch_run_N`` with the signature of ``Kernel::run`` in task.h; ``onelaunch_prefetch_N``, where there
is one, asks for the weights of a task. What the source uses of the headers: types.h (storage), scalar.h (which includes
math.h) for operations, linear.h, linear_columns.h and attend.h for products, prefetch.h.
"""

from __future__ import annotations

import dataclasses
import re

from onelaunch.program.program import Program
from onelaunch.targets.cpu.kernel import Code
from onelaunch.targets.cpu.kernel import KernelWriter
from onelaunch.targets.source.tiles import constant_operands
from onelaunch.targets.source.tiles import tiles_of

# Headers by the calls that need them; the others cost compile time.
_HEADERS = {
    "attend<": "attend", "attend_unfinished<": "attend", "linear<": "linear", "linear_columns<": "linear_columns",
    "prefetch(": "prefetch",
}  # fmt: skip
_TAIL = '\n}  // extern "C"\n}  // namespace onelaunch\n'


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Generated code of a program: one text a kernel, and the scratch that a worker needs, in bytes."""

    kernels: tuple[Code, ...]
    scratch: int

    def text(self, part: int = 0, parts: int = 1) -> str:
        """A translation unit with every ``parts``-th kernel, from ``part`` on, the longest dealt out first."""
        order = sorted(range(len(self.kernels)), key=lambda i: (-_weight(self.kernels[i]), i))
        chosen = sorted(order[part::parts])
        functions = [f for i in chosen for f in (self.kernels[i].prefetch, self.kernels[i].run) if f]
        return _head(functions) + "\n\n".join(functions) + _TAIL


def _head(functions: list[str]) -> str:
    needed = [h for call, h in _HEADERS.items() if any(re.search(rf"\b{re.escape(call)}", f) for f in functions)]
    includes = "".join(f'#include "onelaunch/{h}.h"\n' for h in dict.fromkeys(("scalar", *needed)))
    return f'#include <cstring>\n\n{includes}\nnamespace onelaunch {{\nextern "C" {{\n\n'


def _weight(code: Code) -> int:
    """How long a kernel takes to compile, roughly: calls of templates count more than lines."""
    products = code.run.count("linear<") + code.run.count("columns<")
    return len(code.run) + 20000 * (code.run.count("attend<") + code.run.count("attend_unfinished<")) + 4000 * products


def generate(program: Program) -> Source:
    """The source of all kernels of ``program``."""
    tiles = tiles_of(program)
    symbols = [s.name for s in program.symbols]
    constant = constant_operands(program)
    codes = tuple(
        KernelWriter(i, kernel, symbols, tiles[i], constant[i]).write() for i, kernel in enumerate(program.kernels)
    )
    return Source(codes, max((c.scratch for c in codes), default=0))


def source(program: Program) -> str:
    """The whole generated source as one text: the same for the same program."""
    return generate(program).text()
