"""A platform for tests: vLLM's wheel for GPUs, unmodified, on a CPU. What its C++ library would do is done in torch."""

from __future__ import annotations

import torch
from vllm.platforms.cpu import CpuPlatform

_LIBRARY: list[torch.library.Library] = []


def platform() -> str:
    return "onelaunch_cpu_platform.TorchCpuPlatform"


class TorchCpuPlatform(CpuPlatform):
    @classmethod
    def import_kernels(cls) -> None:
        if _LIBRARY:
            return
        library = torch.library.Library("_C", "FRAGMENT")
        _LIBRARY.append(library)
        for schema, function in _OPERATORS.items():
            library.define(schema)
            library.impl(schema.partition("(")[0], function, "CompositeExplicitAutograd")

    @classmethod
    def check_and_update_config(cls, vllm_config) -> None:
        super().check_and_update_config(vllm_config)
        # From 0.33 on, runner V2 warms up on a CPU, too: every feature of sampling, not all of which Triton's
        # interpreter can run; and steps that no request asks for would be counted as launches.
        vllm_config.kernel_config.enable_jit_warmup = False

    @classmethod
    def get_attn_backend_cls(cls, *args, **kwargs) -> str:
        return "onelaunch.integrations.vllm.torch_attention.TorchAttentionBackend"

    @classmethod
    def register_triton_kernel_overrides(cls) -> None:
        from vllm.triton_utils import HAS_TRITON

        if HAS_TRITON:  # Triton's interpreter runs them
            return
        from vllm.triton_utils.dispatcher import register_kernels

        register_kernels({"vllm.v1.worker.block_table.ComputeSlotMappingKernel.kernel": _slot_mapping})


def _slot_mapping(
    num_tokens, max_num_tokens, query_start_loc_ptr, positions_ptr, block_table_ptr, block_table_stride,
    slot_mapping_ptr, KV_CACHE_BLOCK_SIZE, TOTAL_CP_WORLD_SIZE, TOTAL_CP_RANK, CP_KV_CACHE_INTERLEAVE_SIZE, PAD_ID,
    BLOCK_SIZE,
):  # fmt: skip
    assert TOTAL_CP_WORLD_SIZE == 1
    _map_slots(query_start_loc_ptr, positions_ptr, block_table_ptr, slot_mapping_ptr, KV_CACHE_BLOCK_SIZE)
    slot_mapping_ptr[num_tokens:max_num_tokens] = PAD_ID


def _map_slots(starts, positions, table, slots, block_size):
    counts = starts.diff()
    rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
    at = positions[: len(rows)]
    slots[: len(rows)] = table[rows, at // block_size].long() * block_size + at % block_size


def _argmax_of_noise(logits, seeds):
    """The Gumbel trick: one draw from each row's softmax."""
    noise = torch.empty_like(logits)
    for row, seed in zip(noise, seeds.tolist(), strict=True):
        row.exponential_(generator=torch.Generator().manual_seed(seed))
    return (logits.softmax(-1) / noise).argmax(-1)


def _rotary_embedding(positions, query, key, head_size, cos_sin_cache, is_neox):
    """As vLLM's own native definition, in place."""
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

    size = cos_sin_cache.shape[-1]
    turned = RotaryEmbedding.forward_static(positions, query, key, head_size, size, cos_sin_cache, is_neox)
    for old, new in zip((query, key), turned, strict=True):
        if old is not None:
            old.copy_(new)


def _gated(activation):
    def run(out, x):
        gate, up = x.chunk(2, -1)
        out.copy_(activation(gate) * up)

    return run


_ACTIVATIONS = {
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}
_OPERATORS = {
    "init_cpu_memory_env(int[] nodes) -> ()": lambda nodes: None,
    "rotary_embedding(Tensor positions, Tensor(a!) query, Tensor(b!)? key, int head_size, Tensor cos_sin_cache, "
    "bool is_neox) -> ()": _rotary_embedding,
    **{f"{name}_and_mul(Tensor(a!) out, Tensor x) -> ()": _gated(function) for name, function in _ACTIVATIONS.items()},
    "compute_slot_mapping_kernel_impl(Tensor query_start_loc, Tensor positions, Tensor block_table, "
    "Tensor(a!) slot_mapping, int block_size) -> ()": _map_slots,  # 0.24
    "greedy_argmax(Tensor logits) -> Tensor": lambda logits: logits.argmax(-1),
    "fused_gumbel_argmax(Tensor logits, Tensor seeds) -> Tensor": _argmax_of_noise,
}
