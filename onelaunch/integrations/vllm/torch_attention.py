"""vLLM's attention in plain torch: for machines whose vLLM has no kernels (a wheel for GPUs on a CPU), and to compare.

Whenever it is called it computes: prefill, decode, and mixtures of both, a sequence at a time, in fp32.
"""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import ClassVar

import torch
from vllm.v1.attention.backend import AttentionBackend
from vllm.v1.attention.backend import AttentionImpl
from vllm.v1.attention.backend import AttentionMetadataBuilder
from vllm.v1.attention.backend import CommonAttentionMetadata

from onelaunch.integrations.vllm import layers
from onelaunch.integrations.vllm.layers import Layer


class TorchAttentionBackend(AttentionBackend):
    """Selected as ``CUSTOM``; decoders only."""

    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float32, torch.bfloat16, torch.float16]
    forward_includes_kv_cache_update = False

    @staticmethod
    def get_name() -> str:
        """The name that vLLM keeps for backends from outside."""
        return "CUSTOM"

    @staticmethod
    def get_impl_cls() -> type[AttentionImpl]:
        """What computes."""
        return TorchAttention

    @staticmethod
    def get_builder_cls() -> type[AttentionMetadataBuilder]:
        """What makes the metadata of a batch."""
        return TorchMetadataBuilder

    @staticmethod
    def get_kv_cache_shape(
        num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, *_: Any, **__: Any
    ) -> tuple[int, ...]:
        """0.24 alone asks: ``[N, 2, P, Hk, D]``."""
        return (num_blocks, 2, block_size, num_kv_heads, head_size)

    @classmethod
    def supports_sliding_window(cls) -> bool:
        """Windows count back from each query."""
        return True


@dataclasses.dataclass
class TorchMetadata:
    """Of a batch: ``query_start_loc`` [B + 1], ``seq_lens`` [B], ``block_table`` [B, M], ``slot_mapping`` [tokens]."""

    num_actual_tokens: int
    max_query_len: int
    query_start_loc: torch.Tensor
    seq_lens: torch.Tensor
    block_table: torch.Tensor
    slot_mapping: torch.Tensor
    causal: bool = True


class TorchMetadataBuilder(AttentionMetadataBuilder[TorchMetadata]):
    """Takes what all backends are given."""

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> TorchMetadata:
        """The metadata, without copies."""
        m = common_attn_metadata
        return TorchMetadata(
            num_actual_tokens=m.num_actual_tokens,
            max_query_len=m.max_query_len,
            query_start_loc=m.query_start_loc,
            seq_lens=m.seq_lens,
            block_table=m.block_table_tensor,
            slot_mapping=m.slot_mapping,
            causal=m.causal,
        )


class TorchAttention(AttentionImpl):
    """One layer's attention."""

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int,
        alibi_slopes: list[float] | None = None,
        sliding_window: int | None = None,
        kv_cache_dtype: str = "auto",
        logits_soft_cap: float | None = None,
        attn_type: str = "decoder",
        kv_sharing_target_layer_name: str | None = None,
        **_: Any,
    ) -> None:
        if alibi_slopes is not None or str(attn_type) not in ("decoder", "AttentionType.DECODER"):
            raise NotImplementedError(
                f"attention of type {attn_type} with slopes {alibi_slopes}; accepted: decoder, None"
            )
        self.num_heads, self.head_size, self.num_kv_heads = num_heads, head_size, num_kv_heads
        self.scale, self.sliding_window, self.logits_soft_cap = float(scale), sliding_window, logits_soft_cap or 0.0
        self.kv_cache_dtype = kv_cache_dtype
        self.kv_sharing_target_layer_name = kv_sharing_target_layer_name
        window, softcap = sliding_window or 0, self.logits_soft_cap
        self._layer = Layer("", "", num_heads, num_kv_heads, head_size, self.scale, window, softcap, updates=False)

    def do_kv_cache_update(
        self, layer: Any, key: torch.Tensor, value: torch.Tensor, kv_cache: torch.Tensor, slot_mapping: torch.Tensor
    ) -> None:
        """Stores at the slots; a negative slot stores nothing."""
        rows = layers.rows(kv_cache, self._layer)
        new = layers.together(key, value, rows.dim())[: slot_mapping.shape[0]]
        real = slot_mapping >= 0
        slots = slot_mapping[real]
        rows[slots // rows.shape[1], slots % rows.shape[1]] = new[real].to(rows.dtype)

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: TorchMetadata | None,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``output`` [tokens, H, D]; zeros where there is nothing to compute (profiling, rows that pad)."""
        output.zero_()
        if attn_metadata is None:
            return output
        rows = layers.rows(kv_cache, self._layer)
        keys, values = layers.keys_and_values(rows, self.head_size, rows.dim())
        starts, lengths = attn_metadata.query_start_loc.tolist(), attn_metadata.seq_lens.tolist()
        for b, length in enumerate(lengths):
            begin, end = starts[b], starts[b + 1]
            if end > begin and length:
                output[begin:end] = self._sequence(query[begin:end], keys, values, attn_metadata.block_table[b], length)
        return output

    def _sequence(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor, length: int
    ) -> torch.Tensor:
        at = torch.arange(length, device=query.device)
        blocks, places = table[at // keys.shape[1]].long(), at % keys.shape[1]
        groups = self.num_heads // self.num_kv_heads
        k, v = (t[blocks, places].float().repeat_interleave(groups, 1) for t in (keys, values))
        score = torch.einsum("qhd,lhd->hql", query.float(), k) * self.scale
        if self.logits_soft_cap:
            score = torch.tanh(score / self.logits_soft_cap) * self.logits_soft_cap
        now = torch.arange(length - query.shape[0], length, device=query.device)[:, None]
        seen = at <= now
        if self.sliding_window:
            seen &= at > now - self.sliding_window
        weights = score.masked_fill(~seen, float("-inf")).softmax(-1)
        return torch.einsum("hql,lhd->qhd", weights, v).to(query.dtype)
