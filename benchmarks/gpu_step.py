"""One decode step on a GPU: GPU time a step by CUDA events over graph replays, and the error of the same step.

    python -m benchmarks.gpu_step [--shapes small,...] [--batch 1] [--context 178] [--floor 4700]

Weights are random; shapes are those of well-known models. A row gives the median over replays of onelaunch's launch, of
eager torch's kernels in a graph, the bytes of weights and cache over the time as a share of ``--floor`` (GB/s), and the
relative error of the logits against fp32 beside eager's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from onelaunch.frontend.backend import backend


@dataclasses.dataclass(frozen=True)
class Shape:
    """A decoder: hidden and intermediate size, layers, heads, key/value heads, head size, vocabulary."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    groups: int
    head: int
    vocabulary: int
    kind: str = "llama"


SHAPES = {
    "135m": Shape(576, 1536, 30, 9, 3, 64, 49152),
    "0.6b": Shape(1024, 3072, 28, 16, 8, 128, 151936, "qwen3"),
    "1b": Shape(2048, 8192, 16, 32, 8, 64, 128256),
    "1.7b": Shape(2048, 6144, 28, 16, 8, 128, 151936, "qwen3"),
    "8b": Shape(4096, 12288, 36, 32, 8, 128, 151936, "qwen3"),
}


class Step:
    """A model with a filled cache, and its step for one more token of every row."""

    def __init__(self, shape: Shape, batch: int, context: int, layers: int | None) -> None:
        import transformers

        config = transformers.AutoConfig.for_model(
            shape.kind, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
            num_hidden_layers=layers or shape.layers, num_attention_heads=shape.heads,
            num_key_value_heads=shape.groups, head_dim=shape.head, vocab_size=shape.vocabulary,
            max_position_embeddings=40960, tie_word_embeddings=True,
        )  # fmt: skip
        torch.manual_seed(0)
        with torch.device("cuda"):
            self.model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
            self.cache = transformers.StaticCache(config=config, max_cache_len=-(-(context + 1) // 256) * 256)
            ids = torch.randint(0, shape.vocabulary, (batch, context))
            self.model(ids, past_key_values=self.cache, use_cache=True)
            self.tokens = torch.randint(0, shape.vocabulary, (batch, 1))
            self.positions = torch.full((batch, 1), context)
        self.context = context
        self.bytes = sum(p.nbytes for p in {id(p): p for p in self.model.parameters()}.values())
        self.bytes += 2 * 2 * len(self.cache.layers) * batch * shape.groups * shape.head * context

    def rewind(self) -> None:
        """Forget the tokens after the context."""
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(self.context)

    def run(self, call: Callable[..., Any]) -> torch.Tensor:
        """One step; the logits."""
        found: torch.Tensor = call(
            self.tokens, past_key_values=self.cache, use_cache=True, position_ids=self.positions
        ).logits
        return found


def measure(step: Step, call: Callable[..., Any], replays: int) -> tuple[float, torch.Tensor]:
    """Median GPU time of a step in microseconds, and its logits."""
    step.rewind()
    step.run(call)
    step.rewind()
    logits = step.run(call).float()
    step.rewind()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.run(call)
    times = []
    for _ in range(replays):
        step.rewind()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    step.rewind()
    return statistics.median(times), logits


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_step", description=__doc__)
    parser.add_argument("--shapes", default="135m")
    parser.add_argument("--batch", default="1")
    parser.add_argument("--context", type=int, default=178)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--floor", type=float, default=4700.0)
    parser.add_argument("--replays", type=int, default=100)
    given = parser.parse_args(arguments)
    print("| shape | batch | context | onelaunch us | eager graph us | GB/s | share | error | eager's | compile s |")
    for name in given.shapes.split(","):
        for batch in map(int, given.batch.split(",")):
            print(_row(name, batch, given), flush=True)
    return 0


def _row(name: str, batch: int, given: argparse.Namespace) -> str:
    step = Step(SHAPES[name], batch, given.context, given.layers)
    eager_time, eager = measure(step, step.model, given.replays)
    start = time.perf_counter()
    torch._dynamo.reset()
    settings: dict[str, Any] = {"target": "cuda", "fallback": "error", "cache": False}
    call = torch.compile(step.model, backend=backend, fullgraph=True, options=settings)
    step.rewind()
    step.run(call)
    seconds = time.perf_counter() - start
    ours_time, ours = measure(step, call, given.replays)
    step.rewind()
    exact_model = step.model.float()
    cache = step.cache
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.float(), layer.values.float()
    exact = step.run(exact_model)
    errors = [float((x - exact).norm() / exact.norm()) for x in (ours, eager)]
    rate = step.bytes / ours_time / 1e3
    return (
        f"| {name} | {batch} | {given.context} | {ours_time:.1f} | {eager_time:.1f} | {rate:.0f} | "
        f"{rate / given.floor:.1%} | {errors[0]:.2e} | {errors[1]:.2e} | {seconds:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
