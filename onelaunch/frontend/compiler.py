"""One Dynamo graph to one callable: the frontend's steps in order."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import GraphModule

from onelaunch.frontend import attention
from onelaunch.frontend import cached
from onelaunch.frontend import fallback
from onelaunch.frontend import policy
from onelaunch.frontend import stats
from onelaunch.frontend.assemble import Assembly
from onelaunch.frontend.assemble import assemble
from onelaunch.frontend.calling import Runner
from onelaunch.frontend.calling import announcing
from onelaunch.frontend.calling import without_gradients
from onelaunch.frontend.capture import Capture
from onelaunch.frontend.capture import TrainingError
from onelaunch.frontend.capture import capture
from onelaunch.frontend.fallback import Fallback
from onelaunch.frontend.options import Options
from onelaunch.frontend.partition import Refuse
from onelaunch.frontend.segment import Compiler
from onelaunch.frontend.segment import Segment

log = logging.getLogger(__name__)
_NUMBERS = itertools.count()


@dataclasses.dataclass(slots=True)
class Compilation:
    """What became of one Dynamo graph."""

    run: Runner
    record: stats.GraphRecord
    assembly: Assembly | None  # None: the graph stayed in torch whole


def compile_graph(
    gm: GraphModule,
    inputs: Sequence[Any],
    options: Options,
    compile_segment: Compiler | None = None,
    refuse: Refuse | None = None,
) -> Compilation:
    """Compile Dynamo's ``gm`` for calls like ``inputs``.

    ``compile_segment`` and ``refuse`` stand in for the runtime's and the lowering table's own in tests. Raises
    UnsupportedError where something would stay in torch and the options forbid that.
    """
    start = time.perf_counter()
    name = f"graph_{next(_NUMBERS)}"
    target, unfit = _target(options, inputs)
    options = dataclasses.replace(options, target=target)
    reason = fallback.of_graph(unfit) if unfit is not None else policy.reason_for_torch(gm, inputs, options)
    if reason is not None:
        return _whole_in_torch(gm, options, name, reason, start)
    stored = cached.Entry(gm, inputs, options) if compile_segment is None else None
    if stored is not None and (found := stored.load(name)) is not None:
        return _done(found.run, found, name, start, None, plan_hit=True)
    original = _shallow_copy(gm)
    attention.keep_whole(gm)
    refuse = refuse or _lowering_table()
    compiler = compile_segment or _runtime()
    made: list[tuple[Capture, Assembly]] = []

    def make(module: GraphModule, constants: set[str], number: int) -> Segment:
        return compiler(module, constants, options, f"{name}_{number}")

    def build(captured: Capture) -> Runner:
        with unset_fake_temporarily():  # a graph's constants are real tensors, and their numbers are read
            assembly = assemble(captured, refuse, make, strict=options.fallback == "error")
        made.append((captured, assembly))
        run = without_gradients(assembly.run)
        return run if captured.wrapped else announcing(run, captured.written)

    try:
        run = capture(gm, inputs, build)
    except TrainingError as e:
        return _whole_in_torch(original, options, name, fallback.of_graph(str(e)), start)
    captured, assembly = made[0]
    if stored is not None and captured.wrapped is None:
        stored.save(assembly, captured)
    for entry in assembly.fallbacks:
        log.warning("left to torch: %s", entry)
    return _done(run, assembly, name, start, captured.wrapped, plan_hit=False)


def _target(options: Options, inputs: Sequence[Any]) -> tuple[str, str | None]:
    """The target for these arguments, and why they cannot be where they are."""
    from onelaunch.runtime.targets import resolve

    return resolve(options.target, inputs)


def _done(
    run: Runner, assembly: Assembly, name: str, start: float, wrapped: str | None, *, plan_hit: bool
) -> Compilation:
    entry = stats.GraphRecord(
        name=name,
        fallbacks=assembly.fallbacks,
        segments=[weakref.ref(s) for s in assembly.segments],
        torch_parts=assembly.torch_parts,
        wrapped=wrapped,
        plan_hit=plan_hit,
        seconds=time.perf_counter() - start,
    )
    stats.record(entry)
    return Compilation(run, entry, assembly)


def _whole_in_torch(gm: GraphModule, options: Options, name: str, reason: Fallback, start: float) -> Compilation:
    if options.fallback == "error":
        raise reason.error()
    log.warning("%s stays in torch: %s", name, reason)
    entry = stats.GraphRecord(name, [reason], [], 1, None, plan_hit=False, seconds=time.perf_counter() - start)
    stats.record(entry)
    return Compilation(gm.forward, entry, None)


def _shallow_copy(gm: GraphModule) -> GraphModule:
    """The same graph over the same modules, so that the one can be rewritten and the other kept."""
    graph = torch.fx.Graph()
    output = graph.graph_copy(gm.graph, {})
    graph.output(output)
    return GraphModule(gm, graph)


def _runtime() -> Compiler:
    from onelaunch.runtime import compiled

    compile_segment: Compiler = compiled.compile_segment
    return compile_segment


def _lowering_table() -> Refuse:
    from onelaunch.frontend.lower import reason_against

    return reason_against
