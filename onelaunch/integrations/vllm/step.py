"""One decoder stack's decode step: programs made for the caches that vLLM has, and the call that launches one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import weakref
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from onelaunch.errors import OnelaunchError
from onelaunch.errors import UnsupportedError
from onelaunch.frontend import options as option_table
from onelaunch.frontend.compiler import Compilation
from onelaunch.frontend.compiler import compile_graph
from onelaunch.frontend.policy import MAX_ROWS
from onelaunch.integrations.vllm import layers
from onelaunch.integrations.vllm import rewrite
from onelaunch.integrations.vllm.batch import Batch
from onelaunch.integrations.vllm.batch import Group
from onelaunch.integrations.vllm.batch import NotDecodeError
from onelaunch.integrations.vllm.fakes import Fakes
from onelaunch.integrations.vllm.layers import Layer
from onelaunch.integrations.vllm.report import Report
from onelaunch.runtime.compiled import CompiledSegment

log = logging.getLogger("vllm.onelaunch")
WARMING = "warming up"


@dataclasses.dataclass(slots=True)
class _Made:
    """Programs for one layout of caches and tables, or why there are none."""

    compilation: Compilation | None
    reason: str = ""
    sizes: set[int] = dataclasses.field(default_factory=set)  # token counts that have run


class DecodeStep:
    """``gm``: what Dynamo gave for the stack, called with ``inputs``. ``modules``: vLLM's attention layers by name.
    ``sizes``: numbers of tokens for which programs are made together, as soon as there is a cache.
    """

    def __init__(
        self, gm: GraphModule, inputs: Sequence[Any], modules: dict[str, Any], options: dict[str, Any], report: Report,
        sizes: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.gm, self.report, self.sizes = gm, report, sizes
        self.options = option_table.parse({**options, "fallback": "error"})
        self.found = rewrite.inspect(gm, inputs)
        self.layers: dict[str, Layer] = {}
        for name in self.found.names.values():
            if name not in modules:
                raise UnsupportedError(f"attention layer {name} is not among those of the model")
            self.layers[name] = layers.describe(name, modules[name])
        self.names = tuple(self.layers)
        self.stored = tuple(dict.fromkeys(layer.cache_of for layer in self.layers.values()))
        if missing := [name for name in self.stored if name not in self.layers]:
            raise UnsupportedError(f"a layer that shares the cache of {missing[0]}, which the graph does not have")
        self._at = tuple(self.names.index(name) for name in self.stored)
        self._made: dict[Any, _Made] = {}
        self._views: dict[str, tuple[weakref.ref[torch.Tensor], torch.Tensor]] = {}

    def __call__(self, args: Sequence[Any], batch: Batch) -> Sequence[Any]:
        """Launch once for the batch. ``args``: those of Dynamo's graph. Raises NotDecodeError without a program."""
        homes, caches = self._caches(batch)
        key = (batch.of_layer, homes, *(_layout(c) for c in caches), *(_form(g) for g in batch.groups))
        made = self._made.get(key)
        fresh = made is None or batch.tokens not in made.sizes
        if fresh and capturing(caches[0]):
            raise NotDecodeError("nothing is compiled while a graph is captured")
        if made is None:
            made = self._made[key] = self._make(args, caches, homes, batch)
        if made.compilation is None:
            raise NotDecodeError(made.reason)
        taken = [args[i] for i in self.found.kept]
        of_groups = [t for g in batch.groups for t in (g.table, g.slots, g.lengths)]
        with _compiling() if fresh else contextlib.nullcontext():
            start = time.perf_counter()
            try:
                results = made.compilation.run(*taken, *caches, *of_groups)
            except UnsupportedError as error:  # raised before anything has run
                made.compilation, made.reason = None, f"no program: {' '.join(str(error).split())}"
                self.report.refused(made.reason)
                raise NotDecodeError(made.reason) from None
        if fresh:
            made.sizes.add(batch.tokens)
            self.report.ready(batch.tokens, time.perf_counter() - start, made.compilation)
            if caches[0].is_cuda:  # vLLM warms up to capture graphs, of which some are its own: it has to run as well
                raise NotDecodeError(WARMING)
        self.report.launched()
        return results

    def check(self) -> None:
        """Raise LaunchError or IndexError where a launch has ended early, also one in a graph; waits for nothing."""
        for made in self._made.values():
            for segment in made.compilation.record.live if made.compilation is not None else ():
                for binding in getattr(segment, "bindings", ()):
                    if (check := getattr(binding.executable, "check", None)) is not None:
                        check()

    def bytes_at_most(self, rows: int) -> int:
        """An upper bound of the memory that a launch needs besides its arguments: every value of the graph, in fp32,
        for so many tokens.
        """
        total = 0
        for node in self.gm.graph.nodes:
            value = node.meta.get("example_value")
            if node.op == "placeholder" or not isinstance(value, torch.Tensor):
                continue
            size = 4
            extents: Sequence[Any] = value.shape
            for extent in extents:
                size *= rows if isinstance(extent, torch.SymInt) else int(extent)
            total += size
        return total

    def _caches(self, batch: Batch) -> tuple[tuple[int, ...], list[torch.Tensor]]:
        """The caches to bind, and which of them is each layer's: layers of several groups may keep theirs in the same
        memory, in blocks of their own.
        """
        numbers: dict[int, int] = {}
        caches: list[torch.Tensor] = []
        homes = []
        for name, i in zip(self.stored, self._at, strict=True):
            view = self._view(name, batch.caches[i])
            number = numbers.setdefault(view.data_ptr(), len(caches))
            if number == len(caches):
                caches.append(view)
            elif caches[number].shape != view.shape or caches[number].stride() != view.stride():
                raise NotDecodeError(
                    f"no program: caches of shapes {caches[number].shape} and {view.shape} in one place"
                )
            homes.append(number)
        return tuple(homes), caches

    def _make(self, args: Sequence[Any], caches: Sequence[torch.Tensor], homes: Sequence[int], batch: Batch) -> _Made:
        try:
            for cache in caches:
                _check_type(cache)
            with _compiling():
                return _Made(self._compile(args, caches, homes, batch))
        except OnelaunchError as error:
            reason = " ".join(str(error).split())
        except Exception as error:
            log.exception("onelaunch: a decode step could not be compiled")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.report.refused(reason)
        return _Made(None, f"no program: {reason}")

    def _compile(
        self, args: Sequence[Any], caches: Sequence[torch.Tensor], homes: Sequence[int], batch: Batch
    ) -> Compilation:
        home = dict(zip(self.stored, homes, strict=True))
        group = dict(zip(self.names, batch.of_layer, strict=True))
        places = {n: rewrite.Place(home[layer.cache_of], group[n]) for n, layer in self.layers.items()}
        gm = rewrite.rewrite(self.gm, self.found, self.layers, places, [c.dim() for c in caches])
        fakes = Fakes(MAX_ROWS)
        old = self.gm.graph.find_nodes(op="placeholder")
        inputs = [_fake(fakes, old[i].meta["example_value"], args[i]) for i in self.found.kept]
        inputs += [fakes.tensor(c, (fakes.blocks(c.shape[0]), *c.shape[1:]), c.stride()) for c in caches]
        for g in batch.groups:
            inputs += _fake_group(fakes, g)
        for node, value in zip(gm.graph.find_nodes(op="placeholder"), inputs, strict=True):
            node.meta["example_value"] = value
        with fakes.env.suppress_guards():  # what tracing decides by the hint holds for every number of tokens, also one
            made = compile_graph(gm, inputs, self.options)
        for segment in made.record.live:
            if isinstance(segment, CompiledSegment):
                segment.extend(str(fakes.tokens), self.sizes)
        return made

    def _view(self, name: str, cache: torch.Tensor) -> torch.Tensor:
        """The cache as a program takes it; the same tensor as long as vLLM keeps the same one. It holds memory, so it
        goes when vLLM's own goes (some caches are thrown away to measure memory).
        """
        known = self._views.get(name)
        if known is not None and known[0]() is cache:
            return known[1]
        try:
            rows = layers.rows(cache, self.layers[name])
        except UnsupportedError as error:
            raise NotDecodeError(f"no program: {error}") from None
        view = torch.empty(0, dtype=cache.dtype, device=cache.device)
        view.set_(cache.untyped_storage(), rows.storage_offset(), rows.shape, rows.stride())
        gone = weakref.ref(cache, lambda _: self._views.pop(name, None))
        self._views[name] = (gone, view)
        return view


def _fake(fakes: Fakes, example: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    extents: Sequence[Any] = example.shape
    shape = [fakes.tokens if isinstance(s, torch.SymInt) else int(s) for s in extents]
    return fakes.tensor(real, shape, None if real.is_contiguous() else _static(real, shape))


def _static(real: torch.Tensor, shape: Sequence[Any]) -> Sequence[int]:
    if any(isinstance(s, torch.SymInt) for s in shape):
        raise UnsupportedError(f"an argument of strides {real.stride()} whose size varies; accepted: contiguous")
    return real.stride()


def _fake_group(fakes: Fakes, group: Group) -> list[torch.Tensor]:
    table = fakes.tensor(group.table, (fakes.tokens, group.table.shape[1]), group.table.stride())
    return [table, fakes.tensor(group.slots, (fakes.tokens,)), fakes.tensor(group.lengths, (fakes.tokens,))]


def _check_type(cache: torch.Tensor) -> None:
    if cache.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise UnsupportedError(f"a cache of {cache.dtype}; accepted: float32, float16, bfloat16")


def _form(group: Group) -> tuple[Any, ...]:
    return (group.table.shape[1], group.table.stride(), *(t.dtype for t in (group.table, group.slots, group.lengths)))


def _layout(cache: torch.Tensor) -> tuple[Any, ...]:
    return (*cache.shape[1:], *cache.stride(), cache.dtype)


def capturing(tensor: torch.Tensor) -> bool:
    """A CUDA graph is being captured on the stream that a launch would go to."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """vLLM calls models in inference mode, in which tracing would make tensors that nothing else can use; Dynamo's code
    runs without torch functions, by which graphs are written.
    """
    with torch._C._EnableTorchFunction(), torch.inference_mode(False), torch.no_grad():
        yield
