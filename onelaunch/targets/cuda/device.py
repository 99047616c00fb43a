"""Which GPUs programs run on."""

from __future__ import annotations

import torch

CAPABILITY = (9, 0)  # what the sources are written and tested for


def reason_against(index: int | None = None) -> str | None:
    """Why no program can run on a GPU (None: the current one); None: it can."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA GPU"
    found = torch.cuda.get_device_capability(index)
    if found != CAPABILITY:
        name = torch.cuda.get_device_name(index)
        return (
            f"{name} has compute capability {found[0]}.{found[1]}; "
            f"programs are made for {CAPABILITY[0]}.{CAPABILITY[1]} and tested on nothing else"
        )
    return None


def processors(index: int | None = None) -> int:
    """Multiprocessors of a GPU."""
    count: int = torch.cuda.get_device_properties(index).multi_processor_count
    return count
