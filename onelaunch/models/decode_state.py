"""The inputs of a decode step for one batch: cache, tokens, positions and masks, kept in the same tensors throughout.

A step's inputs keep shape, dtype and address from token to token, so that a compiled step is called again unchanged,
and are updated in place with as few torch operators as possible: these run outside the launch.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

SMALLEST_CACHE = 128


def cache_capacity(tokens: int, limit: int) -> int:
    """The cache length for ``tokens``: a power of two, so that few lengths are compiled, and at most ``limit``."""
    capacity = SMALLEST_CACHE
    while capacity < tokens:
        capacity *= 2
    return max(tokens, min(capacity, limit))


def has_sliding_layers(cache: Any) -> bool:
    """Whether some layer keeps a window instead of everything: such layers count steps in a Python integer."""
    return any(getattr(layer, "is_sliding", False) for layer in cache.layers)


class DecodeState:
    """One batch being decoded.

    Rows are padded on the left to one length. A single prompt, or prompts of one length, need no mask: most models
    build their own from the cache's counter. Otherwise, or after ``use_masks``, the step takes a mask over the whole
    cache, as ``generate`` gives it.

    Attributes:
        tokens: int64 [batch, 1], the tokens to feed next.
        positions: int64 [batch, 1], their positions.
    """

    def __init__(self, model: Any, prompts: list[list[int]], capacity: int, pad_id: int) -> None:
        from transformers import StaticCache

        self._model = model
        self._accepted = frozenset(inspect.signature(model.forward).parameters)
        self._length = max(len(prompt) for prompt in prompts)
        device = model.device
        self._ids = torch.tensor([[pad_id] * (self._length - len(p)) + p for p in prompts], device=device)
        self._real = torch.tensor([[0] * (self._length - len(p)) + [1] * len(p) for p in prompts], device=device)
        self._padded = any(len(prompt) != self._length for prompt in prompts)
        self.cache = StaticCache(config=model.config, max_cache_len=capacity)
        self.tokens = self._ids[:, -1:].clone()
        self.positions = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
        longest = max(range(len(prompts)), key=lambda row: len(prompts[row]))
        self._slot = self.positions[longest]  # a view: the position of an unpadded row is the slot written next
        self._capacity = capacity
        self._masked = False
        self._masks: Any = None

    def prefill(self) -> torch.Tensor:
        """Run the prompts through the model in plain torch; returns the last logits, [batch, 1, vocabulary]."""
        arguments = {"input_ids": self._ids, "past_key_values": self.cache, "use_cache": True}
        if self._padded:
            arguments["attention_mask"] = self._real
            arguments["position_ids"] = (self._real.cumsum(-1) - 1).clamp_(min=0)
        logits = self._logits(self._model(**self._only_accepted(arguments, logits_to_keep=1)))
        if self._padded:
            self.use_masks()
        return logits

    def use_masks(self) -> None:
        """From now on, give the step its masks; nothing where it has them. Not before ``prefill``."""
        if not self._masked:
            self._masked = True
            self._renew_masks()

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the next decode step."""
        arguments = {
            "input_ids": self.tokens,
            "position_ids": self.positions,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if self._masked:
            arguments["attention_mask"] = self._masks
        return self._only_accepted(arguments, logits_to_keep=1)

    def advance(self, tokens: torch.Tensor) -> None:
        """After a step: take ``tokens`` (int64 [batch, 1]) as the next inputs and move one position on."""
        self.tokens = tokens
        self.positions.add_(1)
        if not self._masked:
            return
        if has_sliding_layers(self.cache):  # their masks shift with the window: made anew, as generate does
            self._renew_masks()
            return
        for mask in self._masks.values() if isinstance(self._masks, dict) else [self._masks]:
            mask.index_fill_(-1, self._slot, True if mask.dtype == torch.bool else 0.0)

    def _renew_masks(self) -> None:
        """Make the next step's masks by transformers' own function: [batch, 1, 1, cache], or a dict by layer type."""
        from transformers.masking_utils import create_masks_for_generate

        self._real = torch.cat([self._real, self._real.new_ones(len(self._ids), 1)], dim=-1)
        make = getattr(self._model, "create_masks_for_generate", create_masks_for_generate)
        masks = make(
            config=self._model.config,
            inputs_embeds=torch.empty((*self.tokens.shape, 0), dtype=self._model.dtype, device=self.tokens.device),
            attention_mask=self._real,
            past_key_values=self.cache,
            position_ids=self.positions,
        )
        if isinstance(masks, dict):
            self._masks = {name: mask.contiguous() for name, mask in masks.items()}
        else:
            self._masks = masks.contiguous()

    def _only_accepted(self, arguments: dict[str, Any], **optional: Any) -> dict[str, Any]:
        """Models differ in whether they take positions and ``logits_to_keep``; what one lacks it works out itself."""
        return {name: value for name, value in (arguments | optional).items() if name in self._accepted}

    @staticmethod
    def _logits(output: Any) -> torch.Tensor:
        logits: torch.Tensor = output.logits
        return logits[:, -1:]
