"""The text form of expressions: printed for people, parsed back to the very same expression.

``%x[i, j]`` loads, ``$s`` is a run-time symbol, ``sum(r < 64: body)`` reduces, ``bf16(x)`` casts. Literals are i64 or
f32 unless a suffix says otherwise (``1.5:bf16``); an operation whose type is not the promotion of its operands' types
carries it (``div.f32(a, b)``). The text form of nests is in ``onelaunch.graph.nest_text``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import TypeVar

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import COMPARISONS
from onelaunch.graph.expr import LEAVES
from onelaunch.graph.expr import REDUCTIONS
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op

_INFIX = {Op.LT: ("<", 1), Op.LE: ("<=", 1), Op.ADD: ("+", 2), Op.SUB: ("-", 2),
          Op.MUL: ("*", 3), Op.DIV: ("/", 3), Op.FLOORDIV: ("//", 3), Op.MOD: ("%%", 3)}  # fmt: skip
_BY_SIGN = {sign: (op, level) for op, (sign, level) in _INFIX.items()}
_ARITY = {Op.WHERE: 3} | dict.fromkeys(
    (Op.NEG, Op.ABS, Op.TRUNC, Op.FLOOR, Op.CEIL, Op.ROUND, Op.SIGN, Op.EXP, Op.EXPM1, Op.LOG, Op.LOG1P, Op.LOG2,
     Op.SQRT, Op.RSQRT, Op.SIN, Op.COS, Op.TANH, Op.SIGMOID, Op.ERF, Op.ERFINV, Op.ISNAN, Op.NOT), 1,
)  # fmt: skip
_LEAVES = LEAVES | {Op.LOAD, Op.CAST, Op.REDUCE}  # have forms of their own
T = TypeVar("T")
Printed = tuple[str, int]  # text and binding strength (9: an atom)
_TOKEN = re.compile(
    r"\s*(?:(?P<num>-?(?:inf|nan|\d+\.?\d*(?:e[+-]?\d+)?)(?::\w+)?(?![\w.]))|(?P<load>%[\w.]+)|(?P<sym>\$\w+)"
    r"|(?P<acc>@\d+)|(?P<name>[A-Za-z_]\w*(?:\.\w+)?)|(?P<sign><=|//|%%|[-+*/<:,()\[\]]))"
)


def default_dtype(e: Expr) -> DType:
    """The type an operation has when its text carries none."""
    from onelaunch.graph.build import promote

    if e.op in COMPARISONS:
        return DType.BOOL
    if e.op is Op.WHERE:
        return e.args[1].dtype
    return promote(*(a.dtype for a in e.args))


def print_expr(root: Expr) -> str:
    """``root`` as text (parsed back by ``parse_expr``)."""
    memo: dict[Expr, Printed] = {}
    from onelaunch.graph.expr import walk

    for e in walk(root):
        memo[e] = print_node(e, memo)
    return memo[root][0]


def print_node(e: Expr, done: Mapping[Expr, Printed]) -> Printed:
    """One node, its operands having been printed."""
    match e.op:
        case Op.CONST:
            text = _literal(e)
            return text, 0 if text.startswith("-") else 9
        case Op.SYM:
            return f"${e.attr[0]}", 9
        case Op.VAR:
            return e.attr, 9
        case Op.ACC:
            return f"@{e.attr}", 9
        case Op.LOAD:
            return f"%{e.attr}[{', '.join(done[a][0] for a in e.args)}]", 9
        case Op.REDUCE:
            variable, body = e.args
            clash = [v for v in body.free if v.attr == variable.attr and v is not variable]
            if clash:
                raise ValueError(f"two variables {variable.attr} of different extents meet in one reduction")
            return f"{e.attr}({variable.attr} < {done[variable.args[0]][0]}: {done[body][0]})", 9
        case Op.CAST:
            return f"{e.dtype}({done[e.args[0]][0]})", 9
    default = default_dtype(e) is e.dtype
    if default and e.op in _INFIX:
        sign, level = _INFIX[e.op]
        left, right = (done[a] for a in e.args)
        l_text = left[0] if left[1] >= level else f"({left[0]})"
        r_text = right[0] if right[1] > level else f"({right[0]})"
        return f"{l_text} {sign} {r_text}", level
    suffix = "" if default else f".{e.dtype}"
    return f"{e.op}{suffix}({', '.join(done[a][0] for a in e.args)})", 9


def _literal(e: Expr) -> str:
    if e.dtype is DType.BOOL:
        return "true" if e.value else "false"
    text = repr(e.value)
    return text if e.dtype is (DType.F32 if e.dtype.is_float else DType.I64) else f"{text}:{e.dtype}"


class Scope:
    """What names mean while parsing: variables and symbols by name, and the element type of what is loaded."""

    def __init__(
        self, names: Mapping[str, Expr], symbols: Mapping[str, Expr], dtype_of: Callable[[str], DType]
    ) -> None:
        self.names, self.symbols, self.dtype_of = dict(names), dict(symbols), dtype_of


def parse_expr(text: str, scope: Scope) -> Expr:
    """The expression printed as ``text``. Raises ProgramFormatError where the text is not one."""
    return parse_with(text, scope, lambda parser: parser.expression(0))


def parse_variables(text: str, scope: Scope) -> tuple[Expr, ...]:
    """Index variables printed as ``i < 4, j < 8``. Raises ProgramFormatError."""
    return parse_with(text, scope, Parser.variables)


def parse_list(text: str, scope: Scope) -> tuple[Expr, ...]:
    """Expressions separated by commas. Raises ProgramFormatError."""
    return parse_with(text, scope, Parser.items)


def parse_with(text: str, scope: Scope, rule: Callable[[Parser], T]) -> T:
    """What ``rule`` makes of the whole of ``text``; whatever goes wrong inside is a ProgramFormatError."""
    try:
        parser = Parser(text, scope)
        result = rule(parser)
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise ProgramFormatError(f"expression text is not understood ({error}): {short(text)}") from None
    except RecursionError:
        raise ProgramFormatError(f"expression text is nested too deeply: {short(text)}") from None
    if parser.peek():
        raise ProgramFormatError(f"expression text has {parser.peek()!r} after its end: {short(text)}")
    return result


def short(text: str) -> str:
    """``text`` quoted, cut to what fits into a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


class Parser:
    """Tokens of one text and what they mean, by recursive descent."""

    def __init__(self, text: str, scope: Scope) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.position, self.scope, self.text = 0, scope, text
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise ProgramFormatError(f"expression text is not understood at {text[at : at + 20]!r}")
            kind = found.lastgroup or ""
            word = found.group(kind)
            if kind == "num" and word.startswith("-") and self.tokens and self._ends_operand():
                self.tokens.append(("sign", "-"))
                word = word[1:]
            self.tokens.append((kind, word))
            at = found.end()

    def _ends_operand(self) -> bool:
        kind, word = self.tokens[-1]
        return kind != "sign" or word in ")]"

    def peek(self) -> str:
        """The next token, or nothing."""
        return self.tokens[self.position][1] if self.position < len(self.tokens) else ""

    def take(self, expected: str = "") -> tuple[str, str]:
        """Kind and word of the next token, which must be ``expected`` where that is given."""
        if self.position >= len(self.tokens) or (expected and self.peek() != expected):
            raise ProgramFormatError(f"expression text lacks {expected or 'an operand'!r}: {short(self.text)}")
        self.position += 1
        return self.tokens[self.position - 1]

    def expression(self, level: int) -> Expr:
        """Operators that bind at least as strongly as ``level``."""
        left = self.atom()
        while self.peek() in _BY_SIGN:
            op, strength = _BY_SIGN[self.peek()]
            if strength < level:
                break
            self.take()
            right = self.expression(strength + 1)
            left = self._typed(op, (left, right), None)
        return left

    def variables(self) -> tuple[Expr, ...]:
        """``i < 4, j < 8``: declares each and returns them."""
        found: list[Expr] = []
        while self.peek():
            if found:
                self.take(",")
            found.append(self.variable())
            self.scope.names[found[-1].attr] = found[-1]
        return tuple(found)

    def variable(self) -> Expr:
        """``i < 4``."""
        kind, name = self.take()
        if kind != "name":
            raise ProgramFormatError(f"expression text has {name!r} where a variable belongs: {short(self.text)}")
        self.take("<")
        return Expr.make(Op.VAR, (self.expression(2),), name, DType.I64)

    def items(self, closing: str = "") -> tuple[Expr, ...]:
        """Expressions separated by commas, up to the closing bracket (which stays) or the end."""
        found: list[Expr] = []
        while self.peek() != closing:
            if found:
                self.take(",")
            found.append(self.expression(0))
        return tuple(found)

    def place(self) -> tuple[str, tuple[Expr, ...]]:
        """``%name[i, j]`` as what is stored to: the name and the indices."""
        kind, word = self.take()
        if kind != "load":
            raise ProgramFormatError(f"expected a place %target[index] to store to, found {short(self.text)}")
        return word[1:], self._list("[", "]")

    def atom(self) -> Expr:
        """A literal, name, load, call, reduction or parenthesis."""
        kind, word = self.take()
        if word == "(":
            inner = self.expression(0)
            self.take(")")
            return inner
        if kind == "num":
            return _number(word)
        if kind == "acc":
            return Expr.make(Op.ACC, (), int(word[1:]), DType.F32)
        if kind == "sym":
            return self._known(self.scope.symbols, word[1:])
        if kind == "load":
            return Expr.make(Op.LOAD, self._list("[", "]"), word[1:], self.scope.dtype_of(word[1:]))
        if kind != "name":
            raise ProgramFormatError(f"expression text has {word!r} where an operand belongs: {short(self.text)}")
        if self.peek() != "(":
            if word in ("true", "false"):
                return Expr.make(Op.CONST, (), word == "true", DType.BOOL)
            if word in ("inf", "nan"):
                return _number(word)
            return self._known(self.scope.names, word)
        return self._reduction(word) if word in REDUCTIONS and self._is_reduction() else self._call(word)

    def _is_reduction(self) -> bool:
        """Whether max or min reduces: it binds a variable ('name < extent:') behind its parenthesis."""
        depth = 0
        for _, word in self.tokens[self.position :]:
            depth += (word in "([") - (word in ")]") if word in ("(", "[", ")", "]") else 0
            if depth == 0:
                return False
            if depth == 1 and word == ",":
                return False
            if depth == 1 and word == ":":
                return True
        return False

    def _reduction(self, word: str) -> Expr:
        self.take("(")
        variable = self.variable()
        self.take(":")
        name = variable.attr
        outer = self.scope.names.get(name)
        self.scope.names[name] = variable
        body = self.expression(0)
        if outer is None:
            del self.scope.names[name]
        else:
            self.scope.names[name] = outer
        self.take(")")
        return Expr.make(Op.REDUCE, (variable, body), word, body.dtype)

    def _call(self, word: str) -> Expr:
        name, _, suffix = word.partition(".")
        args = self._list("(", ")")
        if name in DType._value2member_map_:
            self._count(name, args, 1)
            return Expr.make(Op.CAST, args, None, DType(name))
        if name not in Op._value2member_map_ or name in _LEAVES:
            raise ProgramFormatError(f"expression text names an unknown operation {name!r}")
        self._count(name, args, _ARITY.get(Op(name), 2))
        return self._typed(Op(name), args, DType(suffix) if suffix else None)

    def _count(self, name: str, args: tuple[Expr, ...], wanted: int) -> None:
        if len(args) != wanted:
            raise ProgramFormatError(
                f"expression text gives {name} {len(args)} operands, not {wanted}: {short(self.text)}"
            )

    def _typed(self, op: Op, args: tuple[Expr, ...], dtype: DType | None) -> Expr:
        if dtype is None:
            dtype = default_dtype(Expr.make(op, args, None, DType.F32))
        return Expr.make(op, args, None, dtype)

    def _list(self, opening: str, closing: str) -> tuple[Expr, ...]:
        self.take(opening)
        found = self.items(closing)
        self.take(closing)
        return found

    def _known(self, table: Mapping[str, Expr], name: str) -> Expr:
        if name not in table:
            raise ProgramFormatError(f"expression text uses {name!r}, which is not declared: {short(self.text)}")
        return table[name]


def _number(word: str) -> Expr:
    digits, _, suffix = word.partition(":")
    is_float = "." in digits or "e" in digits or "inf" in digits or "nan" in digits
    dtype = DType(suffix) if suffix else DType.F32 if is_float else DType.I64
    return Expr.make(Op.CONST, (), float(digits) if dtype.is_float else int(digits), dtype)
