"""``onelaunch generate``: from a request to an answer and a table of what it took."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from onelaunch.cli import conversation
from onelaunch.cli.conversation import Message
from onelaunch.errors import UserError
from onelaunch.frontend.options import TARGETS


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as it came from the command line."""

    model: str | None
    prompts: list[str]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    target: str
    batch: Path | None
    raw: bool
    compare: bool
    measure_cached: bool
    as_json: bool


def run(request: Request) -> None:
    """Do it. Everything that can be refused without loading the model is refused first."""
    _check(request)
    chats = _chats(request)
    need("generate", "rich", "cli")
    need("generate", "transformers", "models")
    from onelaunch.cli.session import Session  # rich, torch and transformers load here, not for a mistyped option

    session = Session(request)
    if chats is None:
        session.talk()
    elif len(chats) == 1:
        session.answer(chats[0])
    else:
        session.answer_all(chats)
    session.conclude()


def need(command: str, package: str, extra: str) -> None:
    """Raise a ``UserError`` that says how to get a package which the command needs, if it is absent."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{command} needs the package {package}: pip install 'onelaunch[{extra}]'")


def _check(request: Request) -> None:
    from onelaunch.models.sampling import Sampler

    if request.target not in TARGETS:
        raise UserError(f"unknown target {request.target!r}; accepted: {', '.join(TARGETS)}")
    if request.max_new_tokens < 1:
        raise UserError(f"max-new-tokens {request.max_new_tokens} is not accepted; it is a whole number from 1 up")
    if len(request.prompts) + (request.batch is not None) > 1:
        raise UserError("give one of PROMPT, --prompt and --batch, not several")
    Sampler(request.temperature, request.top_p, request.seed)


def at_a_terminal() -> bool:
    """Whether somebody types on standard input."""
    return sys.stdin.isatty()


def _chats(request: Request) -> list[list[Message]] | None:
    """The chats to answer; None for a conversation at the terminal."""
    if request.batch is not None:
        return conversation.from_file(request.batch)
    if request.prompts:
        return [conversation.from_prompt(request.prompts[0])]
    if at_a_terminal():
        return None
    return [conversation.from_stream(sys.stdin)]
