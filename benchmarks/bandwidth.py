"""How fast this machine reads memory with the threads that a decode step may use: the roof of every row."""

from __future__ import annotations

import torch

BYTES = 512 << 20  # far beyond any cache


class ReadPeer:
    """Adds up a large tensor once a step; a timing peer like the others."""

    name = "read"

    def __init__(self) -> None:
        self._data = torch.ones(BYTES // 4, dtype=torch.float32)

    def rewind(self) -> None:
        """Nothing to set back."""

    def step(self) -> None:
        """Read everything once."""
        self._data.sum()
