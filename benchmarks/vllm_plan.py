"""What clients ask of a vLLM server and when: the same for every server, drawn from a seed. See ``vllm_serve``."""

from __future__ import annotations

import random
from dataclasses import dataclass
from dataclasses import replace

SIZES = (1, 2, 4, 8, 16, 32, 64)  # of groups that arrive together
PAUSE = 0.5  # seconds between two groups, on average


@dataclass(frozen=True, slots=True)
class Request:
    """``prompt``: token ids. ``tokens``: how many are wanted. ``at``: seconds from the start until it is due."""

    prompt: list[int]
    tokens: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token ids are below ``vocabulary``; prompts and answers are at most so long."""

    vocabulary: int
    prompt: int
    tokens: int


def load(lengths: Lengths, count: int, rate: float, seed: object) -> list[Request]:
    """Requests of random lengths that arrive at random, ``rate`` a second on average (a Poisson process)."""
    draw = random.Random(f"load {seed}")
    made, at = [], 0.0
    for _ in range(count):
        at += draw.expovariate(rate)
        made.append(_request(draw, lengths, lengths.prompt // 8, lengths.tokens // 8, at))
    return made


def burst(lengths: Lengths, count: int, seed: object) -> list[Request]:
    """Long prompts, all due at once; all answers equally long."""
    draw = random.Random(f"burst {seed}")
    return [_request(draw, lengths, lengths.prompt // 2, lengths.tokens, 0.0) for _ in range(count)]


def groups(lengths: Lengths, count: int, seed: object) -> list[Request]:
    """Requests of all lengths, in groups of 1 to 64 that arrive at random: batches of all sizes."""
    draw = random.Random(f"groups {seed}")
    made: list[Request] = []
    at = 0.0
    while len(made) < count:
        for size in draw.sample(SIZES, len(SIZES)):
            made += [_request(draw, lengths, 1, 1, at) for _ in range(min(size, count - len(made)))]
            at += draw.expovariate(1 / PAUSE)
    return made


def at_once(requests: list[Request]) -> list[Request]:
    """The same, all due now."""
    return [replace(request, at=0.0) for request in requests]


def _request(draw: random.Random, lengths: Lengths, prompt: int, tokens: int, at: float) -> Request:
    """One with at least so long a prompt and answer."""
    length = draw.randint(max(1, prompt), lengths.prompt)
    ids = [draw.randrange(lengths.vocabulary) for _ in range(length)]
    return Request(ids, draw.randint(max(1, tokens), lengths.tokens), at)
