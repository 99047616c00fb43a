"""The parts of ``vllm_serve``: what is asked of a server in each, and what is made of its answers."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from benchmarks import vllm_engine
from benchmarks import vllm_plan
from benchmarks.rounds import Timing
from benchmarks.vllm_client import Answer
from benchmarks.vllm_client import Driven
from benchmarks.vllm_client import drive
from benchmarks.vllm_plan import Lengths
from benchmarks.vllm_plan import Request
from benchmarks.vllm_server import Server
from benchmarks.vllm_worker import LISTED

BAR = 0.97  # of vLLM's own, for requests that come all at once
GROWTH = 16.0  # MiB of a GPU that the second half of the endurance may add
MOST = 64  # requests at once


async def load(server: Server, lengths: Lengths, count: int, rate: float, clients: int, until: float) -> dict[str, Any]:
    """Random arrivals, a few clients."""
    return times([await drive(server.url, vllm_plan.load(lengths, count, rate, 0), clients, until)])


async def burst(server: Server, lengths: Lengths, count: int, rounds: int, until: float) -> dict[str, Any]:
    """All at once, and again when all are answered."""
    asked = [vllm_plan.burst(lengths, count, number) for number in range(rounds)]
    return times([await drive(server.url, requests, count, until) for requests in asked])


async def warm(server: Server, lengths: Lengths, until: float) -> None:
    """What is compiled or allocated at its first use; prompts that no part asks."""
    for size in vllm_plan.SIZES:
        requests = vllm_plan.at_once(vllm_plan.groups(lengths, size, f"warm {size}"))
        await drive(server.url, [Request(r.prompt, 4) for r in requests], size, until, LISTED)


async def endurance(
    server: Server, lengths: Lengths, count: int, until: float, alone: bool
) -> tuple[dict[str, Any], list[Answer], list[Answer]]:
    """Requests that come and go, in two halves, with the memory before, between and after; then, with ``alone``, each
    by itself. Returns what was counted and both kinds of answers.
    """
    halves = [vllm_plan.groups(lengths, n, i) for i, n in enumerate((count - count // 2, count // 2))]
    memory = [await asyncio.to_thread(server.memory)]
    driven = []
    for half in halves:
        driven.append(await drive(server.url, half, MOST, until, LISTED))
        memory.append(await asyncio.to_thread(server.memory))
    answers = [answer for half in driven for answer in half.answers]
    found: dict[str, Any] = {
        "answered": sum(a.failure is None for a in answers), "of": len(answers), "failures": failures(answers),
        "most": max(half.most for half in driven), "seconds": sum(half.seconds for half in driven),
        "memory": {name: [m[name] for m in memory] for name in memory[0]},
    }  # fmt: skip
    grown = found["memory"]["gpu_mib"]
    found["flat"] = None if grown[0] is None else grown[2] - grown[1] <= GROWTH
    if not alone:
        return found, answers, []
    single = vllm_plan.at_once(list(itertools.chain(*halves)))
    again = await drive(server.url, single, 1, until, LISTED, salt="alone")  # or prompts' keys would be those of before
    return found, answers, again.answers


def failures(answers: list[Answer]) -> list[str]:
    """Why requests were not answered, each reason once."""
    return sorted({answer.failure for answer in answers if answer.failure is not None})


def times(rounds: list[Driven]) -> dict[str, Any]:
    """Milliseconds to the first token and from one token to the next, median and 99th percentile; tokens a second."""
    answers = [answer for driven in rounds for answer in driven.answers]
    done = [answer for answer in answers if answer.failure is None]
    found: dict[str, Any] = {
        "answered": len(done), "of": len(answers), "failures": failures(answers),
        "most": max(driven.most for driven in rounds), "seconds": sum(driven.seconds for driven in rounds),
        "first_ms": None, "token_ms": None, "tokens_s": None,
    }  # fmt: skip
    if not done:
        return found
    gaps = tuple(gap for a in done for gap in between(a.arrived))
    return found | {
        "first_ms": quantiles(tuple(a.arrived[0] - a.due for a in done)),
        "token_ms": quantiles(gaps) if gaps else None,
        "tokens_s": sum(len(a.tokens) for a in done) / found["seconds"],
    }


def between(arrived: list[float]) -> list[float]:
    """Seconds for each token after the first; tokens that come together share the time since those before them."""
    shared: list[float] = []
    last = arrived[0]
    for moment, together in itertools.groupby(arrived):
        count = len(list(together))
        if moment != arrived[0]:
            shared += [(moment - last) / count] * count
        last = moment
    return shared


def quantiles(seconds: tuple[float, ...]) -> list[float]:
    """Median and 99th percentile, in milliseconds."""
    timing = Timing(seconds)
    return [timing.median * 1e3, timing.percentile(0.99) * 1e3]


def ratios(ours: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    """How many times faster than stock we are, of ``times``."""
    found: dict[str, Any] = {}
    for name in ("first_ms", "token_ms"):
        pair = ours[name], stock[name]
        found[name] = [theirs / own for own, theirs in zip(*pair, strict=True)] if all(pair) else None
    pair = ours["tokens_s"], stock["tokens_s"]
    found["tokens_s"] = pair[0] / pair[1] if all(pair) else None
    return found


def met(ratio: dict[str, Any]) -> bool:
    """Whether requests that come all at once are served as fast as the bar says."""
    return ratio["first_ms"] is not None and min(*ratio["first_ms"], ratio["tokens_s"]) >= BAR


def agreement(ours: list[Answer], stock: list[Answer], alone: list[Answer]) -> dict[str, Any]:
    """How texts compare with the same requests run alone on stock: ours, and stock's own beside other requests.

    ``noise`` is what stock's log-probabilities differ by between the two, as ``vllm_engine`` has it; ``partings`` are
    the steps at which our texts part and stock's gap there, of those that were answered.
    """
    whole = [all(a.failure is None for a in three) for three in zip(ours, stock, alone, strict=True)]
    left, beside, right = ([a.row() for a in itertools.compress(rows, whole)] for rows in (ours, stock, alone))
    noise = vllm_engine.noise_of({"points": {"": {"rows": right, "again": beside}}})
    pair = {"rows": left}, {"rows": right}
    return {
        **vllm_engine.compare(*pair, noise), "partings": vllm_engine.partings(*pair), "noise": noise,
        "stock_equal": vllm_engine.compare({"rows": beside}, {"rows": right}, noise)["equal"],
    }  # fmt: skip
