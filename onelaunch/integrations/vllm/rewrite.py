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
from onelaunch.integrations.vllm.layers import Layer
from onelaunch.integrations.vllm.native import native

UPDATE, ATTEND = "vllm::unified_kv_cache_update", "vllm::unified_attention_with_output"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a graph asks for. ``kept``: positions of the arguments that a step takes (tensors that it uses);
    ``names``: attention layers by node, in the graph's order; ``stores``: those that write their cache.
    """

    kept: tuple[int, ...]
    names: dict[Node, str]
    stores: frozenset[str]


def inspect(gm: GraphModule, inputs: Sequence[Any]) -> Found:
    """Find the attention layers. Raises UnsupportedError for a graph without any, or with operators of vLLM's own that
    have no plain torch here.
    """
    given = {n: i for i, n in enumerate(gm.graph.find_nodes(op="placeholder"))}
    names: dict[Node, str] = {}
    updated: set[str] = set()
    for node in gm.graph.nodes:
        op = _operator(node)
        if op in (UPDATE, ATTEND):
            name = _layer_name(_argument(node, "layer_name"), given, inputs)
            (updated.add(name) if op == UPDATE else names.setdefault(node, name))
        elif op.partition("::")[0] in _FOREIGN and native(_operator(node)) is None:
            raise UnsupportedError(f"operator {op}")
    if not names:
        raise UnsupportedError("a graph without attention")
    stores = frozenset(updated) or frozenset(n for a, n in names.items() if _argument(a, "key") is not None)
    kept = tuple(i for n, i in given.items() if isinstance(n.meta.get("example_value"), torch.Tensor) and n.users)
    return Found(kept, names, stores)


def rewrite(
    gm: GraphModule, found: Found, described: dict[str, Layer], ranks: dict[str, int], group: dict[str, int]
) -> GraphModule:
    """The step's graph. ``described``: the layers by name; ``ranks``: of their caches as vLLM keeps them; ``group``: which
    block table is whose. Placeholders are those kept, then caches in the order of ``ranks``, then three for each group.
    """
    graph = Graph()
    old = gm.graph.find_nodes(op="placeholder")
    env: dict[Node, Any] = {old[i]: graph.placeholder(old[i].name) for i in found.kept}
    caches = {name: graph.placeholder(f"cache_{i}") for i, name in enumerate(ranks)}
    tables = [
        tuple(graph.placeholder(f"{what}_{g}") for what in ("table", "slots", "lengths"))
        for g in range(max(group.values()) + 1)
    ]
    tokens = _tokens(graph, old, found, env)
    tracer = GraphAppendingTracer(graph)
    for node in gm.graph.nodes:
        if node.op == "placeholder":
            if isinstance(node.meta.get("example_value"), torch.SymInt):
                env[node] = tokens
        elif node in found.names:
            layer = described[found.names[node]]
            cache = caches[layer.cache_of]
            operands = [Proxy(n, tracer) for n in (cache, *tables[group[layer.name]])]
            call = {k: Proxy(env[v], tracer) for k in "query key value output".split() if (v := _argument(node, k))}
            _attend(call, operands, layer, ranks[layer.cache_of], layer.name in found.stores)
        elif _operator(node) == UPDATE or node.op == "get_attr":
            continue
        elif (plain := native(_operator(node))) is not None or _is_data_of(node):
            plain = plain or (lambda x: x)
            wrapped = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: Proxy(env[n], tracer))
            env[node] = torch.fx.node.map_aggregate(plain(*wrapped[0], **wrapped[1]), _node)
        elif node.op == "call_function" and _picks(node, env):
            env[node] = env[node.args[0]][node.args[1]]
        else:
            env[node] = graph.node_copy(node, lambda n: env[n])
            env[node].meta = {k: v for k, v in node.meta.items() if k in ("nn_module_stack", "stack_trace")}
    graph.eliminate_dead_code(lambda n: n.op in ("placeholder", "output") or _writes(n))
    return GraphModule(torch.nn.Module(), graph)


def _attend(call: dict[str, Proxy], operands: list[Proxy], layer: Layer, rank: int, stores: bool) -> None:
    cache, table, slots, lengths = operands
    if stores:
        new = layers.together(call["key"], call["value"], rank)
        cache.copy_(cache.tracer.create_proxy("call_function", paged_store, (cache, slots, new), {}))
    keys, values = layers.keys_and_values(cache, layer.size, rank)
    what = (call["query"], keys, values, table, lengths, layer.scale, layer.window, layer.softcap)
    call["output"].copy_(cache.tracer.create_proxy("call_function", paged_attend, what, {}))


def _tokens(graph: Graph, old: Sequence[Node], found: Found, env: dict[Node, Any]) -> Node:
    """The number of tokens: the size that the first argument with a symbolic size has."""
    for i in found.kept:
        for dim, size in enumerate(old[i].meta["example_value"].shape):
            if isinstance(size, torch.SymInt):
                return graph.call_method("size", (env[old[i]], dim))
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
    overload = _overload(node)
    assert overload is not None, node
    parameters = [a.name for a in overload._schema.arguments]
    if name in node.kwargs:
        return node.kwargs[name]
    at = parameters.index(name) if name in parameters else len(node.args)
    return node.args[at] if at < len(node.args) else None


def _operator(node: Node) -> str:
    """``space::name`` of an operator, empty for everything else."""
    overload = _overload(node)
    return "" if overload is None else str(overload._schema.name)


def _overload(node: Node) -> torch._ops.OpOverload | None:
    """The operator that a node calls; of one called without its overload, the first."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverloadPacket):
        target = getattr(target, target.overloads()[0])
    return target if isinstance(target, torch._ops.OpOverload) else None


def _is_data_of(node: Node) -> bool:
    """``parameter.data``: the parameter."""
    return node.op == "call_function" and node.target is torch._C._autograd._get_data_attr


def _picks(node: Node, env: dict[Node, Any]) -> bool:
    """An element of what has been written out as several values."""
    return bool(node.args) and isinstance(node.args[0], Node) and isinstance(env.get(node.args[0]), tuple)


def _node(value: Any) -> Any:
    return value.node if isinstance(value, Proxy) else value


def _writes(node: Node) -> bool:
    return node.op == "call_method" and node.target == "copy_"


_FOREIGN = frozenset({"vllm", "vllm_ir", "_C", "_C_cache_ops", "_moe_C", "_vllm_fa3_C", "_rocm_C"})
