"""Runs one vLLM engine in this process, as a scenario on standard input says, and prints what came of it as JSON.

A process of its own for each engine: vLLM's configuration is global. ``requests`` arrive before the step of their
``arrive``; what is counted as a decode step is what the scheduler asked for, not what we say of it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PLATFORM = Path(__file__).parent / "platform"
ANOTHER = "ONELAUNCH_TEST_VLLM"  # a folder with another version of vLLM, to be tested instead of the installed one


def environment(folder: Path, runner: str = "0") -> dict[str, str]:
    """What a process that imports vLLM on a CPU needs."""
    made = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(PLATFORM), *filter(None, (os.environ.get(name) for name in (ANOTHER, "PYTHONPATH")))]
        ),
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_CI_ENV": "1",  # vLLM's own switch: its stock path runs eagerly instead of through Inductor
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_V2_MODEL_RUNNER": runner,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if runner == "1":
        made.update(CUDA_VISIBLE_DEVICES="", TRITON_INTERPRET="1")
    return made


def main() -> None:
    scenario = json.load(sys.stdin)
    from vllm import LLM

    from onelaunch.integrations.vllm import settings

    if sizes := scenario.get("sizes"):  # as where graphs are captured
        settings.sizes = lambda config: tuple(sizes)
    llm = LLM(skip_tokenizer_init=True, seed=0, **scenario["engine"])
    engine = llm.llm_engine
    runner = engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    counts = {"decode": 0, "other": 0, "preempted": 0}
    _count(runner, engine.engine_core.engine_core.scheduler, counts)
    tokens = _run(engine, runner, scenario)
    import vllm

    from onelaunch.frontend import stats
    from onelaunch.integrations.vllm.report import reports

    result = {
        "version": vllm.__version__,
        "tokens": tokens,
        **counts,
        "launches": sum(r.launches for r in reports),
        "stock": {k: sum(r.stock[k] for r in reports) for r in reports for k in r.stock},
        "refusals": [x for r in reports for x in r.refusals],
        "runner": type(runner).__module__,
        "programs": [p.name for record in stats.records() for s in record.live for p in s.programs],
    }
    print("\n" + json.dumps(result))


def _count(runner, scheduler, counts) -> None:
    """Steps by what the scheduler asks for: one token of every request, or anything else."""
    stock, preempt = runner.execute_model, scheduler._preempt_request

    def execute(scheduled, *args, **kwargs):
        asked = list(scheduled.num_scheduled_tokens.values())
        if asked:
            counts["decode" if set(asked) == {1} else "other"] += 1
        return stock(scheduled, *args, **kwargs)

    def preempted(*args, **kwargs):
        counts["preempted"] += 1
        return preempt(*args, **kwargs)

    runner.execute_model, scheduler._preempt_request = execute, preempted


def _run(engine, runner, scenario) -> dict[str, list[int]]:
    from vllm import SamplingParams

    waiting = sorted(scenario["requests"], key=lambda r: r.get("arrive", 0))
    tokens: dict[str, list[int]] = {}
    step = 0
    while waiting or engine.has_unfinished_requests():
        while waiting and waiting[0].get("arrive", 0) <= step:
            r = waiting.pop(0)
            sampling = SamplingParams(
                temperature=r.get("temperature", 0.0), max_tokens=r["max_tokens"], ignore_eos=True, detokenize=False
            )
            engine.add_request(r["id"], {"prompt_token_ids": r["prompt"]}, sampling)
        for out in engine.step():
            tokens[out.request_id] = list(out.outputs[0].token_ids)
        for r in scenario["requests"]:
            if r.get("abort") == step:
                engine.abort_request([r["id"]])
        if scenario.get("corrupt") == step:
            _corrupt(runner)
        step += 1
    return tokens


def _corrupt(runner) -> None:
    """The first position of the first request's second block, in the first layer: another key and value."""
    cache = runner.kv_caches[0]
    cache[_table(runner)[0, 0]] += 3.0


def _table(runner):
    return runner.input_batch.block_table[0].get_device_tensor(1)


if __name__ == "__main__":
    main()
