"""vLLM's own decode step: ``python -m benchmarks.vllm_peer --shape 1b --points 1x178,8x1074``, vLLM on PYTHONPATH.

Prints one line of JSON: its version, and for each point (batch x context) the GPU times, in seconds, of the replays of
its decode graph, which runs from the embedding to the final norm; LM head and sampler run outside it. The engine is
started once, with its defaults; graphs are captured for the measured batches only. Prompts are 50 tokens shorter than
the context and 100 steps are timed, so that the median belongs to the context.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

REPLAYS = 100
SPARE = 12 << 30  # bytes for activations, graphs and kernels
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process, where its replays can be timed
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


class Replays:
    """Times every replay of a CUDA graph of this process, once installed."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any, Any]] = []
        self.on = True  # timing keeps the GPU waiting before each replay

    def install(self) -> None:
        """Wrap ``torch.cuda.CUDAGraph.replay``."""
        import torch

        from benchmarks.gpu_timing import HEAD_START

        replay = torch.cuda.CUDAGraph.replay

        def timed(graph: Any) -> None:
            if not self.on:
                return replay(graph)
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(HEAD_START)  # the launch of the graph is not timed
            begin.record()
            replay(graph)
            end.record()
            self.seen.append((id(graph), begin, end))
            return None

        torch.cuda.CUDAGraph.replay = timed  # type: ignore[method-assign, assignment]

    def take(self, count: int) -> list[float]:
        """Seconds of the last ``count`` replays. Raises ValueError where they are not all of one graph."""
        import torch

        torch.cuda.synchronize()
        last, self.seen = self.seen[-count:], []
        graphs = {graph for graph, _, _ in last}
        if len(last) < count or len(graphs) != 1:
            raise ValueError(f"{len(last)} replays of {len(graphs)} graphs, not {count} of one")
        return [begin.elapsed_time(end) / 1e3 for _, begin, end in last]


def main(arguments: list[str] | None = None) -> int:
    """Start, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm_peer", description=__doc__)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--points", required=True)
    parser.add_argument("--layers", type=int)
    given = parser.parse_args(arguments)
    points = sorted((tuple(map(int, point.split("x"))) for point in given.points.split(",")), reverse=True)
    os.environ.update(ENVIRONMENT)

    from benchmarks.configurations import configuration
    from benchmarks.gpu_turns import alone
    from benchmarks.gpu_turns import shared

    config = configuration(given.shape, given.layers)
    with shared(), tempfile.TemporaryDirectory() as folder:
        engine = _start(config, points, Path(folder))
        for batch, context in points:  # the largest first: the others find their prompts' keys and values in the cache
            _generate(engine, config, batch, context, 1)
    replays = Replays()
    replays.install()
    found = {}
    with alone():
        for batch, context in points:
            _generate(engine, config, batch, context, REPLAYS + 2)
            found[f"{batch}x{context}"] = replays.take(REPLAYS)
    print(json.dumps({"version": _vllm().__version__, "seconds": found}))
    return 0


def _vllm() -> Any:
    return importlib.import_module("vllm")


def _start(config: Any, points: list[tuple[int, ...]], folder: Path) -> Any:
    import torch

    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    most = {context: max(b for b, c in points if c == context) for _, context in points}
    tokens = sum(batch * (context + 2 * REPLAYS) for context, batch in most.items())
    head = config.head_dim
    cached = tokens * config.num_hidden_layers * config.num_key_value_heads * head * 2 * 2
    width = config.num_attention_heads * head + config.num_key_value_heads * head
    layer = 2 * config.hidden_size * width + 3 * config.hidden_size * config.intermediate_size
    weights = 2 * (config.num_hidden_layers * layer + 2 * config.vocab_size * config.hidden_size)
    whole = torch.cuda.get_device_properties(0).total_memory
    return _vllm().LLM(
        model=str(folder),
        load_format="dummy",
        dtype="bfloat16",
        skip_tokenizer_init=True,
        max_model_len=max(context for _, context in points) + 2 * REPLAYS,
        kv_cache_memory_bytes=math.ceil(1.2 * cached) + (1 << 28),
        gpu_memory_utilization=min(0.9, (weights + cached + SPARE) / whole),
        compilation_config={"cudagraph_capture_sizes": sorted({batch for batch, _ in points})},
    )


def _generate(engine: Any, config: Any, batch: int, context: int, tokens: int) -> None:
    """``tokens`` tokens for each row: the first by the prompt's step, each other by a decode step of all rows."""
    draw = random.Random(0)
    length = context - REPLAYS // 2
    prompts = [[draw.randrange(config.vocab_size) for _ in range(length)] for _ in range(batch)]
    wanted = _vllm().SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], wanted, use_tqdm=False)


if __name__ == "__main__":
    sys.exit(main())
