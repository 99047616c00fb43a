"""One decode step of a transformers model: eager, or compiled with any backend."""

from __future__ import annotations

from typing import Any

import torch

from onelaunch.models.decode_state import DecodeState
from onelaunch.models.decode_step import Backend
from onelaunch.models.decode_step import DecodeStep

CAPACITY = 256


class TorchPeer:
    """A model's decode step with its own cache.

    Args:
        name: as in the table.
        model: a transformers model.
        prompts: token ids of the context, rows of one length.
        backend: a ``torch.compile`` backend, or None for eager.
        options: the backend's options.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        prompts: list[list[int]],
        backend: Backend,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.batch = len(prompts)
        self._length = len(prompts[0])
        self._state = DecodeState(model, prompts, CAPACITY, pad_id=0)
        with torch.no_grad():
            self._state.prefill()
        self._step = DecodeStep(model, backend, options)
        self.step()  # compiles
        self.rewind()

    def rewind(self) -> None:
        """Set the cache's counters back; what lies beyond them is masked, and written again."""
        for layer in self._state.cache.layers:
            layer.cumulative_length.fill_(self._length)
        self._state.positions.fill_(self._length)

    @torch.no_grad()
    def step(self) -> None:
        """One step with the token at hand."""
        self._step(self._state)
        self._state.positions.add_(1)

    @torch.no_grad()
    def logits_along(self, tokens: list[int]) -> torch.Tensor:
        """Feed ``tokens`` one by one after the context; the first row's logits, fp32 [tokens, vocabulary]."""
        self.rewind()
        rows = []
        for token in tokens:
            self._state.tokens.fill_(token)
            rows.append(self._step(self._state)[0, -1].float())
            self._state.positions.add_(1)
        self.rewind()
        return torch.stack(rows)
