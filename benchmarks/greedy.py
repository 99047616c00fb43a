"""Greedy text of a compiled step beside eager's: the same tokens, or a first difference that rounding explains.

Rounding explains it where fp32's logits of the two tokens are closer than eager's largest logit error at that step.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from onelaunch.models.decode_state import DecodeState
from onelaunch.models.decode_state import cache_capacity
from onelaunch.models.decode_step import DecodeStep

PROMPTS = (
    "Why is the sky blue? Answer in three sentences.",
    "Write a short story about a lighthouse keeper.",
    "List the planets and say one thing about each.",
)


def compare(loaded: Any, options: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """For each prompt: how many of ``count`` tokens agree, and what is known of the first that does not."""
    exact = copy.deepcopy(loaded.model).float()
    plain, compiled = DecodeStep(loaded.model, None), DecodeStep(loaded.model, options=options)
    found = []
    for text in PROMPTS:
        ids = _encoded(loaded, text)
        eager, logits = _decode(plain, loaded.model, ids, count)
        ours, _ = _decode(compiled, loaded.model, ids, count)
        found.append({"prompt": text} | _difference(exact, ids, eager, ours, logits))
    return found


def _encoded(loaded: Any, text: str) -> list[int]:
    messages = [{"role": "user", "content": text}]
    text = loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(loaded.tokenizer(text, add_special_tokens=False).input_ids)


@torch.no_grad()
def _decode(step: DecodeStep, model: Any, ids: list[int], count: int) -> tuple[list[int], torch.Tensor]:
    """``count`` tokens after the prompt, and the logits that chose them, fp32 [count, vocabulary]."""
    state = DecodeState(model, [ids], cache_capacity(len(ids) + count, 1 << 20), pad_id=0)
    logits = [state.prefill()[0, -1].float().clone()]
    state.tokens = logits[0].argmax(-1).view(1, 1)
    while len(logits) < count:
        logits.append(step(state)[0, -1].float().clone())
        state.advance(logits[-1].argmax(-1).view(1, 1))
    stacked = torch.stack(logits)
    return stacked.argmax(-1).tolist(), stacked


@torch.no_grad()
def _difference(exact: Any, ids: list[int], eager: list[int], ours: list[int], logits: torch.Tensor) -> dict[str, Any]:
    """``logits``: eager's."""
    at = next((n for n, (a, b) in enumerate(zip(eager, ours, strict=True)) if a != b), None)
    if at is None:
        return {"tokens": len(eager), "equal": len(eager), "explained": True}
    before = torch.tensor([ids + eager[:at]], device=logits.device)
    true = exact(input_ids=before, use_cache=False).logits[0, -1]
    gap = float((true[eager[at]] - true[ours[at]]).abs())
    error = float((logits[at] - true).abs().max())
    found = {"tokens": len(eager), "equal": at, "explained": gap < error, "gap": gap, "error of eager": error}
    return found | {"fp32 chooses": {ours[at]: "onelaunch", eager[at]: "eager"}.get(int(true.argmax()), "neither")}
