"""Real weights, real text: is a step compiled by onelaunch as faithful to fp32 as eager bf16?

    python -m benchmarks.quality [--tokens 2000] [--target cpu] [--output benchmarks/results/quality-cpu.json]
    python -m benchmarks.quality --target cuda --output benchmarks/results/quality-h200.json

Every token is predicted from the true tokens before it, by decode steps of the packaged model: eager bf16, onelaunch
bf16, and fp32 eager as the reference. Prints mean negative log-likelihood and mean KL divergence to fp32 with the
verdict (NLL within 0.5 % of eager's, KL at most 1.2 times eager's), and compares greedy text with eager's
(``benchmarks.greedy``); exits 1 where one of them fails.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import greedy
from benchmarks import host

NLL_LIMIT, KL_LIMIT = 0.005, 1.2
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Measure, print, write; 1 where the verdict is "fail"."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--model", help="a .gguf file or a folder; default: the packaged model")
    parser.add_argument("--greedy", type=int, default=128, help="tokens of text for each prompt (%(default)s)")
    parser.add_argument("--text", type=Path, default=ROOT / "LICENSE")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = measure(options.tokens, options.target, options.text, options.model, options.greedy)
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["verdict"] == "pass" else 1


def measure(count: int, target: str, text: Path, model: str | None, length: int) -> dict[str, object]:
    """Score eager and onelaunch on the first ``count`` tokens of a text, and compare ``length`` greedy tokens."""
    from onelaunch.models.quality import reference_log_probabilities
    from onelaunch.models.quality import score
    from onelaunch.models.source import load_model

    loaded = load_model(model)
    device = "cuda" if target == "cuda" else "cpu"
    loaded.model.to(device)
    torch.set_default_device(device)  # positions and tokens are made where the model is
    ids = loaded.tokenizer(text.read_text())["input_ids"]
    if len(ids) <= count:
        raise SystemExit(f"{text} has {len(ids)} tokens, {count + 1} are needed")
    tokens = torch.tensor(ids[: count + 1])
    settings: dict[str, Any] = {"target": target, "fallback": "error"}
    reference = reference_log_probabilities(loaded.model, tokens)
    step = torch.compile(loaded.model, backend="onelaunch", fullgraph=True, dynamic=False, options=settings)
    scores = {}
    seconds = {}
    for name, run in (("onelaunch", step), ("eager", loaded.model)):
        start = time.perf_counter()
        scores[name] = score(loaded.model, run, tokens, reference)
        seconds[name] = time.perf_counter() - start
    mine, eager = scores["onelaunch"], scores["eager"]
    texts = greedy.compare(loaded, settings, length)
    passed = all(text["explained"] for text in texts)
    passed = passed and abs(mine.nll / eager.nll - 1) <= NLL_LIMIT and mine.kl <= KL_LIMIT * eager.kl
    return {
        "what": "teacher-forced decode steps on real text",
        "model": loaded.name,
        "weights": loaded.weights,
        "tokens": count,
        "target": target,
        "nll": {"onelaunch": mine.nll, "eager bf16": eager.nll, "ratio": mine.nll / eager.nll},
        "kl to fp32": {"onelaunch": mine.kl, "eager bf16": eager.kl, "ratio": mine.kl / eager.kl},
        "greedy": texts,
        "seconds": seconds,
        "verdict": "pass" if passed else "fail",
        "machine": _machine(device),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "commit": host.commit(),
        "command": host.command(),
    }


def _machine(device: str) -> dict[str, object]:
    found: dict[str, object] = {"cpu": _cpu(), "threads": torch.get_num_threads()}
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found | {"system": platform.platform(terse=True)}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    raise SystemExit(main())
