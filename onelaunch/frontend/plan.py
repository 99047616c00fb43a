"""What is stored of a compiled Dynamo graph, so that a later process need not trace it again.

A plan exists only where one segment does everything and the direct calling convention applies: the call's arguments go
to the segment as they come, followed by the graph's own constant tensors.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from onelaunch.errors import ProgramFormatError
from onelaunch.frontend.results import KINDS
from onelaunch.frontend.results import Result

VERSION = 1
MAX_CONSTANTS = 1 << 16  # elements of constant tensors that a plan may hold


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """One compiled Dynamo graph, without anything of the process that compiled it."""

    inputs: int  # arguments of a call
    segment: dict[str, Any]  # what ``Segment.save`` returned
    results: tuple[Result, ...]
    tensors: tuple[torch.Tensor, ...]  # bound behind the arguments
    written: tuple[int, ...]  # arguments that are updated in place
    guards: str | None  # what tracing assumed of symbolic sizes, as torch's shape environment states it

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "version": VERSION,
            "inputs": self.inputs,
            "segment": self.segment,
            "results": [dataclasses.asdict(r) for r in self.results],
            "tensors": [_tensor_to_json(t) for t in self.tensors],
            "written": list(self.written),
            "guards": self.guards,
        }


def from_json(stored: dict[str, Any]) -> Plan:
    """The plan that ``to_json`` gave. Raises ProgramFormatError for anything else."""
    if not isinstance(stored, dict) or stored.get("version") != VERSION:
        found = stored.get("version") if isinstance(stored, dict) else type(stored).__name__
        raise ProgramFormatError(f"stored plan has version {found!r}; accepted: {VERSION}")
    try:
        return Plan(
            inputs=int(stored["inputs"]),
            segment=dict(stored["segment"]),
            results=tuple(_result(r) for r in stored["results"]),
            tensors=tuple(_tensor_from_json(t) for t in stored["tensors"]),
            written=tuple(int(i) for i in stored["written"]),
            guards=None if stored["guards"] is None else str(stored["guards"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise ProgramFormatError(f"stored plan is damaged: {e!r}") from e


def _result(stored: dict[str, Any]) -> Result:
    terms = tuple((int(i), int(factor)) for i, factor in stored["terms"])
    fields = dict(stored, size=tuple(stored["size"]), stride=tuple(stored["stride"]), terms=terms)
    if fields["kind"] not in KINDS:
        raise ValueError(f"unknown kind of result {fields['kind']!r}")
    return Result(**fields)


def _tensor_to_json(tensor: torch.Tensor) -> dict[str, Any]:
    exact = tensor.detach().to(torch.float64) if tensor.is_floating_point() else tensor.detach().to(torch.int64)
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        # Hexadecimal floats are exact, and JSON knows neither infinity nor NaN.
        "values": [v.hex() if isinstance(v, float) else v for v in exact.flatten().tolist()],
    }


def _tensor_from_json(stored: dict[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, stored["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{stored['dtype']!r} is no dtype")
    values = [float.fromhex(v) if isinstance(v, str) else int(v) for v in stored["values"]]
    wide = torch.float64 if dtype.is_floating_point else torch.int64
    return torch.tensor(values, dtype=wide).to(dtype).reshape(stored["shape"])
