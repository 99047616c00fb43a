"""From Dynamo's graph to functional Core ATen, through AOTAutograd in inference.

AOTAutograd also builds a wrapper that keeps torch's aliasing semantics (inputs that overlap, outputs that are views of
inputs, changed metadata). Most graphs need none of it, and it costs time at every call, so it is kept only where
``Capture.wrapped`` says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import torch
from torch._functorch._aot_autograd.schemas import MutationType
from torch._functorch._aot_autograd.schemas import OutputType
from torch._functorch._aot_autograd.schemas import PlainTensorMeta
from torch._functorch._aot_autograd.schemas import ViewAndMutationMeta
from torch._guards import TracingContext
from torch._guards import detect_fake_mode
from torch._guards import tracing
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend.calling import Runner
from onelaunch.frontend.calling import bind
from onelaunch.frontend.empty import drop_empty

_FRESH = (OutputType.non_alias, OutputType.unsafe_view_alias, OutputType.custom_function_view)


class TrainingError(Exception):
    """The graph would have to be differentiated."""


@dataclasses.dataclass(slots=True)
class Capture:
    """One functional graph, and how a call reaches it.

    ``module``: placeholders are the inputs in Dynamo's order (unless ``wrapped``), then ``tensors``, constants.
    """

    module: GraphModule
    constants: set[str]  # names of placeholders that are parameters, or constants of the graph
    tensors: list[torch.Tensor]
    wrapped: str | None  # why AOTAutograd's wrapper has to stay around; None: it does not
    written: tuple[int, ...]  # positions of placeholders that are updated in place


def capture(gm: GraphModule, inputs: Sequence[Any], build: Callable[[Capture], Runner]) -> Runner:
    """Trace ``gm`` and hand the result to ``build``, whose runner takes the placeholders' values positionally.

    Returns a function of Dynamo's inputs that gives Dynamo's outputs. Raises TrainingError where gradients would be
    needed, and whatever tracing raises.
    """
    from torch._dynamo.backends.common import aot_autograd

    direct: list[Runner] = []

    def compiler(module: GraphModule, _: Sequence[Any]) -> Any:
        captured = _describe(gm, module, inputs)
        runner = bind(build(captured), captured.tensors)
        if captured.wrapped is None:
            direct.append(runner)

        def boxed(args: list[Any]) -> Sequence[Any]:
            flat = tuple(args)
            args.clear()
            return runner(*flat)

        boxed._boxed_call = True  # type: ignore[attr-defined]
        return boxed

    with _context(inputs):
        wrapped: Runner = aot_autograd(
            fw_compiler=_refuse_training,
            inference_compiler=compiler,
            decompositions=decompositions(),
            keep_inference_input_mutations=True,
        )(gm, list(inputs))
    return direct[0] if direct else wrapped


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Core ATen's, but for products with vectors, which are products like those with matrices, and for stores at one
    place of a dimension, which would become a choice for every element of it.
    """
    from torch._decomp import core_aten_decompositions

    table = dict(core_aten_decompositions())
    for op in (torch.ops.aten.mv, torch.ops.aten.addmv, torch.ops.aten.dot, torch.ops.aten.select_scatter):
        table.pop(op.default, None)
    return table


def placeholders(module: GraphModule) -> list[Node]:
    """The placeholder nodes, in order."""
    return [n for n in module.graph.nodes if n.op == "placeholder"]


def is_parameter(node: Node) -> bool:
    """True for a placeholder of Dynamo's graph that stands for a parameter of a module."""
    return isinstance(node.meta.get("example_value"), torch.nn.Parameter)


def _refuse_training(module: GraphModule, _: Sequence[Any]) -> Any:
    raise TrainingError("gradients are recorded; call under torch.no_grad() or torch.inference_mode()")


@contextlib.contextmanager
def _context(inputs: Sequence[Any]) -> Iterator[None]:
    """Dynamo's tracing context, or one of our own when called without Dynamo."""
    if TracingContext.try_get() is not None:
        yield
        return
    with tracing(TracingContext(detect_fake_mode(list(inputs)))):
        yield


def _describe(gm: GraphModule, module: GraphModule, inputs: Sequence[Any]) -> Capture:
    """The capture of a freshly traced module."""
    drop_empty(module)
    own = placeholders(module)
    context = TracingContext.try_get()
    metadata = context.fw_metadata if context is not None else None
    wrapped = _reason_for_wrapper(metadata, len(own), inputs, module)
    written = {n.args[0] for n in module.graph.nodes if n.target is torch.ops.aten.copy_.default}
    constants: set[str] = set()
    if len(own) == len(inputs):
        pairs = zip(own, placeholders(gm), strict=True)
        constants = {a.name for a, dynamo in pairs if is_parameter(dynamo) and a not in written}
    tensors = _lift_tensors(module, constants)
    positions = tuple(i for i, n in enumerate(own) if n in written)
    return Capture(module, constants, tensors, wrapped, positions)


def _reason_for_wrapper(
    metadata: ViewAndMutationMeta | None, count: int, inputs: Sequence[Any], module: GraphModule
) -> str | None:
    if metadata is None:
        return "nothing is known of aliasing"
    if count != len(inputs):
        return "inputs overlap in memory, or parameters are not inputs"
    if any(i.mutates_metadata or i.mutation_type is MutationType.MUTATED_OUT_GRAPH for i in metadata.input_info):
        return "an input's size, strides or storage is changed"
    if any(o.output_type not in _FRESH for o in metadata.output_info):
        return "an output shares memory with an input"
    if metadata.grad_enabled_mutation is not None or metadata.tokens or metadata.is_rng_op_functionalized:
        return "the call changes torch's global state"
    if not all(
        isinstance(m, PlainTensorMeta) for m in (*metadata.subclass_inp_meta, *metadata.subclass_fw_graph_out_meta)
    ):
        return "a tensor subclass"
    results = next(n for n in module.graph.nodes if n.op == "output").args[0]
    return None if len(results) == len(metadata.output_info) else "results besides the outputs"


def _lift_tensors(module: GraphModule, constants: set[str]) -> list[torch.Tensor]:
    """Make placeholders of the module's own tensors of more than one element; returns those tensors."""
    lifted: dict[str, Node] = {}
    tensors: list[torch.Tensor] = []
    last = placeholders(module)[-1:] or None
    for node in [n for n in module.graph.nodes if n.op == "get_attr"]:
        tensor = getattr(module, str(node.target), None)
        if not isinstance(tensor, torch.Tensor) or tensor.numel() == 1:
            continue
        if node.target not in lifted:
            with module.graph.inserting_after(last[0]) if last else module.graph.inserting_before(None):
                new = module.graph.placeholder(f"constant_{len(tensors)}")
            new.meta = {"val": node.meta["val"]} if "val" in node.meta else {"val": tensor}
            lifted[node.target] = new
            tensors.append(tensor)
            constants.add(new.name)
            last = [new]
        node.replace_all_uses_with(lifted[node.target])
        module.graph.erase_node(node)
    if tensors:
        module.recompile()
    return tensors
