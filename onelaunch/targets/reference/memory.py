"""Memory of one launch: every buffer as a flat tensor over the caller's addresses or the workspace.

In debug mode each byte of the workspace and of the outputs carries a tag: the buffer through which it was last written.
A read through another buffer, or of a byte that nobody wrote, is an error.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

import torch

from onelaunch.errors import CallError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.fold import fold_constants
from onelaunch.program.program import Buffer
from onelaunch.program.program import Program
from onelaunch.program.program import Role

NOBODY = -1
POISON = 0xFF  # NaN in every float type, -1 in signed integers


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One buffer at its run-time extents. ``tags`` has one entry a byte, beginning at the buffer's first byte."""

    number: int
    buffer: Buffer
    flat: torch.Tensor
    extents: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    tags: torch.Tensor | None

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self.buffer.dtype

    def at(self, sizes: Sequence[int], strides: Sequence[int], offset: int) -> torch.Tensor:
        """The grid of elements that begins ``offset`` elements after the buffer's first."""
        return self.flat.as_strided(sizes, strides, offset + int(self.flat.storage_offset()))

    def tags_at(self, sizes: Sequence[int], strides: Sequence[int], offset: int) -> torch.Tensor:
        """The tags of the same grid, with a last axis for the bytes of an element."""
        if self.tags is None:
            raise ValueError(f"buffer {self.buffer.name} carries no tags")
        size = self.dtype.itemsize
        start = offset * size + int(self.tags.storage_offset())
        return self.tags.as_strided((*sizes, size), (*(s * size for s in strides), 1), start)

    def whole(self) -> torch.Tensor:
        """All elements, shaped."""
        return self.flat.as_strided(self.extents, self.strides)


def integer(e: Expr, symbols: Mapping[str, int]) -> int:
    """The value of an extent or stride."""
    if e.op is Op.SYM:
        return symbols[e.attr[0]]
    if e.op is Op.CONST:
        return int(e.value)
    found = fold_constants(e.op, [integer(a, symbols) for a in e.args], e.dtype)
    assert found is not None, f"extent {e} is not an integer"
    return int(found)


def at_address(address: int, nbytes: int) -> torch.Tensor:
    """The bytes at an address; the caller keeps them alive."""
    if nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype=torch.uint8)


class Workspace:
    """A program's own memory, kept between launches."""

    def __init__(self, nbytes: int, tagged: bool) -> None:
        self.bytes = torch.zeros(nbytes + 64, dtype=torch.uint8)
        shift = -self.bytes.data_ptr() % 64
        self.bytes = self.bytes[shift : shift + nbytes]
        self.tags = torch.full((nbytes,), NOBODY, dtype=torch.int32) if tagged else None

    def poison(self) -> None:
        """Overwrite everything with NaNs and forget who wrote what."""
        self.bytes.fill_(POISON)
        if self.tags is not None:
            self.tags.fill_(NOBODY)


def bind(program: Program, workspace: Workspace, pointers: Sequence[int], symbols: Mapping[str, int]) -> list[View]:
    """One view a buffer, at the run-time values of the symbols."""
    if len(pointers) != len(program.buffers):
        raise CallError(f"launch got {len(pointers)} pointers, the program has {len(program.buffers)} buffers")
    views = []
    for number, buffer in enumerate(program.buffers):
        extents = tuple(integer(e, symbols) for e in buffer.shape)
        strides = tuple(integer(e, symbols) for e in buffer.strides)
        count = 0 if 0 in extents else 1 + sum((n - 1) * s for n, s in zip(extents, strides, strict=True))
        nbytes = count * buffer.dtype.itemsize
        tags = None
        if buffer.role is Role.WORKSPACE:
            raw = workspace.bytes[buffer.offset : buffer.offset + nbytes]
            if workspace.tags is not None:
                tags = workspace.tags[buffer.offset : buffer.offset + nbytes]
        else:
            if not pointers[number] and nbytes:
                raise CallError(f"launch got no address for buffer {buffer.name}")
            raw = at_address(pointers[number], nbytes)
            if buffer.role is Role.OUTPUT and workspace.tags is not None:
                raw.fill_(POISON)
                tags = torch.full((nbytes,), NOBODY, dtype=torch.int32)
        views.append(View(number, buffer, raw.view(buffer.dtype.torch), extents, strides, tags))
    return views
