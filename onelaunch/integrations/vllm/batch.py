"""What vLLM says of the batch that a forward pass runs, read from its forward context."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

PROFILING = "profiling"


class NotDecodeError(Exception):
    """The batch is none for a launch; the message says why, in few words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table. ``table`` [B, M] int32, ``slots`` [B] int64, ``lengths`` [B] int32."""

    table: torch.Tensor
    slots: torch.Tensor
    lengths: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One token of each of ``tokens`` sequences. ``of_layer``: for each layer asked for, its number in ``groups``;
    ``caches``: the layers' caches, as vLLM keeps them now.
    """

    tokens: int
    groups: tuple[Group, ...]
    of_layer: tuple[int, ...]
    caches: tuple[torch.Tensor, ...]


def check_decode(tokens: int, most: int) -> dict[str, Any]:
    """The metadata of all layers, where the batch is one token of each of ``tokens`` sequences, which are no more than
    ``most``. Raises NotDecodeError.

    Nothing on a device is read: the largest query length is a number that the scheduler knows.
    """
    from vllm.forward_context import get_forward_context
    from vllm.forward_context import is_forward_context_available

    if not is_forward_context_available():
        raise NotDecodeError("no forward context")
    context = get_forward_context()
    metadata = context.attn_metadata
    if metadata is None:
        raise NotDecodeError(PROFILING)
    if context.cudagraph_runtime_mode.name == "PIECEWISE":  # pieces of the stock graph: of any batch of that size
        raise NotDecodeError("piecewise graphs")
    if not isinstance(metadata, dict) or not metadata:
        raise NotDecodeError("micro-batches")
    for found in _distinct(metadata.values()):
        longest = getattr(found, "max_query_len", None)
        if longest != 1:
            raise NotDecodeError("unknown metadata" if longest is None else "prefill")
    if tokens > most:
        raise NotDecodeError(f"more than {most} sequences")
    return metadata


def read(layers: tuple[str, ...], tokens: int, most: int) -> Batch:
    """The batch, for the layers of these names. Raises NotDecodeError; see ``check_decode``."""
    from vllm.forward_context import get_forward_context

    metadata = check_decode(tokens, most)
    context = get_forward_context()
    numbers: dict[int, int] = {}
    groups: list[Group] = []
    of_layer = []
    for name in layers:
        found = metadata.get(name)
        if found is None:
            raise NotDecodeError("a layer without metadata")
        number = numbers.setdefault(id(found), len(groups))
        if number == len(groups):
            groups.append(_group(found, _slots(context.slot_mapping, found, name), tokens))
        of_layer.append(number)
    caches = tuple(context.no_compile_layers[name].kv_cache for name in layers)
    if any(not c.numel() for c in caches):
        raise NotDecodeError("no cache yet")
    return Batch(tokens, tuple(groups), tuple(of_layer), caches)


def _group(metadata: Any, slots: torch.Tensor, tokens: int) -> Group:
    if getattr(metadata, "causal", True) is not True:
        raise NotDecodeError("attention that is not causal")
    for name in _UNUSUAL:
        if getattr(metadata, name, None) is not None:
            raise NotDecodeError(f"attention with {name}")
    found = Group(metadata.block_table[:tokens], slots[:tokens], metadata.seq_lens[:tokens])
    if any(t.shape[0] != tokens for t in (found.table, found.slots, found.lengths)):
        raise NotDecodeError("more tokens than sequences")
    return found


# Fields of FlashAttention's and Triton's metadata that change which positions count, or on which device they are.
_UNUSUAL = ("rswa_prefix_lens", "mm_prefix_query_range_tensor", "mm_prefix_range_tensor", "dcp_context_kv_lens")


def _slots(mapping: Any, metadata: Any, name: str) -> torch.Tensor:
    found = mapping.get(name) if isinstance(mapping, dict) else None
    slots: torch.Tensor = metadata.slot_mapping if found is None else found
    return slots


def _distinct(values: Any) -> list[Any]:
    return list({id(v): v for v in values}.values())
