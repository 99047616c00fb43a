"""vLLM's attention layers: what a launch has to know of one, and why it may have to stay out."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from onelaunch.errors import UnsupportedError

# Layers and attention backends whose caches hold keys and values as they are, a row of a head after the other. What
# derives from them goes by the same name, and may mean something else.
PLAIN_LAYER = "vllm.model_executor.layers.attention.attention.Attention"
PLAIN = frozenset({
    "onelaunch.integrations.vllm.torch_attention.TorchAttentionBackend",
    "vllm.v1.attention.backends.flash_attn.FlashAttentionBackend",
    "vllm.v1.attention.backends.triton_attn.TritonAttentionBackend",
})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """``cache_of``: the layer in whose cache keys and values are (itself, or one that it shares with)."""

    name: str
    cache_of: str
    heads: int
    kv_heads: int
    size: int
    scale: float
    window: int  # positions that count, the newest included; 0: all
    softcap: float  # 0: none
    updates: bool  # attention itself stores what it is given, where no operator of its own does


def describe(name: str, module: Any) -> Layer:
    """The layer of that name. Raises UnsupportedError where a launch cannot do what it does."""
    impl = module.impl
    if _qualified(type(module)) != PLAIN_LAYER:
        raise UnsupportedError(f"attention layer {_qualified(type(module))} in {name}; accepted: {PLAIN_LAYER}")
    backend = _qualified(module.attn_backend)
    if backend not in PLAIN:
        accepted = ", ".join(sorted(p.rpartition(".")[2] for p in PLAIN))
        raise UnsupportedError(f"attention backend {backend}; accepted: {accepted}")
    if getattr(impl, "chunk_lookback", -1) not in (-1, None):
        raise UnsupportedError(f"attention in chunks with look-back in {name}")
    if str(getattr(module, "attn_type", "decoder")).rpartition(".")[2].lower() != "decoder":
        raise UnsupportedError(f"attention of type {module.attn_type} in {name}; accepted: decoder")
    for attribute, what in (
        ("alibi_slopes", "ALiBi"),
        ("sinks", "attention sinks"),
        ("query_quant", "quantised queries"),
    ):
        found = getattr(impl, attribute, None)
        if found is None:
            found = getattr(module, attribute, None)
        if found is not None:
            raise UnsupportedError(f"{what} in {name}")
    size, size_v = module.head_size, getattr(module, "head_size_v", module.head_size)
    if size != size_v:
        raise UnsupportedError(f"values of {size_v} elements and keys of {size} in {name}")
    return Layer(
        name=name,
        cache_of=getattr(module, "kv_sharing_target_layer_name", None) or name,
        heads=module.num_heads,
        kv_heads=module.num_kv_heads,
        size=size,
        scale=float(impl.scale),
        window=_window(module, impl),
        softcap=float(getattr(impl, "logits_soft_cap", None) or 0.0),
        updates=bool(module.attn_backend.forward_includes_kv_cache_update),
    )


def rows(cache: torch.Tensor, layer: Layer) -> torch.Tensor:
    """A layer's cache as ``[N, P, ...]``, a view: blocks, positions, and a position's keys and values.

    Keys and values lie side by side ``[.., Hk, 2 D]`` where the last dimension is twice a head's size (0.32 and later:
    logically ``[N, Hk, P, 2 D]``), else one after the other ``[.., 2, Hk, D]`` (0.24: ``[N, 2, P, Hk, D]``). Raises
    UnsupportedError for anything else, and where the blocks of several layers alternate.
    """
    if cache.dim() == 4 and cache.shape[1] == layer.kv_heads and cache.shape[3] == 2 * layer.size:
        view = cache.transpose(1, 2)
    elif cache.dim() == 5 and cache.shape[1] == 2 and cache.shape[3:] == (layer.kv_heads, layer.size):
        view = cache.permute(0, 2, 1, 3, 4)
    else:
        raise UnsupportedError(
            f"a cache of shape {tuple(cache.shape)} with {layer.kv_heads} heads of {layer.size}; "
            "accepted: [blocks, heads, positions, 2 * size] or [blocks, 2, positions, heads, size]"
        )
    if cache.stride(0) != cache[0].numel():
        raise UnsupportedError(f"blocks of a cache that are {cache.stride(0)} elements apart, of {cache[0].numel()}")
    return view


def keys_and_values(view: Any, size: int, ndim: int) -> tuple[Any, Any]:
    """``[N, P, Hk, D]`` of each, of what ``rows`` gives (or of a proxy of it)."""
    if ndim == 4:
        return view[..., :size], view[..., size:]
    return view[:, :, 0], view[:, :, 1]


def together(key: Any, value: Any, ndim: int) -> Any:
    """New keys and values ``[B, Hk, D]`` as a row of the cache."""
    return torch.cat([key, value], -1) if ndim == 4 else torch.stack([key, value], 1)


def _qualified(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _window(module: Any, impl: Any) -> int:
    """0.24 and later keep it in the layer; FlashAttention counts what lies before the newest position."""
    window = getattr(module, "sliding_window", None)
    if window is None:
        found = getattr(impl, "sliding_window", None)
        if isinstance(found, tuple):
            window = found[0] + 1 if found[0] >= 0 else None
        else:
            window = found if found is not None and found > 0 else None
    return int(window or 0)
