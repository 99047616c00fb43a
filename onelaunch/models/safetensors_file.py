"""A quick look at a safetensors file: is it whole? The library's own error names neither file nor cause."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from onelaunch.models.build import ModelLoadError

LARGEST_HEADER = 100_000_000  # bytes; the format's own limit


def check_safetensors(path: Path) -> None:
    """Compare the file's size with what its header promises; no tensor is read.

    Raises:
        ModelLoadError: the file is absent, truncated, or not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise ValueError
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        raise ModelLoadError(f"cannot read {path}: {error.strerror}") from None
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise ModelLoadError(f"{path} is truncated or not a safetensors file") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ModelLoadError(f"{path} is damaged: {size} bytes of {expected}; fetch it again")
