"""What happens around the launches of a call that does not go through AOTAutograd's wrapper."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch

from onelaunch.errors import CheckError
from onelaunch.errors import UnsupportedError
from onelaunch.frontend.results import Result
from onelaunch.frontend.results import is_identity

Runner = Callable[..., Sequence[Any]]
log = logging.getLogger(__name__)


def bind(run: Runner, tensors: Sequence[torch.Tensor]) -> Runner:
    """``run`` with ``tensors`` behind the arguments of every call."""
    if not tensors:
        return run
    bound = tuple(tensors)
    return lambda *args: run(*args, *bound)


def finishing(run: Runner, results: Sequence[Result]) -> Runner:
    """``run``, with the outputs made from what it returns."""
    if is_identity(results):
        return run
    outputs = tuple(results)

    def finish(*args: Any) -> tuple[Any, ...]:
        made = run(*args)
        return tuple([r.make(args, made) for r in outputs])

    return finish


def announcing(run: Runner, written: Sequence[int]) -> Runner:
    """``run``, with autograd told which arguments it updates in place.

    A later ``backward`` through a tensor saved before the call then fails, as after any in-place operation, instead of
    using the new value.
    """
    if not written:
        return run
    pick = itemgetter(*written)
    several = len(written) > 1
    increment = torch.autograd.graph.increment_version

    def announce(*args: Any) -> Sequence[Any]:
        increment(pick(args) if several else [pick(args)])
        return run(*args)

    return announce


def without_gradients(run: Runner) -> Runner:
    """``run`` without recording gradients, where the caller (and so every call, by torch's guards) records them."""
    if not torch.is_grad_enabled():
        return run

    def quiet(*args: Any) -> Sequence[Any]:
        with torch.no_grad():
            return run(*args)

    return quiet


def or_torch(run: Runner, torch_run: Runner) -> Runner:
    """``run``, and torch for calls whose sizes need a program that turns out to be unsupported."""

    def attempt(*args: Any) -> Sequence[Any]:
        try:
            return run(*args)
        except (UnsupportedError, CheckError) as e:  # raised before anything has run
            log.warning("left to torch for the sizes of this call: %s", " ".join(str(e).split()))
            return torch_run(*args)

    return attempt
