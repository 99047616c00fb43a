"""One ATen operation at a time: a graph of one node, lowered, compiled, certified and run on the reference target."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from onelaunch.check import check
from onelaunch.frontend.lower import lower
from onelaunch.frontend.lower import reason_against
from onelaunch.graph.dtype import DType
from onelaunch.graph.graph import Graph
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.reference.executable import ReferenceExecutable
from onelaunch.transform import compile_graph

# Tasks cost next to nothing here, so that even small ops are split over all workers.
MACHINE = Machine(
    name="reference", workers=3, bandwidth=1.0, flops=0.1, transcendental=20.0, dependency=1.0, task=1.0,
    activation=DType.F32, linear_rows=2, alignment=64,
)  # fmt: skip
Op = Callable[..., Any]
# bf16 and f16 are computed in fp32 and rounded once, as ATen does: one unit in the last place of difference at most.
TOLERANCE = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10, torch.float32: 2e-6, torch.float64: 1e-12}


def module_of(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """A module whose graph calls ``op`` once; its tensors, lists of tensors included, are placeholders."""
    graph, mode = torch.fx.Graph(), FakeTensorMode(allow_non_fake_inputs=True)
    tensors: list[torch.Tensor] = []

    def hold(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        node = graph.placeholder(f"x{len(tensors)}")
        node.meta["val"] = mode.from_tensor(value)
        tensors.append(value)
        return node

    nodes_args, nodes_kwargs = pytree.tree_map(hold, (args, kwargs))
    call = graph.call_function(op, nodes_args, nodes_kwargs)
    fake_args, fake_kwargs = pytree.tree_map(
        lambda v: v.meta["val"] if isinstance(v, torch.fx.Node) else v, (nodes_args, nodes_kwargs)
    )
    with mode:
        call.meta["val"] = op(*fake_args, **fake_kwargs)
    results: list[torch.fx.Node] = [call]
    if isinstance(call.meta["val"], tuple | list):
        results = []
        for i, value in enumerate(call.meta["val"]):
            results.append(graph.call_function(operator.getitem, (call, i)))
            results[-1].meta["val"] = value
    graph.output(tuple(results))
    return torch.fx.GraphModule(torch.nn.Module(), graph), tensors


def refusal(op: Op, *args: Any, **kwargs: Any) -> str | None:
    """Why the operation is left to torch, or None."""
    module, _ = module_of(op, args, kwargs)
    return next((r for n in module.graph.nodes if n.target is op and (r := reason_against(n)) is not None), None)


def lowered(op: Op, *args: Any, **kwargs: Any) -> Graph:
    """The graph of one operation."""
    return lower(module_of(op, args, kwargs)[0], set(), {})


def run(op: Op, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
    """The results of one operation, computed by a certified program on the reference target."""
    module, tensors = module_of(op, args, kwargs)
    program = compile_graph(lower(module, set(), {}), MACHINE, verified=True)
    check(program)
    output = next(n for n in module.graph.nodes if n.op == "output")
    metas = [n.meta["val"] for n in output.args[0]]
    results = [torch.empty_strided(m.shape, m.stride(), dtype=m.dtype) for m in metas]
    launch(program, tensors, results)
    return results


def launch(program: Program, tensors: list[torch.Tensor], results: list[torch.Tensor], debug: bool = True) -> None:
    """Run a program without symbols once."""
    pointers = []
    for b in program.buffers:
        source = results if b.role is Role.OUTPUT else tensors
        pointers.append(0 if b.role is Role.WORKSPACE else source[b.argument].data_ptr())
    ReferenceExecutable(program, debug=debug).launch(pointers, [])


def assert_eager(op: Op, *args: Any, **kwargs: Any) -> None:
    """The operation gives what torch gives, NaN where torch gives NaN."""
    found, wanted = run(op, *args, **kwargs), op(*args, **kwargs)
    assert_close(found, list(wanted) if isinstance(wanted, tuple | list) else [wanted])


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor], scale: float = 1.0) -> None:
    """Equal shapes, types and values; floats within ``scale`` times the tolerance of their type."""
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        limit = TOLERANCE.get(w.dtype, 0.0) * scale
        torch.testing.assert_close(f, w, rtol=limit, atol=limit, equal_nan=True)
