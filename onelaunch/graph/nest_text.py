"""The text form of loop nests: one line a part, parsed back to an equal nest.

    for i0 < 4, i1 < 64
      let t0 = bf16(%x[i0, i1])
      let t1[r < 64] = ...              (r is a variable that the nest does not bind)
      contract k < 64
        x = %x[i0, k]
        w = %w[i1, k]
      attend key < 128, head < 16, masked zero
        q = ...                         (k, v, score; start, stop, scan, part where there is one)
      store f32 %y[i0, i1] = @0 + t0

``let`` names what occurs more than once, so that the text stays as small as the expression is in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import LEAVES
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import MASKED
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.graph.text import Parser
from onelaunch.graph.text import Printed
from onelaunch.graph.text import Scope
from onelaunch.graph.text import parse_expr
from onelaunch.graph.text import parse_variables
from onelaunch.graph.text import parse_with
from onelaunch.graph.text import print_expr
from onelaunch.graph.text import print_node
from onelaunch.graph.text import short

_LONG = 24  # characters from which a repeated expression gets a name
_DEEP = 40  # levels after which an expression gets a name, so that parsing does not recurse too deeply
_PARTS = ("q", "k", "v", "score", "start", "stop", "scan", "part")


def print_nest(nest: Nest, indent: str = "") -> str:
    """The lines of a nest, without a newline at the end."""
    return "\n".join(indent + line for line in nest_lines(nest))


def nest_lines(nest: Nest) -> list[str]:
    """The lines of a nest."""
    printer = _Printer(nest)
    text = printer.text
    lines = [f"for {_variables(nest.vars)}".rstrip(), *printer.lets]
    for c in nest.contractions:
        lines += [f"  contract {_variables([c.var])}", f"    x = {text(c.x)}", f"    w = {text(c.w)}"]
    if (a := nest.attention) is not None:
        lines.append(f"  attend {_variables([a.key, a.head])}, masked {a.masked}")
        parts = ((name, getattr(a, name)) for name in _PARTS)
        lines += [f"    {name} = {text(e)}" for name, e in parts if e is not None]
    index = ", ".join(text(i) for i in nest.index)
    lines.append(f"  store {nest.dtype} %{nest.target}[{index}] = {text(nest.body)}")
    return lines


def _variables(variables: Iterable[Expr]) -> str:
    return ", ".join(f"{v.attr} < {print_expr(v.args[0])}" for v in variables)


class _Printer:
    """Prints the expressions of one nest, with names for what they share."""

    def __init__(self, nest: Nest) -> None:
        self.bound = {v.attr: v for v in nest.vars}
        self.lets: list[str] = []
        order = list(_walk_all(nest.exprs()))
        uses = Counter(a for e in order for a in e.args)
        uses.update(nest.exprs())
        taken = {e.attr for e in order if e.op is Op.VAR}
        names = (name for i in range(len(order)) if (name := f"t{i}") not in taken)
        self.done: dict[Expr, Printed] = {}
        depth: dict[Expr, int] = {}
        for e in order:
            self.done[e] = printed = print_node(e, self.done)
            depth[e] = 1 + max((depth[a] for a in e.args), default=0)
            if e.op in LEAVES or not (depth[e] >= _DEEP or (uses[e] > 1 and len(printed[0]) >= _LONG)):
                continue
            name = next(names)
            free = sorted((v for v in e.free if self.bound.get(v.attr) is not v), key=lambda v: str(v.attr))
            self.lets.append(f"  let {name}{f'[{_variables(free)}]' if free else ''} = {printed[0]}")
            self.done[e], depth[e] = (name, 9), 1

    def text(self, e: Expr) -> str:
        return self.done[e][0]


def _walk_all(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every distinct node below any of the roots, operands before their users."""
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in roots][::-1]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))


def parse_nest(lines: Iterable[str], scope: Scope) -> Nest:
    """The nest that was printed as ``lines``. Raises ProgramFormatError where they are not one.

    ``scope`` knows the symbols and the types of what is loaded; its names are those outside the nest.
    """
    reader = NestReader(scope)
    for line in lines:
        if reader.nest is not None:
            raise ProgramFormatError(f"a nest ends with its store, but {short(line)} follows")
        reader.feed(line)
    return reader.finish()


class NestReader:
    """Reads a nest line by line; ``nest`` is set once its ``store`` line has been read."""

    def __init__(self, scope: Scope) -> None:
        self.nest: Nest | None = None
        self.scope = scope
        self.vars: tuple[Expr, ...] | None = None
        self.contractions: list[tuple[Expr, dict[str, Expr]]] = []
        self.attend: tuple[tuple[Expr, ...], str] | None = None
        self.parts: dict[str, Expr] = {}
        self.inner: Scope | None = None

    def feed(self, line: str) -> None:
        """Take one line."""
        word, _, rest = line.strip().partition(" ")
        if self.vars is None:
            if word != "for":
                raise ProgramFormatError(f"expected 'for' and the variables of a nest, found {short(line)}")
            self.vars = parse_variables(rest, self.scope)
        elif word == "let":
            self._let(rest)
        elif word == "contract":
            self.inner = self._scope()
            self.contractions.append((parse_variables(rest, self.inner)[0], {}))
            self.parts = self.contractions[-1][1]
        elif word == "attend":
            variables, _, masked = rest.rpartition(", masked ")
            self.inner = self._scope()
            self.attend = parse_variables(variables, self.inner), masked
            self.parts = {}
        elif word == "store":
            self._store(rest)
        elif rest.startswith("= ") and self.inner is not None and word not in self.parts:
            self.parts[word] = parse_expr(rest[2:], self.inner)
        else:
            raise ProgramFormatError(f"expected let, contract, attend, a part of them, or store, found {short(line)}")

    def finish(self) -> Nest:
        """The nest, which must be complete."""
        if self.nest is None:
            raise ProgramFormatError("a nest lacks its 'store' line")
        return self.nest

    def _scope(self, names: Mapping[str, Expr] | None = None) -> Scope:
        return Scope({**self.scope.names, **(names or {})}, self.scope.symbols, self.scope.dtype_of)

    def _let(self, rest: str) -> None:
        head, equals, body = rest.partition(" = ")
        name, bracket, variables = head.partition("[")
        if not equals or not name.isidentifier() or (bracket and not variables.endswith("]")):
            raise ProgramFormatError(f"expected 'let name = expression', found {short(rest)}")
        inner = self._scope()
        if bracket:
            parse_variables(variables[:-1], inner)
        self.scope.names[name] = parse_expr(body, inner)

    def _store(self, rest: str) -> None:
        head, equals, body = rest.partition(" = ")
        dtype, _, place = head.partition(" ")
        if not equals or dtype not in DType._value2member_map_:
            raise ProgramFormatError(f"expected 'store type %target[index] = expression', found {short(rest)}")
        target, index = parse_with(place, self._scope(), Parser.place)
        contractions = []
        for variable, parts in self.contractions:
            _exactly(parts, ("x", "w"), "contract")
            contractions.append(Contraction(variable, parts["x"], parts["w"]))
        self.nest = Nest(
            self.vars or (), target, DType(dtype), index, parse_expr(body, self._scope()),
            tuple(contractions), self._attention(),
        )  # fmt: skip

    def _attention(self) -> Attention | None:
        if self.attend is None:
            return None
        variables, masked = self.attend
        if len(variables) != 2 or masked not in MASKED:
            raise ProgramFormatError(f"expected 'attend key < n, head < n, masked' and one of {', '.join(MASKED)}")
        _exactly(self.parts, _PARTS[:4], "attend", _PARTS[4:])
        parts = {name: self.parts.get(name) for name in _PARTS}
        return Attention(*variables, **parts, masked=masked)  # type: ignore[arg-type]


def _exactly(parts: Mapping[str, Expr], wanted: tuple[str, ...], of: str, optional: tuple[str, ...] = ()) -> None:
    missing = [name for name in wanted if name not in parts]
    unknown = [name for name in parts if name not in wanted + optional]
    if missing or unknown:
        problem = f"lacks {missing[0]!r}" if missing else f"has an unknown part {unknown[0]!r}"
        raise ProgramFormatError(f"{of} {problem}; it takes {', '.join(wanted + optional)}")
