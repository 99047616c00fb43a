"""Looks up and stores plans: a hit goes from Dynamo's graph to something to call without tracing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from onelaunch.errors import ProgramFormatError
from onelaunch.frontend import plan
from onelaunch.frontend.assemble import Assembly
from onelaunch.frontend.calling import announcing
from onelaunch.frontend.calling import bind
from onelaunch.frontend.calling import finishing
from onelaunch.frontend.calling import or_torch
from onelaunch.frontend.calling import without_gradients
from onelaunch.frontend.capture import Capture
from onelaunch.frontend.fingerprint import FingerprintError
from onelaunch.frontend.fingerprint import fingerprint
from onelaunch.frontend.options import Options

log = logging.getLogger(__name__)


class Entry:
    """The place of one Dynamo graph in the disk cache; without a key, nothing is looked up or stored."""

    def __init__(self, gm: GraphModule, inputs: Sequence[Any], options: Options) -> None:
        self.options = options
        self.in_torch = gm.forward
        self.sizes = [i for i in inputs if isinstance(i, torch.SymInt)]
        self.inputs = len(inputs)
        self.key = self._key(gm, inputs) if options.cache else None

    def load(self, name: str) -> Assembly | None:
        """The stored graph, ready to run; None where there is none, or none that fits."""
        if self.key is None:
            return None
        from onelaunch.runtime import cache
        from onelaunch.runtime.compiled import load_segment

        stored = cache.read(self.key, self.options)
        if stored is None:
            return None
        try:
            found = plan.from_json(stored)
            if found.inputs != self.inputs or not self._holds(found.guards):
                return None
            segment = load_segment(found.segment, self.options, f"{name}_0")
        except ProgramFormatError as e:
            log.warning("a stored plan is compiled again: %s", e)
            return None
        run = finishing(bind(segment, found.tensors), found.results)
        if self.sizes and self.options.fallback != "error":  # a later call may need a program that is unsupported
            run = or_torch(run, self.in_torch)
        run = announcing(without_gradients(run), found.written)
        return Assembly(run, [segment], [], 0, list(found.results))

    def save(self, assembly: Assembly, captured: Capture) -> None:
        """Store what was compiled, where a plan can say it."""
        if self.key is None or assembly.results is None or assembly.torch_parts or captured.wrapped is not None:
            return
        if sum(t.numel() for t in captured.tensors) > plan.MAX_CONSTANTS:
            log.info("not cached: the graph holds large constant tensors")
            return
        saved = assembly.segments[0].save()
        if saved is None:
            return
        from onelaunch.runtime import cache

        made = plan.Plan(
            inputs=self.inputs,
            segment=saved,
            results=tuple(assembly.results),
            tensors=tuple(captured.tensors),
            written=captured.written,
            guards=self._guards(),
        )
        cache.write(self.key, made.to_json(), self.options)

    def _key(self, gm: GraphModule, inputs: Sequence[Any]) -> str | None:
        from onelaunch.runtime import cache

        try:
            return fingerprint(gm, inputs, cache.settings(self.options))
        except FingerprintError as e:
            log.info("not cached: %s", e)
            return None

    def _guards(self) -> str | None:
        """What the shape environment assumes by now about the symbolic sizes.

        Guards on what is no input of the graph (a Python integer that Dynamo has looked at and pruned) are Dynamo's
        own: it makes them again wherever it makes this graph again.
        """
        if not self.sizes:
            return None
        env = self.sizes[0].node.shape_env
        known = {s for size in self.sizes for s in size.node.expr.free_symbols}
        guards = [g for g in env.guards if env.simplify(g.expr).free_symbols <= known]
        found = env.produce_guards_expression(placeholders=self.sizes, guards=guards)
        return None if found is None else str(found)

    def _holds(self, guards: str | None) -> bool:
        """Whether the assumptions hold for this call; asking makes torch guard on them for later calls."""
        if guards is None:
            return True
        return bool(self.sizes) and bool(self.sizes[0].node.shape_env.evaluate_guards_expression(guards, self.sizes))
