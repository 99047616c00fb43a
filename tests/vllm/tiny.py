"""Small models with random weights, written as folders that vLLM and transformers read, and what transformers says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

COMMON = {"max_position_embeddings": 512, "tie_word_embeddings": False, "initializer_range": 0.2}


def qwen3(folder: Path) -> Any:
    from transformers import Qwen3Config
    from transformers import Qwen3ForCausalLM

    return _save(folder, Qwen3ForCausalLM, Qwen3Config(
        vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, **COMMON,
    ))  # fmt: skip


def llama(folder: Path) -> Any:
    """Biases, seven query heads on one head of keys and values, a head of 16, an odd vocabulary."""
    from transformers import LlamaConfig
    from transformers import LlamaForCausalLM

    return _save(folder, LlamaForCausalLM, LlamaConfig(
        vocab_size=509, hidden_size=112, intermediate_size=200, num_hidden_layers=2, num_attention_heads=7,
        num_key_value_heads=1, head_dim=16, attention_bias=True, **COMMON,
    ))  # fmt: skip


def gemma3(folder: Path) -> Any:
    """Sliding windows in every other layer, which share the memory of their caches with the others."""
    from transformers import Gemma3ForCausalLM
    from transformers import Gemma3TextConfig

    return _save(folder, Gemma3ForCausalLM, Gemma3TextConfig(
        vocab_size=512, hidden_size=96, intermediate_size=160, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=1, head_dim=32, sliding_window=16, query_pre_attn_scalar=32,
        layer_types=["sliding_attention", "full_attention"] * 2, **COMMON,
    ))  # fmt: skip


@torch.no_grad()
def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    """The next ``count`` tokens, in fp32, each from all tokens before it.

    Without a cache: that of transformers 5.19 gives other tokens for Gemma 3 where a prompt exceeds its window.
    """
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def _save(folder: Path, make: Any, config: Any) -> Any:
    torch.manual_seed(7)
    model = make(config).eval()
    model.save_pretrained(folder)
    return model
