"""Blocks: the tree of loops and conditions that a function's source is, while it is being written."""

from __future__ import annotations

from collections.abc import Iterator

from onelaunch.graph.expr import Expr

INDENT = "  "


class Block:
    """Statements in braces (or a whole function body), with the names of values that are known inside.

    ``variable`` is bound by a loop; ``shared``: who computes the block's statements together, where a target has teams
    of threads ("": the same as around it). Blocks are appended to their parent when they are complete, so that what
    their contents hoist into the parent stands before them.
    """

    def __init__(self, parent: Block | None, header: str = "", variable: Expr | None = None) -> None:
        self.parent, self.header, self.variable = parent, header, variable
        self.pragma = ""
        self.end = "}"
        self.shared = ""
        self.items: list[str | Block] = []
        self.names: dict[object, str] = {}

    @property
    def is_loop(self) -> bool:
        """True where steps may differ in what they compute."""
        return self.variable is not None

    def outwards(self) -> Iterator[Block]:
        """This block, its parent, and so on to the function."""
        block: Block | None = self
        while block is not None:
            yield block
            block = block.parent

    def loop(self) -> Block | None:
        """The innermost loop that this block is in or is; None: the function's own level."""
        return next((b for b in self.outwards() if b.is_loop), None)

    def find(self, key: object) -> str | None:
        """The name of a value, where one is known here."""
        return next((b.names[key] for b in self.outwards() if key in b.names), None)

    def is_straight(self) -> bool:
        """True where nothing is nested: a loop that can be vectorised."""
        return not any(isinstance(item, Block) for item in self.items)

    def lines(self, depth: int) -> Iterator[str]:
        """The source, indented."""
        pad = INDENT * depth
        if self.pragma:
            yield pad + self.pragma
        if self.header:
            yield f"{pad}{self.header} {{"
        for item in self.items:
            if isinstance(item, Block):
                yield from item.lines(depth + bool(self.header))
            else:
                yield pad + INDENT * bool(self.header) + item
        if self.header:
            yield pad + self.end
