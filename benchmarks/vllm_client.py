"""Clients of a vLLM server: requests over HTTP, each at its time, answers as they stream in. See ``vllm_serve``.

One process and one event loop for all clients. aiohttp is what vLLM itself depends on.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from benchmarks.vllm_plan import Request

LINE = 1 << 24  # bytes that one event of a stream may have


@dataclass(slots=True)
class Answer:
    """What came back. Times are seconds on one clock: when the request was due, and for each token when it arrived.

    ``likely``: for each token the likeliest ones with their log-probabilities, where they were asked for.
    """

    request: Request
    due: float
    tokens: list[int] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    likely: list[list[tuple[int, float]]] = field(default_factory=list)
    failure: str | None = "not sent"

    def row(self) -> dict[str, Any]:
        """As ``vllm_engine`` compares them."""
        return {"tokens": self.tokens, "logprobs": self.likely}


@dataclass(slots=True)
class Driven:
    """Answers in the order of their requests, the most that ran at once, and seconds from the start to the end."""

    answers: list[Answer]
    most: int
    seconds: float


async def drive(
    url: str, requests: list[Request], clients: int, until: float, listed: int = 0, salt: str = ""
) -> Driven:
    """Send every request when it is due, at most ``clients`` at once; what is unanswered at ``until`` is given up.

    A request that waits for a free client is late, and its time to the first token counts from when it was due. With
    ``listed``, so many log-probabilities of each token. Prompts of another ``salt`` are not found in vLLM's cache.
    """
    import aiohttp

    extra: dict[str, Any] = {"cache_salt": salt} if salt else {}
    if listed:
        extra |= {"logprobs": listed, "return_tokens_as_token_ids": True}
    gate = asyncio.Semaphore(clients)
    running, most = 0, 0
    start = time.perf_counter()
    answers = [Answer(request, start + request.at) for request in requests]

    async def send(session: Any, answer: Answer) -> None:
        nonlocal running, most
        await asyncio.sleep(answer.due - time.perf_counter())
        async with gate:
            running += 1
            most = max(most, running)
            answer.failure = "no end"
            try:
                await _ask(session, answer, extra)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                answer.failure = f"{type(error).__name__}: {error}"[:300]
            finally:
                running -= 1

    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), read_bufsize=LINE
    ) as session:
        tasks = [asyncio.create_task(send(session, answer)) for answer in answers]
        _, late = await asyncio.wait(tasks, timeout=max(0.0, until - start))
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    return Driven(answers, most, time.perf_counter() - start)


async def _ask(session: Any, answer: Answer, extra: dict[str, Any]) -> None:
    """Send one request and take its tokens in. Raises ValueError with what the server said against it."""
    body = {
        "model": "model", "prompt": answer.request.prompt, "max_tokens": answer.request.tokens, "temperature": 0,
        "ignore_eos": True, "stream": True, "return_token_ids": True, **extra,
    }  # fmt: skip
    async with session.post("/v1/completions", json=body) as response:
        if response.status != 200:
            raise ValueError(f"status {response.status}: {await response.text()}")
        async for line in response.content:
            take(answer, line, time.perf_counter())
    if len(answer.tokens) == answer.request.tokens:
        answer.failure = None


def take(answer: Answer, line: bytes, now: float) -> None:
    """Add one line of a stream to an answer. Raises ValueError where it is an error's."""
    if not line.startswith(b"data: {"):
        return
    event = json.loads(line[len(b"data: ") :])
    if "choices" not in event:
        raise ValueError(str(event))
    for choice in event["choices"]:
        ids = choice.get("token_ids") or []
        answer.tokens += ids
        answer.arrived += [now] * len(ids)
        if (likely := choice.get("logprobs")) is not None:
            for step in likely["top_logprobs"]:
                answer.likely.append([(int(name.removeprefix("token_id:")), p) for name, p in step.items()])
