"""Plain torch for the operators that vLLM leaves in a graph: written out node by node, for the frontend to lower.

vLLM's own IR operators carry a native definition, which is used. The operators of its C++ library write into arguments;
what is said here has their meaning, on values.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Graph
from torch.fx import GraphModule
from torch.fx import Node
from torch.fx.proxy import GraphAppendingTracer
from torch.fx.proxy import Proxy

IR = "vllm_ir"


def native(name: str) -> Callable[..., Any] | None:
    """The plain torch of ``space::name``; None: it has none here (which is right for torch's own operators)."""
    space, _, op = name.partition("::")
    if space == IR:
        return _ir(op)
    return _WRITERS.get(op) if space == "_C" else None


def write(node: Node, plain: Callable[..., Any], env: Mapping[Node, Any], tracer: GraphAppendingTracer) -> Any:
    """``plain`` written out where ``node`` is: a node of the tracer's graph, or a tuple of them. ``env``: what the
    nodes of the old graph are in the new one.
    """
    proxies: Any = {n: Proxy(env[n], tracer) for n in node.all_input_nodes}
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), proxies.__getitem__)
    results: Any = plain(*args, **kwargs)
    return torch.fx.node.map_aggregate(results, lambda v: v.node if isinstance(v, Proxy) else v)


def picks(node: Node, env: Mapping[Node, Any]) -> bool:
    """Whether the node is an element of what has been written out as several values."""
    first = node.args[0] if node.op == "call_function" and node.args else None
    return isinstance(first, Node) and isinstance(env.get(first), tuple)


def without_ir(gm: GraphModule) -> GraphModule:
    """A copy in which vLLM's IR operators are written out, for a compiler that knows nothing of them.

    before  vllm_ir.rms_norm(x, w, eps, None)
    after   x.to(float32), pow, mean, rsqrt, ...
    """
    graph = Graph()
    env: dict[Node, Any] = {}
    tracer = GraphAppendingTracer(graph)
    for node in gm.graph.nodes:
        name = operator(node)
        plain = native(name) if name.startswith(f"{IR}::") else None
        if plain is not None:
            env[node] = write(node, plain, env, tracer)
        elif picks(node, env):
            env[node] = env[node.args[0]][node.args[1]]
        else:
            env[node] = graph.node_copy(node, lambda n: env[n])
    return GraphModule(gm, graph)


def operator(node: Node) -> str:
    """``space::name`` of an operator, empty for everything else."""
    found = overload(node)
    return "" if found is None else str(found._schema.name)


def overload(node: Node) -> torch._ops.OpOverload | None:
    """The operator that a node calls; of one called without its overload, the first."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverloadPacket):
        target = getattr(target, target.overloads()[0])
    return target if isinstance(target, torch._ops.OpOverload) else None


def _ir(name: str) -> Callable[..., Any] | None:
    from vllm.ir.op import IrOp

    found = IrOp.registry.get(name)
    return None if found is None else found.impls["native"].impl_fn


def _gated(activation: Callable[..., Any], **options: Any) -> Callable[..., None]:
    """``out[..., :d] = activation(x[..., :d]) * x[..., d:]``."""

    def run(out: Any, x: Any) -> None:
        half = out.shape[-1]
        out.copy_(activation(x[..., :half], **options) * x[..., half:])

    return run


def _rotary_embedding(
    positions: Any,
    query: Any,
    key: Any,
    head_size: int,
    cos_sin_cache: Any,
    is_neox: bool,
    rope_dim_offset: int = 0,
    inverse: bool = False,
) -> None:
    """``query`` and ``key`` [B, heads * head_size] turned in place; a row of the cache is cosines, then sines."""
    rotated = cos_sin_cache.shape[-1]
    angles = cos_sin_cache.index_select(0, positions)
    cos, sin = angles[:, None, : rotated // 2], angles[:, None, rotated // 2 :]
    if inverse:
        sin = -sin
    end = rope_dim_offset + rotated
    for x in (query, key):
        if x is None:
            continue
        heads = x.view(positions.shape[0], -1, head_size)
        part = heads[..., rope_dim_offset:end]
        if is_neox:
            a, b = part[..., : rotated // 2], part[..., rotated // 2 :]
            turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        else:
            a, b = part[..., ::2], part[..., 1::2]
            turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
        part.copy_(turned)


_WRITERS: dict[str, Callable[..., None]] = {
    "rotary_embedding": _rotary_embedding,
    "silu_and_mul": _gated(torch.nn.functional.silu),
    "gelu_and_mul": _gated(torch.nn.functional.gelu),
    "gelu_tanh_and_mul": _gated(torch.nn.functional.gelu, approximate="tanh"),
}
