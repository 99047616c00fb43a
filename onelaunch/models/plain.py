"""The same generation through plain transformers: ``model.generate``, eager, with its own growing cache."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from onelaunch.models.loaded import LoadedModel
from onelaunch.models.sampling import Sampler


@dataclass
class PlainGeneration:
    """New token ids of each row (stop token excluded), and the decode speed with prefill left out."""

    tokens: list[list[int]]
    tokens_per_second: float | None


class _Watch:
    """A logits processor that notes when each step's logits are there, and samples as our loop does."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.times.append(time.perf_counter())
        if self._sampler.greedy:
            return scores
        chosen = self._sampler(scores[:, None])
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0.0)


@torch.no_grad()
def generate_plain(
    loaded: LoadedModel, prompts: list[list[int]], max_new_tokens: int, sampler: Sampler | None = None
) -> PlainGeneration:
    """Generate with ``model.generate``; with an equal sampler of the same seed, the same choices from its logits."""
    from transformers import GenerationConfig
    from transformers import LogitsProcessorList

    length = max(map(len, prompts))
    device = loaded.model.device
    ids = torch.tensor([[loaded.pad_id] * (length - len(p)) + p for p in prompts], device=device)
    real = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=device)
    watch = _Watch(sampler or Sampler())
    # A config of its own, for a model's stored one may sample or penalise repetition, which our loop does not.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(loaded.stop_ids) or None,
        pad_token_id=loaded.pad_id,
    )
    stored, loaded.model.generation_config = loaded.model.generation_config, config
    try:
        output = loaded.model.generate(
            ids, attention_mask=real, generation_config=config, logits_processor=LogitsProcessorList([watch])
        )
    finally:
        loaded.model.generation_config = stored
    tokens = [_before_stop(row, loaded.stop_ids) for row in output[:, length:].tolist()]
    return PlainGeneration(tokens, _speed(watch.times, tokens))


@torch.no_grad()
def forced_choices(loaded: LoadedModel, prompt: list[int], answer: list[int]) -> list[int]:
    """The token that the plain model finds likeliest at each position of ``answer``, given what precedes it there.

    Unlike a second generation, this compares position by position: one near tie does not end the comparison.
    """
    ids = torch.tensor([prompt + answer], device=loaded.model.device)
    logits = loaded.model(input_ids=ids, use_cache=False).logits
    choices: list[int] = logits[0, len(prompt) - 1 : -1].argmax(-1).tolist()
    return choices


def _before_stop(row: list[Any], stop_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(row) if token in stop_ids), len(row))
    return row[:end]


def _speed(times: list[float], tokens: list[list[int]]) -> float | None:
    """Tokens a second over the steps after the first; a row counts in a step while it has not stopped before it."""
    if len(times) < 2:
        return None
    steps = len(times) - 1
    return sum(min(len(row), steps) for row in tokens) / (times[-1] - times[0])
