"""Exhaustive exploration of a state machine: every state that some order of steps reaches; a trace to a bad one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from typing import TypeVar

S = TypeVar("S", bound=Hashable)
Step = tuple[str, S]  # what happens, and the state after it


class ProtocolError(Exception):
    """A protocol can go wrong; the message ends with the steps that lead there."""


def explore(start: S, steps: Callable[[S], Iterable[Step[S]]], final: Callable[[S], bool], limit: int = 500_000) -> int:
    """Visit every state; returns how many there are.

    ``steps`` lists what can happen next and raises ProtocolError where the state itself is wrong. A state without steps
    that is not ``final`` is a deadlock.
    """
    came: dict[S, tuple[S, str] | None] = {start: None}
    todo = [start]
    while todo:
        state = todo.pop()
        try:
            after = list(steps(state))
        except ProtocolError as error:
            raise ProtocolError(f"{error}; steps: {_trace(state, came)}") from None
        if not after and not final(state):
            raise ProtocolError(f"deadlock; steps: {_trace(state, came)}")
        for what, following in after:
            if following not in came:
                came[following] = (state, what)
                todo.append(following)
        if len(came) > limit:
            raise ProtocolError(f"more than {limit} states")
    return len(came)


def _trace(state: S, came: dict[S, tuple[S, str] | None]) -> str:
    words: list[str] = []
    while (origin := came[state]) is not None:
        state, what = origin
        words.append(what)
    return ", ".join(reversed(words))
