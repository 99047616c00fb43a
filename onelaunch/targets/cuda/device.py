"""Which GPUs programs run on."""

from __future__ import annotations

import os

import torch

from onelaunch.targets.cuda import architecture
from onelaunch.targets.cuda.architecture import Architecture

ALLOWED = "ONELAUNCH_UNTESTED_GPU"  # environment: 1 lets programs run where they were never tested


def reason_against(index: int | None = None) -> str | None:
    """Why no program can run on a GPU (None: the current one); None: it can."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA GPU"
    capability = torch.cuda.get_device_capability(index)
    found = architecture.of(capability)
    if found is not None and (found.tested or os.environ.get(ALLOWED) == "1"):
        return None
    has = f"{torch.cuda.get_device_name(index)} has compute capability {_dotted(capability)}"
    if found is not None:
        return f"{has}, for which programs compile but were never run; {ALLOWED}=1 allows it"
    accepted = ", ".join(_dotted(a.capability) for a in architecture.ARCHITECTURES)
    return f"{has}; programs are made for {accepted}"


def architecture_of(index: int | None = None) -> Architecture:
    """That of a GPU (None: the current one). Where no program can run on it, the tested one: compiling needs no GPU."""
    if reason_against(index) is not None:
        return architecture.TESTED
    return architecture.of(torch.cuda.get_device_capability(index)) or architecture.TESTED


def processors(index: int | None = None) -> int:
    """Multiprocessors of a GPU."""
    count: int = torch.cuda.get_device_properties(index).multi_processor_count
    return count


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
