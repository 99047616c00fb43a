"""One vLLM engine in a process of its own: ``python -m benchmarks.vllm_worker``, a scenario as JSON on standard input.

Prints one line of JSON: for each point (batch x context) the seconds of each decode step as a user sees them, GPU
seconds of the replays of its graph (None without a GPU), and the tokens with their log-probabilities (with ``again``,
also those of the same requests in other batches; with ``where``, where the time of a step goes); for ``mixed``
requests, which come while others run, their tokens; what was launched; seconds until the engine was ready.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any

STEPS = 100
LISTED = 20  # log-probabilities of a token: where two engines part, each knows the other's token
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process, where its replays can be timed
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def main() -> int:
    """Start, measure, print."""
    scenario = json.load(sys.stdin)
    os.environ.update(ENVIRONMENT)
    import vllm

    start = time.perf_counter()
    llm = vllm.LLM(skip_tokenizer_init=True, seed=0, **scenario["engine"])
    made: dict[str, Any] = {"version": vllm.__version__, "start_s": time.perf_counter() - start, "points": {}}
    from benchmarks.gpu_turns import alone

    with alone():
        measure(llm, scenario, made)
    print("\n" + json.dumps(made))
    return 0


def measure(llm: Any, scenario: dict[str, Any], made: dict[str, Any]) -> None:
    """Run the scenario's requests, and add to ``made`` what they gave."""
    import torch

    replays = None
    if torch.cuda.is_available():
        from benchmarks.vllm_peer import Replays

        replays = Replays()
        replays.on = False
        replays.install()
    where = None
    if scenario["where"]:
        from benchmarks.vllm_where import Where

        where = Where()
        where.install(llm.llm_engine)
    vocabulary = int(llm.llm_engine.vllm_config.model_config.get_vocab_size())
    for batch, context in scenario["points"]:
        asked = prompts(vocabulary, batch, context - STEPS // 2)
        _steps(llm, asked, 2, LISTED)  # kernels that compile when they are first used
        found = {"wall": _steps(llm, asked, STEPS + 2, 0)["wall"], "gpu": None}
        found |= {"rows": _steps(llm, asked, STEPS + 2, LISTED)["rows"]}
        if replays is not None:
            replays.on = True
            _steps(llm, asked, STEPS + 2, 0)
            found["gpu"] = replays.take(STEPS)
            replays.on = False
        if where is not None:
            found["where"] = where.take(len(_steps(llm, asked, STEPS + 2, 0, where)["wall"]))
        if scenario["again"]:
            found["again"] = _otherwise(llm, asked)
        made["points"][f"{batch}x{context}"] = found
    made["mixed"] = _mixed(llm, vocabulary, scenario["mixed"])
    made["launches"], made["stock"], made["refusals"] = _reports()


def prompts(vocabulary: int, count: int, length: int) -> list[list[int]]:
    """The same for every engine."""
    draw = random.Random(count * 100003 + length)
    return [[draw.randrange(vocabulary) for _ in range(length)] for _ in range(count)]


def _steps(llm: Any, asked: list[list[int]], count: int, listed: int, where: Any = None) -> dict[str, Any]:
    """``count`` tokens for each prompt, all rows together, with so many log-probabilities; the seconds of the decode
    steps, prompts' steps left out. ``where`` takes the steps apart.
    """
    import vllm

    engine = llm.llm_engine
    wanted = vllm.SamplingParams(
        temperature=0.0, max_tokens=count, ignore_eos=True, detokenize=False, logprobs=listed or None
    )
    for i, prompt in enumerate(asked):
        engine.add_request(str(i), {"prompt_token_ids": prompt}, wanted)
    seconds, rows = [], {}
    while engine.has_unfinished_requests():
        if where is None:
            begin = time.perf_counter()
            outputs = engine.step()
            took = time.perf_counter() - begin
        else:
            outputs, took = where.step(engine.step)
        if len(outputs) == len(asked) and all(len(o.outputs[0].token_ids) > 1 for o in outputs):
            seconds.append(took)
        for out in outputs:
            rows[out.request_id] = out.outputs[0]
    ordered = [rows[str(i)] for i in range(len(asked))]
    return {"wall": seconds, "rows": [_row(r) for r in ordered] if listed else []}


def _otherwise(llm: Any, asked: list[list[int]]) -> list[dict[str, Any]]:
    """The same rows in other batches: each by itself, or, where there is one, beside another."""
    if len(asked) > 1:
        return [_steps(llm, [prompt], STEPS + 2, LISTED)["rows"][0] for prompt in asked]
    return list(_steps(llm, [asked[0], asked[0][::-1]], STEPS + 2, LISTED)["rows"][:1])


def _row(out: Any) -> dict[str, Any]:
    """Tokens, and at each step the likeliest with their log-probabilities."""
    steps = [{int(token): float(p.logprob) for token, p in step.items()} for step in out.logprobs]
    return {"tokens": list(out.token_ids), "logprobs": [[[t, p] for t, p in s.items()] for s in steps]}


def _mixed(llm: Any, vocabulary: int, count: int) -> list[list[int]]:
    """Requests of random lengths that come while others run."""
    import vllm

    engine, draw = llm.llm_engine, random.Random(7)
    most = int(llm.llm_engine.vllm_config.model_config.max_model_len)
    waiting = []
    for i in range(count):
        length, tokens = draw.randrange(1, most // 2), draw.randrange(1, min(128, most // 2))
        waiting.append((str(i), [draw.randrange(vocabulary) for _ in range(length)], tokens, draw.randrange(1, 6)))
    found: dict[str, list[int]] = {}
    while waiting or engine.has_unfinished_requests():
        for name, prompt, tokens, _ in waiting[: waiting[0][3]] if waiting else []:
            wanted = vllm.SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
            engine.add_request(name, {"prompt_token_ids": prompt}, wanted)
        waiting = waiting[waiting[0][3] :] if waiting else []
        for out in engine.step():
            found[out.request_id] = list(out.outputs[0].token_ids)
    return [found[str(i)] for i in range(count)]


def _reports() -> tuple[int, dict[str, int], list[str]]:
    try:
        from onelaunch.integrations.vllm.report import reports
    except ImportError:
        return 0, {}, []
    stock: dict[str, int] = {}
    for report in reports:
        for reason, count in report.stock.items():
            stock[reason] = stock.get(reason, 0) + count
    return sum(r.launches for r in reports), stock, [x for r in reports for x in r.refusals]


if __name__ == "__main__":
    sys.exit(main())
