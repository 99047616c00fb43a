"""A model's decode step, compiled as one graph where Dynamo can."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.exc import TorchDynamoException

from onelaunch.errors import OnelaunchError
from onelaunch.models.build import first_line
from onelaunch.models.decode_state import DecodeState
from onelaunch.models.decode_state import has_sliding_layers

log = logging.getLogger(__name__)

BACKEND = "onelaunch"

_MODEL = re.compile(r"(L\['self'\]|self\b|G\[|dict\(type\(self|type\(self)")

Backend = str | Callable[..., Any] | None
"""A ``torch.compile`` backend by name or as a function, or None for the plain model."""


def guards_outside_the_model(guards: Sequence[Any]) -> list[bool]:
    """Which of Dynamo's guards are tested at each call: all but those on the model and on modules' globals.

    Nobody else can change them here, and they are 5,700 of 6,100 guards: after each step the CPU's caches hold weights
    and little else, so that testing them costs over a millisecond. Guards on tokens, positions, masks and the cache,
    and on torch's own state, stay.
    """
    return [not _MODEL.match(guard.name) for guard in guards]


class DecodeStep:
    """``model.forward`` for one token of every row, compiled at the first call of a shape.

    Some models build their masks with sizes that Dynamo cannot know. The forms below are tried in turn, and the first
    that Dynamo captures is kept: the model builds its masks; it is given them, as ``generate`` does; and last, it is
    given them and may be several graphs.

    Args:
        model: a transformers causal language model.
        backend: for ``torch.compile``.
        options: the backend's.
    """

    def __init__(self, model: Any, backend: Backend = BACKEND, options: dict[str, Any] | None = None) -> None:
        self._model, self._backend, self._options = model, backend, options
        self._forms = [(False, True), (True, True), (True, False)]  # (masks are given, one graph)
        self._call: Callable[..., Any] | None = model.forward if backend is None else None

    def __call__(self, state: DecodeState) -> torch.Tensor:
        """The logits after ``state``'s tokens, [batch, 1, vocabulary]. Raises what the backend raised on purpose."""
        while self._call is None:
            call = self._compile(state)
            try:
                logits = self._run(call, state)
            except TorchDynamoException as failure:
                if isinstance(failure, BackendCompilerFailed) or len(self._forms) == 1:
                    raise
                log.info("the decode step is compiled in another form: %s", first_line(failure))
                del self._forms[0]
            else:
                self._call = call
                return logits
        return self._run(self._call, state)

    def _compile(self, state: DecodeState) -> Callable[..., Any]:
        _, whole = self._forms[0]
        # Each count of a sliding layer's Python integer would be another graph; left alone, Dynamo makes it a symbol.
        dynamic = None if has_sliding_layers(state.cache) else False
        backend = self._backend
        assert backend is not None, "without a backend there is nothing to compile"
        options = {**(self._options or {}), "guard_filter_fn": guards_outside_the_model}
        return torch.compile(self._model.forward, backend=backend, fullgraph=whole, dynamic=dynamic, options=options)

    def _run(self, call: Callable[..., Any], state: DecodeState) -> torch.Tensor:
        masks, _ = self._forms[0]
        if masks:
            state.use_masks()
        try:
            logits: torch.Tensor = call(**state.arguments()).logits
        except BackendCompilerFailed as failure:
            if isinstance(failure.inner_exception, OnelaunchError):  # torch wraps what a backend raises
                raise failure.inner_exception from None
            raise
        return logits
