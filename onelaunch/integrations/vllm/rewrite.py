"""vLLM's Dynamo graph of a decoder stack becomes the graph of a decode step in plain torch.

    before  (sizes, input_ids, weights.., positions, layer names..)
            unified_kv_cache_update(k, v, name); unified_attention_with_output(q, k, v, out, name)
    after   (input_ids, weights.., positions, cache of each layer.., block table, slots, lengths of each group..)
            cache.copy_(paged_store(cache, slots, [k | v])); out.copy_(paged_attend(q, keys, values, table, lengths))

No model is known here: what is rewritten are vLLM's operators, and everything else stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph
from torch.fx import GraphModule
from torch.fx import Node
from torch.fx.proxy import GraphAppendingTracer
from torch.fx.proxy import Proxy

from onelaunch.errors import UnsupportedError
from onelaunch.frontend.paged_op import paged_attend
from onelaunch.frontend.paged_op import paged_store
from onelaunch.integrations.vllm import layers
from onelaunch.integrations.vllm import native
from onelaunch.integrations.vllm.layers import Layer

UPDATE, ATTEND = "vllm::unified_kv_cache_update", "vllm::unified_attention_with_output"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a graph asks for. ``kept``: positions of the arguments that a step takes (tensors that it uses);
    ``names``: attention layers by node, in the graph's order; ``updated``: those with an operator that writes their
    cache; ``given``: those whose attention is given new keys and values.
    """

    kept: tuple[int, ...]
    names: dict[Node, str]
    updated: frozenset[str]
    given: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a layer's keys and values are: in which cache, by which group's block table."""

    cache: int
    group: int


def inspect(gm: GraphModule, inputs: Sequence[Any]) -> Found:
    """Find the attention layers. Raises UnsupportedError for a graph without any, or with operators of vLLM's own that
    have no plain torch here.
    """
    given = {n: i for i, n in enumerate(gm.graph.find_nodes(op="placeholder"))}
    names: dict[Node, str] = {}
    updated: set[str] = set()
    for node in gm.graph.nodes:
        op = native.operator(node)
        if op in (UPDATE, ATTEND):
            name = _layer_name(_argument(node, "layer_name"), given, inputs)
            (updated.add(name) if op == UPDATE else names.setdefault(node, name))
        elif op.partition("::")[0] in _FOREIGN and native.native(op) is None:
            raise UnsupportedError(f"operator {op}")
    if not names:
        raise UnsupportedError("a graph without attention")
    with_keys = frozenset(n for a, n in names.items() if _argument(a, "key") is not None)
    kept = tuple(i for n, i in given.items() if isinstance(n.meta.get("example_value"), torch.Tensor) and n.users)
    return Found(kept, names, frozenset(updated), with_keys)


def rewrite(
    gm: GraphModule, found: Found, described: dict[str, Layer], places: dict[str, Place], ranks: Sequence[int]
) -> GraphModule:
    """The step's graph. ``described`` and ``places``: of the layers, by name; ``ranks``: of the caches. Placeholders
    are those kept, then the caches, then three for each group.
    """
    graph = Graph()
    old = gm.graph.find_nodes(op="placeholder")
    env: dict[Node, Any] = {old[i]: graph.placeholder(old[i].name) for i in found.kept}
    caches = [graph.placeholder(f"cache_{i}") for i in range(len(ranks))]
    tables = [
        tuple(graph.placeholder(f"{what}_{g}") for what in ("table", "slots", "lengths"))
        for g in range(1 + max(p.group for p in places.values()))
    ]
    at, dim = size_of_tokens(gm, found)
    tokens = graph.call_method("size", (env[old[at]], dim))
    tracer = GraphAppendingTracer(graph)
    for node in gm.graph.nodes:
        if node.op == "placeholder":
            if isinstance(node.meta.get("example_value"), torch.SymInt):
                env[node] = tokens
        elif node in found.names:
            layer, place = described[found.names[node]], places[found.names[node]]
            operands = [Proxy(n, tracer) for n in (caches[place.cache], *tables[place.group])]
            call = {k: Proxy(env[v], tracer) for k in ("query", "key", "value", "output") if (v := _argument(node, k))}
            _attend(call, operands, layer, ranks[place.cache], _stores(layer, found))
        elif native.operator(node) == UPDATE:
            continue
        elif (plain := native.native(native.operator(node))) is not None or _is_data_of(node):
            env[node] = native.write(node, plain or (lambda x: x), env, tracer)
        elif native.picks(node, env):
            env[node] = env[node.args[0]][node.args[1]]
        else:
            env[node] = graph.node_copy(node, lambda n: env[n])
            env[node].meta = {k: v for k, v in node.meta.items() if k in ("nn_module_stack", "stack_trace")}
    return GraphModule(gm, graph)


def _stores(layer: Layer, found: Found) -> bool:
    own = layer.updates and layer.cache_of == layer.name and layer.name in found.given
    return own or layer.name in found.updated


def _attend(call: dict[str, Proxy], operands: list[Proxy], layer: Layer, rank: int, stores: bool) -> None:
    cache, table, slots, lengths = operands
    if stores:
        new = layers.together(call["key"], call["value"], rank)
        cache.copy_(cache.tracer.create_proxy("call_function", paged_store, (cache, slots, new), {}))
    keys, values = layers.keys_and_values(cache, layer.size, rank)
    what = (call["query"], keys, values, table, lengths, layer.scale, layer.window, layer.softcap)
    call["output"].copy_(cache.tracer.create_proxy("call_function", paged_attend, what, {}))


def size_of_tokens(gm: GraphModule, found: Found) -> tuple[int, int]:
    """Where the number of tokens is found: the first argument with a symbolic size, and the dimension that has it."""
    old = gm.graph.find_nodes(op="placeholder")
    for i in found.kept:
        for dim, size in enumerate(old[i].meta["example_value"].shape):
            if isinstance(size, torch.SymInt):
                return i, dim
    raise UnsupportedError("a graph whose number of tokens is fixed")


def _layer_name(value: Any, given: dict[Node, int], inputs: Sequence[Any]) -> str:
    """A string, or an argument that holds one."""
    if isinstance(value, Node):
        value = inputs[given[value]] if value in given else value.meta.get("example_value")
    name = getattr(value, "value", value)
    if not isinstance(name, str):
        raise UnsupportedError(f"an attention layer whose name is {type(value).__name__}")
    return name


def _argument(node: Node, name: str) -> Any:
    overload = native.overload(node)
    assert overload is not None, node
    parameters = [a.name for a in overload._schema.arguments]
    if name in node.kwargs:
        return node.kwargs[name]
    at = parameters.index(name) if name in parameters else len(node.args)
    return node.args[at] if at < len(node.args) else None


def _is_data_of(node: Node) -> bool:
    """``parameter.data``: the parameter."""
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "_get_data_attr"


_FOREIGN = frozenset({"vllm", "vllm_ir", "_C", "_C_cache_ops", "_moe_C", "_vllm_fa3_C", "_rocm_C"})
