"""Generating text with a compiled decode step: prefill in plain torch, then one call a token."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import torch

from onelaunch.errors import UserError
from onelaunch.models.decode_state import DecodeState
from onelaunch.models.decode_state import cache_capacity
from onelaunch.models.decode_step import BACKEND
from onelaunch.models.decode_step import Backend
from onelaunch.models.decode_step import DecodeStep
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.operators import OperatorCounter
from onelaunch.models.sampling import Sampler

OnToken = Callable[[int, int], None]
"""Called with (row, token id) for each new token."""


@dataclass
class Generation:
    """What came out, and what it took. Times are wall seconds.

    Attributes:
        tokens: the new token ids of each row; a stop token ends a row and is not included.
        prefill_seconds: the prompts, in plain torch.
        build_seconds: the decode steps in which Dynamo compiled something, whole.
        decode_seconds: all other decode steps but the one counted, with sampling, without the caller's output.
        decode_tokens: tokens that those steps produced, over rows not yet stopped.
        steps: decode steps in all.
        operators: torch operators of one step by name, counted on compiled code; None if no step could be counted.
    """

    tokens: list[list[int]]
    prefill_seconds: float = 0.0
    build_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_tokens: int = 0
    steps: int = 0
    operators: dict[str, int] | None = field(default=None)

    @property
    def tokens_per_second(self) -> float | None:
        """Decode speed over all rows, compilation and prefill excluded."""
        return self.decode_tokens / self.decode_seconds if self.decode_tokens else None


class Generator:
    """Generates from one loaded model; the compiled step is kept and reused across calls.

    Args:
        loaded: the model.
        backend: of the decode step; None runs it uncompiled.
        options: the backend's options.
    """

    def __init__(self, loaded: LoadedModel, backend: Backend = BACKEND, options: dict[str, Any] | None = None) -> None:
        self.loaded = loaded
        self._step = DecodeStep(loaded.model, backend, options)

    def check(self, prompts: list[list[int]], max_new_tokens: int) -> None:
        """Raise a ``UserError`` for what cannot be generated: no tokens, or more than the model has positions for."""
        if max_new_tokens < 1:
            raise UserError(f"max-new-tokens {max_new_tokens} is not accepted; it is a whole number from 1 up")
        if not prompts or any(not prompt for prompt in prompts):
            raise UserError("the prompt is empty; at least one token is needed")
        longest = max(len(prompt) for prompt in prompts)
        if longest + max_new_tokens > self.loaded.limit:
            raise UserError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit: "
                f"the model has {self.loaded.limit} positions"
            )

    @torch.no_grad()
    def generate(
        self,
        prompts: list[list[int]],
        max_new_tokens: int,
        sampler: Sampler | None = None,
        on_token: OnToken = lambda row, token: None,
    ) -> Generation:
        """Generate up to ``max_new_tokens`` for each prompt; all rows are decoded together.

        Args:
            prompts: token ids, one list a row.
            max_new_tokens: at least 1; a row ends earlier at one of the model's stop tokens.
            sampler: greedy if None.
            on_token: called as tokens come.

        Raises:
            UserError: a prompt is empty, or does not fit into the model's positions.
        """
        sampler = sampler or Sampler()
        state = self._state(prompts, max_new_tokens)
        result = Generation(tokens=[[] for _ in prompts])
        start = time.perf_counter()
        tokens = sampler(state.prefill())
        _wait(tokens)
        result.prefill_seconds = time.perf_counter() - start
        state.tokens = tokens
        active = self._take(result, set(range(len(prompts))), tokens, on_token)
        while active and max(map(len, result.tokens)) < max_new_tokens:
            tokens = self._timed_step(result, state, sampler, len(active))
            active = self._take(result, active, tokens, on_token)
        return result

    @torch.no_grad()
    def warm_up(self, prompts: list[list[int]], max_new_tokens: int) -> float:
        """Make one decode step of the shape that ``generate`` would make, and return its wall seconds.

        The first step of a shape compiles; the tokens do not matter, only how many there are in each row.
        """
        state = self._state(prompts, max_new_tokens)
        state.tokens = Sampler()(state.prefill())
        start = time.perf_counter()
        _wait(self._one_step(state, Sampler()))
        return time.perf_counter() - start

    @torch.no_grad()
    def decode(self, prompts: list[list[int]], steps: int) -> Iterator[int]:
        """Make so many decode steps after the prompts, greedily and past stop tokens; yields a number after each.

        Raises a ``UserError`` as ``generate`` does.
        """
        state = self._state(prompts, steps)
        state.tokens = Sampler()(state.prefill())
        for number in range(steps):
            self._one_step(state, Sampler())
            yield number

    def _state(self, prompts: list[list[int]], max_new_tokens: int) -> DecodeState:
        self.check(prompts, max_new_tokens)
        capacity = cache_capacity(max(map(len, prompts)) + max_new_tokens, self.loaded.limit)
        return DecodeState(self.loaded.model, prompts, capacity, self.loaded.pad_id)

    def _take(self, result: Generation, active: set[int], tokens: torch.Tensor, on_token: OnToken) -> set[int]:
        """Hand out each active row's new token; returns the rows that go on."""
        going = set()
        for row, token in enumerate(tokens.flatten().tolist()):
            if row in active and token not in self.loaded.stop_ids:
                result.tokens[row].append(token)
                on_token(row, token)
                going.add(row)
        return going

    def _timed_step(self, result: Generation, state: DecodeState, sampler: Sampler, active: int) -> torch.Tensor:
        graphs = graphs_compiled()
        counter = OperatorCounter() if result.operators is None and result.steps else None
        start = time.perf_counter()
        if counter is None:
            tokens = self._one_step(state, sampler)
        else:
            with counter:
                tokens = self._one_step(state, sampler)
        _wait(tokens)
        seconds = time.perf_counter() - start
        result.steps += 1
        if graphs_compiled() != graphs:
            result.build_seconds += seconds
        elif counter is not None:
            result.operators = dict(counter.names)
        else:
            result.decode_seconds += seconds
            result.decode_tokens += active
        return tokens

    def _one_step(self, state: DecodeState, sampler: Sampler) -> torch.Tensor:
        tokens = sampler(self._step(state))
        state.advance(tokens)
        return tokens


def _wait(tokens: torch.Tensor) -> None:
    """Until the tokens are there: a GPU's are only on their way when a step returns."""
    if tokens.is_cuda:
        torch.cuda.current_stream(tokens.device).synchronize()


def graphs_compiled() -> int:
    """How many graphs Dynamo has handed to backends in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
