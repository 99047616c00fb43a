"""Element types. A type says how an element is stored and in which type the targets compute with it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class DType(enum.StrEnum):
    """An element type; the value is the name used in every text form."""

    F64 = "f64"
    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    BOOL = "b8"

    __hash__ = str.__hash__

    @property
    def itemsize(self) -> int:
        """Bytes of one stored element."""
        return _SIZES[self]

    @property
    def is_float(self) -> bool:
        """True for floats of any width."""
        return self in _FLOATS

    @property
    def is_int(self) -> bool:
        """True for integers, not for bool."""
        return self not in _FLOATS and self is not DType.BOOL

    @property
    def compute(self) -> DType:
        """The type arithmetic is done in: f64 stays, other floats use f32, integers use i64."""
        if self is DType.F64 or self is DType.BOOL:
            return self
        return DType.F32 if self.is_float else DType.I64

    @property
    def torch(self) -> torch.dtype:
        """The torch dtype of the same layout."""
        import torch

        found: torch.dtype = getattr(torch, _TORCH[self])
        return found


_FLOATS = frozenset({DType.F64, DType.F32, DType.BF16, DType.F16})
_SIZES = {
    DType.F64: 8, DType.F32: 4, DType.BF16: 2, DType.F16: 2,
    DType.I64: 8, DType.I32: 4, DType.I16: 2, DType.I8: 1, DType.U8: 1, DType.BOOL: 1,
}  # fmt: skip
_TORCH = {
    DType.F64: "float64", DType.F32: "float32", DType.BF16: "bfloat16", DType.F16: "float16",
    DType.I64: "int64", DType.I32: "int32", DType.I16: "int16", DType.I8: "int8", DType.U8: "uint8",
    DType.BOOL: "bool",
}  # fmt: skip
_FROM_NAME = {name: dtype for dtype, name in _TORCH.items()}


def from_torch(dtype: torch.dtype) -> DType | None:
    """The DType of a torch dtype, or None where onelaunch has none (complex, quantised, float8)."""
    return _FROM_NAME.get(str(dtype).removeprefix("torch."))
