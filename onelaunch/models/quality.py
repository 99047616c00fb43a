"""How close a decode step's predictions are to the model's own in fp32, on real text.

Mean negative log-likelihood (nats a token) of the text, and mean Kullback-Leibler divergence KL(fp32 || step) of the
next-token distributions (nats), every token predicted from the true tokens before it (teacher forcing).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Step = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores of one way to run the step over the same text."""

    nll: float
    kl: float


def reference_log_probabilities(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities ``[N - 1, V]`` of every next token in fp32 eager, all positions at once.

    ``tokens``: ``[N]`` token ids.
    """
    full = copy.deepcopy(model).float()
    with torch.no_grad():
        logits = full(input_ids=tokens[None, :-1], use_cache=False).logits[0]
    return torch.log_softmax(logits, dim=-1)


def score(model: Any, step: Step, tokens: torch.Tensor, reference: torch.Tensor) -> Quality:
    """Run ``step`` token by token over ``tokens`` ``[N]`` and compare with ``reference`` ``[N - 1, V]``."""
    from transformers import StaticCache

    capacity = max(64, 1 << (len(tokens) - 1).bit_length())
    cache = StaticCache(config=model.config, max_cache_len=capacity)
    nll = kl = 0.0
    count = len(tokens) - 1
    with torch.no_grad():
        # The first token goes through eager, which allocates the cache.
        logits = model(input_ids=tokens[None, :1], past_key_values=cache, use_cache=True).logits
        for i in range(count):
            if i:
                logits = step(
                    input_ids=tokens[None, i : i + 1], position_ids=torch.tensor([[i]]), past_key_values=cache,
                    use_cache=True, logits_to_keep=1,
                ).logits  # fmt: skip
            mine = torch.log_softmax(logits[0, -1].float(), dim=-1)
            nll -= float(mine[tokens[i + 1]])
            kl += float((reference[i].exp() * (reference[i] - mine)).sum())
    return Quality(nll / count, kl / count)
