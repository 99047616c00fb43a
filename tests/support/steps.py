"""Decode steps of a model in the two forms in which users meet the backend, and what they gave.

*direct*: the compiled model is called with a static cache. *generate*: ``model.generate`` compiles its own decode step.
Either way the prompt is read by plain torch, and a run can be *forced* along given tokens (teacher forcing), so that
every step of two runs has the same input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import transformers
from torch.utils._python_dispatch import _disable_current_modes

from onelaunch.frontend import backend as backend_module
from onelaunch.frontend import stats
from onelaunch.frontend.fallback import Fallback
from onelaunch.models.generation import graphs_compiled
from onelaunch.models.operators import OperatorCounter
from onelaunch.targets.reference.executable import ReferenceExecutable
from tests.support.configurations import Configuration

OPTIONS = {"fallback": "error", "cache": False}
Compile = Callable[[torch.nn.Module], Callable[..., Any]]


@dataclasses.dataclass
class Run:
    """What the steps after the prompt gave: logits [B, steps, V] in fp32, and the cache at the end."""

    logits: torch.Tensor
    tokens: torch.Tensor  # [B, steps]: what each step's logits choose
    cache: list[torch.Tensor]
    steps: int  # calls after the prompt
    operators: dict[str, int] | None  # torch operators of the last step outside launches, by name; None: it compiled


@dataclasses.dataclass
class Counts:
    """What was compiled while a run was counted."""

    graphs: int = 0
    programs: int = 0
    launches: int = 0
    torch_parts: int = 0
    tasks: int = 0  # of the program that ran last
    events: int = 0
    wrapped: list[str] = dataclasses.field(default_factory=list)
    fallbacks: list[Fallback] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Counts what is compiled and launched inside; read it afterwards, before torch is reset."""
    before = {id(r) for r in stats.records()}
    found = Counts()
    yield found
    for record in (r for r in stats.records() if id(r) not in before):
        found.graphs += 1
        found.torch_parts += record.torch_parts
        found.fallbacks += record.fallbacks
        if record.wrapped:
            found.wrapped.append(record.wrapped)
        for segment in record.live:
            found.programs += len(segment.programs)
            found.launches += segment.launches
            found.tasks, found.events = len(segment.programs[-1].tasks), len(segment.programs[-1].events)


def compiled(
    target: str, *, dynamic: bool | None = None, whole: bool = True, partly: bool = False, launch: str = "one"
) -> Compile:
    """How the direct form compiles a model for ``target``. ``whole``: as one graph; ``partly``: with fallbacks."""

    def make(model: torch.nn.Module) -> Callable[..., Any]:
        settings = {"target": target, "launch": launch, **_options(partly)}
        return torch.compile(model, backend=backend_module.backend, fullgraph=whole, dynamic=dynamic, options=settings)

    return make


def _options(partly: bool) -> dict[str, Any]:
    return {**OPTIONS, "fallback": "torch"} if partly else OPTIONS


def prompt(configuration: Configuration, batch: int, length: int, seed: int = 1) -> torch.Tensor:
    """Random token numbers, none of them special."""
    limit = min(configuration.config().vocab_size, 250)
    return torch.randint(3, limit, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def direct(
    configuration: Configuration,
    model: torch.nn.Module,
    ids: torch.Tensor,
    steps: int,
    *,
    compile: Compile | None = None,
    forced: torch.Tensor | None = None,
    length: int | None = None,
    damage: Callable[[Any], None] | None = None,
) -> Run:
    """Greedy steps after the prompt ``ids``, along ``forced`` [B, steps] if given, in a cache of ``length`` positions
    (default: full after the last step). ``damage`` may change the cache that the prompt left.
    """
    batch, start = ids.shape
    length = length or start + steps
    cache = transformers.StaticCache(config=model.config, max_cache_len=length)
    keeps = {_cache_name(model): cache, "use_cache": True}
    out = model(input_ids=ids, **keeps)
    first = out.logits[:, -1].argmax(-1, keepdim=True)
    if damage is not None:
        damage(cache)
    call = _Watched(model if compile is None else compile(model), steps)
    logits = []
    token = first
    for step in range(steps):
        token = token if forced is None else forced[:, step : step + 1]
        inputs = _extra(configuration, batch, start + step, length)
        made = call(input_ids=token, **keeps, **inputs).logits[:, -1]
        logits.append(made.float().clone())
        token = made.argmax(-1, keepdim=True)
    stacked = torch.stack(logits, 1)
    return Run(stacked, stacked.argmax(-1), contents(cache), steps, call.operators)


def _cache_name(model: torch.nn.Module) -> str:
    """What the model calls its cache. It would ignore another name."""
    names = inspect.signature(model.forward).parameters
    return next(name for name in ("past_key_values", "cache_params") if name in names)


class _Watched:
    """A step that counts the torch operators of its last call, unless that call compiles: compiling runs many."""

    def __init__(self, call: Callable[..., Any], steps: int) -> None:
        self.call, self.left = call, steps
        self.operators: dict[str, int] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left:
            return self.call(*args, **kwargs)
        graphs = graphs_compiled()
        with OperatorCounter() as counter, _unseen_inside_launches():
            found = self.call(*args, **kwargs)
        if graphs_compiled() == graphs:
            self.operators = dict(counter.names)
        return found


@contextlib.contextmanager
def _unseen_inside_launches() -> Iterator[None]:
    """The reference target computes with torch: what a launch of it does is the launch's own."""
    launch = ReferenceExecutable.launch

    def unseen(self: ReferenceExecutable, *args: Any) -> None:
        with _disable_current_modes():
            launch(self, *args)

    with mock.patch.object(ReferenceExecutable, "launch", unseen):
        yield


def _extra(configuration: Configuration, batch: int, position: int, length: int) -> dict[str, torch.Tensor]:
    found = {}
    if configuration.positions:
        found["position_ids"] = torch.full((batch, 1), position)
    if configuration.mask:
        found["attention_mask"] = (torch.arange(length) <= position).long().expand(batch, length).contiguous()
    return found


class _Forced(transformers.LogitsProcessor):
    """Chooses the given tokens whatever the model says."""

    def __init__(self, tokens: torch.Tensor, start: int) -> None:
        self.tokens, self.start = tokens, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = self.tokens[:, input_ids.shape[1] - self.start]
        return torch.full_like(scores, -torch.inf).scatter(1, wanted[:, None], 0.0)


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    ids: torch.Tensor,
    steps: int,
    *,
    target: str | None = None,
    forced: torch.Tensor | None = None,
    padding: int = 0,
    mode: str | None = None,
    partly: bool = False,
) -> Run:
    """``steps`` compiled calls of ``model.generate``; ``padding``: how many tokens left of the last row are none.
    ``partly``: with fallbacks.

    ``forced`` [B, steps]: the inputs of the steps. ``target`` None: plain torch.
    """
    mask = torch.ones_like(ids)
    if padding:
        mask[-1, :padding] = 0
    settings: dict[str, Any] = {"disable_compile": True}
    if target is not None:
        options = {"target": target, **_options(partly)}
        config = transformers.CompileConfig(backend="onelaunch", mode=mode, options=options)
        config._compile_all_devices = True
        settings = {"compile_config": config}
    if forced is not None:  # the token that the last step chooses is nobody's input
        tokens = torch.cat([forced, forced[:, -1:]], 1)
        settings["logits_processor"] = transformers.LogitsProcessorList([_Forced(tokens, ids.shape[1])])
    model.__dict__.pop("_compiled_call", None)
    model._last_compile_config = None
    watched: list[_Watched] = []
    with _watched(model, steps, watched):
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=steps + 1,
            do_sample=False,
            cache_implementation="static",
            return_dict_in_generate=True,
            output_logits=True,
            **settings,
        )
    operators = watched[0].operators if watched else None
    logits = torch.stack(out.logits[1:], 1).float()
    return Run(logits, logits.argmax(-1), contents(out.past_key_values), logits.shape[1], operators)


@contextlib.contextmanager
def _watched(model: torch.nn.Module, steps: int, found: list[_Watched]) -> Iterator[None]:
    """While active, ``generate`` gets its compiled step wrapped; the wrapper is put into ``found``."""
    make = model.get_compiled_call

    def watched(config: Any) -> _Watched:
        found.append(_Watched(make(config), steps))
        return found[-1]

    model.get_compiled_call = watched
    try:
        yield
    finally:
        del model.get_compiled_call


def contents(cache: Any) -> list[torch.Tensor]:
    """What all layers keep, in four dimensions: keys and values; states of convolutions and recurrences."""
    found = []
    for layer in cache.layers:
        found += [getattr(layer, name, None) for name in ("keys", "values")]
        for name in ("conv_states", "recurrent_states"):
            found += getattr(layer, name, {}).values()
    kept = [t.detach().float().clone() for t in found if t is not None]
    return [t.view(t.shape[0], 1, *t.shape[1:]) if t.dim() == 3 else t for t in kept]
