"""Choosing the next token from logits."""

from __future__ import annotations

import math

import torch

from onelaunch.errors import OptionError


class Sampler:
    """Greedy at temperature 0, else from the smallest set of tokens whose probability reaches ``top_p``.

    Deterministic: the same logits in the same order and the same seed give the same tokens.

    Args:
        temperature: 0 for greedy, else what logits are divided by.
        top_p: in (0, 1]; 1 keeps every token.
        seed: of the random numbers; unused when greedy.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise OptionError(f"temperature {temperature} is not accepted; it is a number from 0 (greedy) up")
        if not 0 < top_p <= 1:
            raise OptionError(f"top-p {top_p} is not accepted; it is above 0 and at most 1")
        if not 0 <= seed < 1 << 63:
            raise OptionError(f"seed {seed} is not accepted; it is a whole number from 0 up")
        self.temperature, self.top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row.

        Args:
            logits: [batch, 1, vocabulary], any float dtype.

        Returns:
            int64 [batch, 1].
        """
        if self.greedy:
            return torch.argmax(logits, dim=-1)
        probabilities = torch.softmax(logits[:, -1].float().cpu() / self.temperature, dim=-1)
        if self.top_p < 1:
            values, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
            values[torch.cumsum(values, dim=-1) - values >= self.top_p] = 0  # keeps the token that crosses top_p
            probabilities = torch.zeros_like(probabilities).scatter_(-1, order, values)
        return torch.multinomial(probabilities, 1, generator=self._generator).to(logits.device)
