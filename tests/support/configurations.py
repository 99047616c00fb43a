"""Small random models of every architecture of the census: what the support matrix and its tests run.

A configuration is a transformers model type and its settings; nothing of the model is changed. Weights are random and
large enough that logits differ: the default initialisation makes small models nearly uniform, and comparing the greedy
tokens of those would be meaningless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import transformers

VOCABULARY = 257
TOKENS: Mapping[str, Any] = MappingProxyType({"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2})
WINDOW = 16  # of layers that slide
SIZES: Mapping[str, Any] = MappingProxyType(
    {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
    }
)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One model: ``settings`` on top of SIZES (``plain``: alone, for types that name their sizes differently)."""

    name: str
    kind: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    plain: bool = False
    promised: bool = False  # one program, one launch, no fallback: a release without it is broken
    positions: bool = False  # the direct form needs position_ids (the model slices its positions by a tensor otherwise)
    mask: bool = False  # the direct form needs a mask of the cache's length
    pads: bool = True  # its generate form knows left padding
    partly: bool = False  # what cannot be lowered may stay in torch: the matrix says what that is
    breaks: str = ""  # where Dynamo breaks a step into several graphs, and skips what it cannot take at all
    seed: int = 0

    @property
    def slides(self) -> bool:
        """Some layer sees a window only, which takes steps to fill."""
        return any(self.settings.get(name) for name in ("sliding_window", "window_size", "attention_window_size"))

    @property
    def compresses(self) -> bool:
        """The cache holds latents, and a step multiplies all of it with a weight: many rows once it is long."""
        return "kv_lora_rank" in self.settings

    def config(self) -> transformers.PretrainedConfig:
        """The transformers configuration."""
        settings = {**TOKENS, **({"vocab_size": VOCABULARY} if self.plain else SIZES), **self.settings}
        return transformers.AutoConfig.for_model(self.kind, **settings)

    def model(self, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        """The model with its random weights, the same ones in every type."""
        return build(self.config(), dtype, self.seed)


def build(config: transformers.PretrainedConfig, dtype: torch.dtype, seed: int = 0) -> torch.nn.Module:
    """A model of ``config`` in ``dtype`` and evaluation mode whose weights are random and exact in bf16.

    Vectors start from the model's own initialisation, which may be random: it is drawn in fp32 whatever the type, or
    models of two types would not be the same model. Small embeddings keep a model that ties them to its head from
    repeating one token forever.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model = first if dtype == torch.float32 else transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter, initial in zip(model.parameters(), first.parameters(), strict=True):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                value = noise * (2.0 / parameter.shape[-1] ** 0.5)
            else:
                value = initial.nan_to_num() + 0.1 * noise
            parameter.copy_(value.to(torch.bfloat16))
        model.get_input_embeddings().weight.mul_(0.125)
    model.generation_config.eos_token_id = None
    model.generation_config.use_cache = True  # not every model's default
    return model


def _promised(name: str, kind: str, **settings: Any) -> Configuration:
    return Configuration(name, kind, settings, promised=True)


_GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
_WINDOW = {"sliding_window": WINDOW}
_HEAD = {"head_dim": 16}
_CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.0}  # low enough to bite
_MLA = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}

PROMISED = (
    _promised("Llama", "llama"),
    _promised("Qwen2", "qwen2"),
    _promised("Qwen3", "qwen3", **_HEAD),
    _promised("Mistral", "mistral", **_WINDOW),
    _promised("Gemma 2", "gemma2", **_HEAD, **_WINDOW, **_CAPS, query_pre_attn_scalar=16),
    _promised("Gemma 3", "gemma3_text", **_HEAD, **_WINDOW, query_pre_attn_scalar=16, sliding_window_pattern=2),
    _promised("Phi-3", "phi3", partial_rotary_factor=0.5),
    Configuration("GPT-2", "gpt2", _GPT, plain=True, promised=True),
    _promised("GPT-NeoX", "gpt_neox"),
    _promised("OLMo 2", "olmo2"),
    _promised("Granite", "granite", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.7,
              attention_multiplier=0.2),
    _promised("Cohere", "cohere", logit_scale=0.5),
    _promised("StableLM", "stablelm"),
    Configuration("OPT", "opt", {"ffn_dim": 96, "word_embed_proj_dim": 64}, promised=True, positions=True, mask=True),
)  # fmt: skip
OTHERS = (
    Configuration("Mistral, no window", "mistral", {"sliding_window": None}),
    Configuration("Ministral", "ministral", {**_HEAD, **_WINDOW}),
    Configuration("Ministral 3", "ministral3", _HEAD),
    Configuration("Gemma", "gemma", _HEAD),
    Configuration("Phi", "phi"),
    Configuration("GPT-Neo", "gpt_neo", {"num_layers": 2, "num_heads": 4, "hidden_size": 64, "window_size": WINDOW,
                  "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 128}, plain=True),
    Configuration("GPT-J", "gptj", {**_GPT, "rotary_dim": 8}, plain=True),
    Configuration("GPT-BigCode", "gpt_bigcode", _GPT, plain=True),
    Configuration("CodeGen", "codegen", {**_GPT, "rotary_dim": 8}, plain=True),
    Configuration("StarCoder2", "starcoder2", {"sliding_window": None}),
    Configuration("Falcon, multi-query", "falcon", {"new_decoder_architecture": False, "multi_query": True}),
    Configuration("Falcon, grouped", "falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    Configuration("BLOOM", "bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}, plain=True),
    Configuration("MPT", "mpt", {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 128}, plain=True,
                  breaks="Tensor.item(): the position bias is sliced by a length that is read from a tensor"),
    Configuration("Persimmon", "persimmon"),
    Configuration("OLMo", "olmo"),
    Configuration("OLMo 3", "olmo3", {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    Configuration("Cohere 2", "cohere2", {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    Configuration("SmolLM3", "smollm3"),
    Configuration("Nemotron", "nemotron"),
    Configuration("EXAONE 4", "exaone4", {**_WINDOW, "sliding_window_pattern": 2}),
    Configuration("Ernie 4.5", "ernie4_5"),
    Configuration("GLM", "glm", _HEAD),
    Configuration("GLM 4", "glm4", _HEAD),
    Configuration("Helium", "helium", _HEAD),
    Configuration("HunYuan, dense", "hunyuan_v1_dense", _HEAD),
    Configuration("Seed-OSS", "seed_oss", _HEAD),
    Configuration("Arcee", "arcee"),
    Configuration("Apertus", "apertus"),
    Configuration("MiniCPM 3", "minicpm3", {**_MLA, "num_key_value_heads": 4}),
    Configuration("BitNet", "bitnet"),
    Configuration("DiffLlama", "diffllama"),
    Configuration("CWM", "cwm", {**_HEAD, **_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    Configuration("Jais 2", "jais2", _HEAD),
    Configuration("NanoChat", "nanochat"),
    Configuration("VaultGemma", "vaultgemma", {**_HEAD, **_WINDOW, **_CAPS, "query_pre_attn_scalar": 16}),
    Configuration("HyperCLOVA X", "hyperclovax"),
    Configuration("XGLM", "xglm", {"d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 96,
                  "max_position_embeddings": 128}, plain=True, positions=True, mask=True),
    Configuration("BioGPT", "biogpt", positions=True, mask=True),
    Configuration("Gemma 3n", "gemma3n_text", {**_HEAD, **_WINDOW, "hidden_size_per_layer_input": 16,
                  "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0, "laurel_rank": 8,
                  "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.95, 0.0],
                  "intermediate_size": [96, 96]}),
    Configuration("Gemma 4", "gemma4_text", {**_HEAD, **_WINDOW, "hidden_size_per_layer_input": 16,
                  "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0, "global_head_dim": 16,
                  "layer_types": ["sliding_attention", "full_attention"]}),
    Configuration("Youtu, latent attention", "youtu", {**_MLA, "num_key_value_heads": 4}),
)  # fmt: skip
ODD = (
    Configuration("Llama, vocabulary 1009", "llama", {"vocab_size": 1009}),
    Configuration(
        "Llama, 7 query heads a KV head",
        "llama",
        {**_HEAD, "hidden_size": 112, "num_attention_heads": 7, "num_key_value_heads": 1},
    ),
    Configuration("Qwen3, head size 80", "qwen3", {"head_dim": 80}),
    Configuration("Llama, hidden 72", "llama", {"hidden_size": 72, "intermediate_size": 100, "head_dim": 18}),
    Configuration("GPT-2, hidden 72", "gpt2", {**_GPT, "n_embd": 72, "vocab_size": 1009}, plain=True),
)
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
_NARROW = {**_EXPERTS, "moe_intermediate_size": 32}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1,
           "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}  # fmt: skip
_STATE = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16}
_DELTA = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16,
          "linear_value_head_dim": 16, "layer_types": ["linear_attention", "full_attention"]}  # fmt: skip
_SMALL = {"hidden_size": 64, "num_hidden_layers": 2}


def _rope(**settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 1e4, "original_max_position_embeddings": 32, **settings}}


def _partly(name: str, kind: str, plain: bool = False, breaks: str = "", **settings: Any) -> Configuration:
    return Configuration(name, kind, settings, plain=plain, breaks=breaks, partly=True)


VARIANTS = (
    _partly("Llama, Llama 3 rope", "llama",
            **_rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)),
    _partly("Llama, YaRN", "llama", **_rope(rope_type="yarn", factor=4.0)),
    _partly("Llama, dynamic rope", "llama", **_rope(rope_type="dynamic", factor=2.0),
            breaks="a branch on the greatest position, which is data"),
    _partly("Phi-3, LongRoPE", "phi3", original_max_position_embeddings=64,
            **_rope(rope_type="longrope", factor=2.0, short_factor=[1.0] * 8, long_factor=[2.0] * 8)),
)  # fmt: skip
EXPERTS = (
    _partly("Qwen2-MoE", "qwen2_moe", **_NARROW, shared_expert_intermediate_size=32),
    _partly("Qwen3-MoE", "qwen3_moe", **_NARROW, **_HEAD),
    _partly("Mixtral", "mixtral", **_LOCAL, sliding_window=None),
    _partly("OLMoE", "olmoe", **_EXPERTS),
    _partly("GraniteMoE", "granitemoe", **_LOCAL),
    _partly("GPT-OSS", "gpt_oss", **_LOCAL, **_HEAD, **_WINDOW),
    _partly("DeepSeek-V2", "deepseek_v2", **_MLA, **_ROUTED, num_key_value_heads=4),
    _partly("DeepSeek-V3", "deepseek_v3", **_MLA, **{**_ROUTED, "n_group": 2}, num_key_value_heads=4),
    _partly("GLM 4 MoE", "glm4_moe", **_ROUTED, **_HEAD),
    _partly("Ernie 4.5 MoE", "ernie4_5_moe", moe_num_experts=4, moe_k=2, moe_intermediate_size=32,
            moe_num_shared_experts=1, moe_layer_start_index=1, moe_layer_end_index=1),
    _partly("HunYuan, MoE", "hunyuan_v1_moe", **_NARROW, **_HEAD, moe_topk=2),
    _partly("dots1", "dots1", **_ROUTED, **_HEAD),
    _partly("MiniMax-M2", "minimax_m2", **_LOCAL, **_HEAD),
    _partly("PhiMoE", "phimoe", **_LOCAL, sliding_window=None),
    _partly("JetMoE", "jetmoe", **_LOCAL, kv_channels=16),
    _partly("DBRX", "dbrx", plain=True, d_model=64, n_heads=4, n_layers=2, max_seq_len=128,
            attn_config={"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
            ffn_config={"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
            breaks="nonzero: it visits the experts that were chosen, and how many is data"),
    _partly("FlexOlmo", "flex_olmo", **_EXPERTS),
    _partly("Llama 4", "llama4_text", **_LOCAL | {"num_experts_per_tok": 1}, **_HEAD, intermediate_size_mlp=96,
            attention_chunk_size=16, no_rope_layers=[1, 0], moe_layers=[1],
            layer_types=["chunked_attention", "full_attention"]),
)  # fmt: skip
STATES = (
    _partly("Mamba", "mamba", plain=True, **_SMALL),
    _partly("Mamba 2", "mamba2", plain=True, **_SMALL, num_heads=8, head_dim=16, n_groups=1, state_size=16,
            chunk_size=8),
    _partly("Falcon Mamba", "falcon_mamba", plain=True, **_SMALL),
    _partly("Bamba", "bamba", **_STATE, attn_layer_indices=[1]),
    _partly("Jamba", "jamba", **_EXPERTS, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
            expert_layer_offset=1, mamba_d_state=16, mamba_dt_rank=4, use_mamba_kernels=False),
    _partly("Falcon-H1", "falcon_h1", **_STATE, **_HEAD, mamba_d_ssm=128),
    _partly("Granite MoE, hybrid", "granitemoehybrid", **_STATE, **_LOCAL, shared_intermediate_size=32,
            layer_types=["mamba", "attention"]),
    _partly("Nemotron-H", "nemotron_h", **_HEAD, layers_block_type=["mamba", "attention"], mamba_num_heads=8,
            mamba_head_dim=16, n_groups=1, ssm_state_size=16),
    _partly("Zamba 2", "zamba2", num_key_value_heads=4, mamba_d_state=16, mamba_headdim=16, n_mamba_heads=8,
            mamba_ngroups=1, layers_block_type=["mamba", "hybrid"], num_mem_blocks=1, adapter_rank=8),
    _partly("LFM2", "lfm2", layer_types=["conv", "full_attention"]),
    _partly("Qwen3-Next", "qwen3_next", **_NARROW, **_DELTA, **_HEAD, shared_expert_intermediate_size=32),
    _partly("Qwen3.5", "qwen3_5_text", **_DELTA, **_HEAD),
    _partly("OLMo, hybrid", "olmo_hybrid", **{**_DELTA, "linear_num_key_heads": 4}),
    _partly("Kimi Linear", "kimi_linear", **{**_MLA, "q_lora_rank": None}, **_HEAD, num_key_value_heads=4,
            num_experts=4, num_experts_per_token=2, moe_intermediate_size=32, layer_types=_DELTA["layer_types"]),
    _partly("RecurrentGemma", "recurrent_gemma", lru_width=64, attention_window_size=WINDOW,
            block_types=["recurrent", "attention"]),
)  # fmt: skip
DENSE = PROMISED + OTHERS
PARTLY = VARIANTS + EXPERTS + STATES
BY_NAME = {c.name: c for c in (*DENSE, *ODD, *PARTLY)}
