"""Dialects: what C++ source for one target writes differently from the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from onelaunch.graph.dtype import DType

STORAGE: Mapping[DType, str] = {
    DType.F64: "double", DType.F32: "float", DType.BF16: "bf16", DType.F16: "fp16",
    DType.I64: "int64_t", DType.I32: "int32_t", DType.I16: "int16_t", DType.I8: "int8_t",
    DType.U8: "uint8_t", DType.BOOL: "uint8_t",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    """The words of one target's C++. ``storage`` are types in memory; bf16 and fp16 are structs with conversions."""

    name: str
    storage: Mapping[DType, str] = dataclasses.field(default_factory=lambda: STORAGE)
    restrict: str = "__restrict__"
    independent: str = "#pragma omp simd"  # before an innermost loop without dependencies between its steps
    reduction: str = "#pragma omp simd reduction({sign}: {names})"  # before an innermost loop that reduces
    simd: bool = True  # False: a step of a loop belongs to one thread, and no pragma is written

    def compute(self, dtype: DType) -> str:
        """The type that a value of ``dtype`` has while it is computed with."""
        wide = dtype.compute
        return "bool" if wide is DType.BOOL else self.storage[wide]

    def load(self, dtype: DType, place: str) -> str:
        """The value stored at ``place`` (an lvalue), in its compute type."""
        if dtype in (DType.BF16, DType.F16):
            return f"to_float({place})"
        if dtype is DType.BOOL:
            return f"({place} != 0)"
        return place if dtype in (DType.F32, DType.F64, DType.I64) else f"int64_t({place})"

    def store(self, dtype: DType, place: str, value: str) -> str:
        """The statement that stores ``value``, of the compute type, rounding it to ``dtype``."""
        if dtype in (DType.BF16, DType.F16):
            value = f"from_float<{self.storage[dtype]}>({value})"
        elif dtype not in (DType.F32, DType.F64, DType.I64):
            value = f"{self.storage[dtype]}({value})"
        return f"{place} = {value};"


CPU = Dialect("cpu")
CUDA = Dialect("cuda", restrict="", simd=False)
