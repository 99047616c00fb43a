"""The configurations of the models that GPU benchmarks run, as their makers publish them. Weights are random."""

from __future__ import annotations

from typing import Any

_QWEN3 = {
    "model_type": "qwen3",
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
_LLAMA3 = {
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

TITLES = {
    "135m": "SmolLM2-135M",
    "0.6b": "Qwen3-0.6B",
    "1b": "Llama-3.2-1B",
    "1.7b": "Qwen3-1.7B",
    "8b": "Qwen3-8B",
    "llama-8b": "Llama-3.1-8B",
}
SHAPES: dict[str, dict[str, Any]] = {
    "135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
        "initializer_range": 0.041666666666666664,
        "tie_word_embeddings": True,
    },
    "0.6b": _QWEN3
    | {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "1b": _LLAMA3
    | {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "head_dim": 64,
        "rope_parameters": _LLAMA3_ROPE | {"factor": 32.0},
        "tie_word_embeddings": True,
    },
    "1.7b": _QWEN3
    | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "8b": _QWEN3
    | {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
    "llama-8b": _LLAMA3
    | {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "head_dim": 128,
        "rope_parameters": _LLAMA3_ROPE | {"factor": 8.0},
        "tie_word_embeddings": False,
    },
}


def configuration(name: str, layers: int | None = None) -> Any:
    """The transformers configuration called ``name``; ``layers``: how many of its layers, all by default."""
    import transformers

    values = dict(SHAPES[name])
    if layers is not None:
        values["num_hidden_layers"] = layers
    kind = values.pop("model_type")
    return transformers.AutoConfig.for_model(kind, architectures=[f"{kind.title()}ForCausalLM"], **values)
