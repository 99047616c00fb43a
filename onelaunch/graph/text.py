"""The text form of expressions: printed for people, parsed back to the very same expression.

``%x[i, j]`` loads, ``$s`` is a run-time symbol, ``sum(r < 64: body)`` reduces, ``bf16(x)`` casts. Literals are i64 or
f32 unless a suffix says otherwise (``1.5:bf16``); an operation whose type is not the promotion of its operands' types
carries it (``div.f32(a, b)``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping

from onelaunch.errors import ProgramFormatError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import COMPARISONS
from onelaunch.graph.expr import REDUCTIONS
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op

_INFIX = {Op.LT: ("<", 1), Op.LE: ("<=", 1), Op.ADD: ("+", 2), Op.SUB: ("-", 2),
          Op.MUL: ("*", 3), Op.DIV: ("/", 3), Op.FLOORDIV: ("//", 3), Op.MOD: ("%%", 3)}  # fmt: skip
_BY_SIGN = {sign: (op, level) for op, (sign, level) in _INFIX.items()}
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
    memo: dict[Expr, tuple[str, int]] = {}
    from onelaunch.graph.expr import walk

    for e in walk(root):
        memo[e] = _print(e, memo)
    return memo[root][0]


def _print(e: Expr, done: dict[Expr, tuple[str, int]]) -> tuple[str, int]:
    """Text and binding strength (9: an atom)."""
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

    def __init__(self, names: Mapping[str, Expr], symbols: Mapping[str, Expr], dtype_of: Callable[[str], DType]):
        self.names, self.symbols, self.dtype_of = dict(names), dict(symbols), dtype_of


def parse_expr(text: str, scope: Scope) -> Expr:
    """The expression printed as ``text``. Raises ProgramFormatError where the text is not one."""
    parser = _Parser(text, scope)
    result = parser.expression(0)
    if parser.peek():
        raise ProgramFormatError(f"expression text has {parser.peek()!r} after its end: {text!r}")
    return result


class _Parser:
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
        return self.tokens[self.position][1] if self.position < len(self.tokens) else ""

    def take(self, expected: str = "") -> tuple[str, str]:
        if self.position >= len(self.tokens) or (expected and self.peek() != expected):
            raise ProgramFormatError(f"expression text lacks {expected or 'an operand'!r}: {self.text!r}")
        self.position += 1
        return self.tokens[self.position - 1]

    def expression(self, level: int) -> Expr:
        left = self.atom()
        while self.peek() in _BY_SIGN:
            op, strength = _BY_SIGN[self.peek()]
            if strength < level:
                break
            self.take()
            right = self.expression(strength + 1)
            left = self._typed(op, (left, right), None)
        return left

    def atom(self) -> Expr:
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
            raise ProgramFormatError(f"expression text has {word!r} where an operand belongs: {self.text!r}")
        if self.peek() != "(":
            if word in ("true", "false"):
                return Expr.make(Op.CONST, (), word == "true", DType.BOOL)
            if word in ("inf", "nan"):
                return _number(word)
            return self._known(self.scope.names, word)
        return self._reduction(word) if word in REDUCTIONS and self._is_reduction() else self._call(word)

    def _is_reduction(self) -> bool:
        """max and min are also pointwise: a reduction binds a variable ('name < extent :') behind its parenthesis."""
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
        name = self.take()[1]
        self.take("<")
        extent = self.expression(2)
        self.take(":")
        variable = Expr.make(Op.VAR, (extent,), name, DType.I64)
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
            return Expr.make(Op.CAST, args, None, DType(name))
        if name not in Op._value2member_map_:
            raise ProgramFormatError(f"expression text names an unknown operation {name!r}")
        return self._typed(Op(name), args, DType(suffix) if suffix else None)

    def _typed(self, op: Op, args: tuple[Expr, ...], dtype: DType | None) -> Expr:
        if dtype is None:
            dtype = default_dtype(Expr.make(op, args, None, DType.F32))
        return Expr.make(op, args, None, dtype)

    def _list(self, opening: str, closing: str) -> tuple[Expr, ...]:
        self.take(opening)
        items: list[Expr] = []
        while self.peek() != closing:
            if items:
                self.take(",")
            items.append(self.expression(0))
        self.take(closing)
        return tuple(items)

    def _known(self, table: Mapping[str, Expr], name: str) -> Expr:
        if name not in table:
            raise ProgramFormatError(f"expression text uses {name!r}, which is not declared: {self.text!r}")
        return table[name]


def _number(word: str) -> Expr:
    digits, _, suffix = word.partition(":")
    is_float = "." in digits or "e" in digits or "inf" in digits or "nan" in digits
    dtype = DType(suffix) if suffix else DType.F32 if is_float else DType.I64
    return Expr.make(Op.CONST, (), float(digits) if dtype.is_float else int(digits), dtype)
