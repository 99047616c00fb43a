"""compute-sanitizer over decode steps of a small model, target "cuda": ``python -m tests.cuda.sanitize``.

Each tool (memcheck, initcheck, synccheck) watches a process of its own that compiles the model, launches a few steps
and compares them with eager torch. The exit status is 0 where no tool found an error and every result was
right. ``--stress`` adds random delays at waits and signals. Needs an NVIDIA GPU and CUDA's compute-sanitizer.

``--tools racecheck`` runs, and reports that every stage of the ring is read in a race with what filled it: it does not
see that waiting for a barrier's phase orders them. It said so, too, of a build that filled stages by plain stores
followed by an ordinary arrival (CUDA 13.0). What it reported were these pairs alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOOLS = ("memcheck", "initcheck", "synccheck")
ONLY = ["--kernel-regex", "kns=onelaunch_program"]
FOUND = 97  # the sanitizer's exit status where it found errors
STEPS, WORKERS = 4, 24  # instrumented waits are slow: fewer workers than the GPU has
# Every tensor gets memory of its own, so that an access past its end is seen.
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def find() -> str | None:
    """The sanitizer on PATH, or in CUDA's usual folder."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("compute-sanitizer") or shutil.which(f"{home}/bin/compute-sanitizer")


def command(sanitizer: str, tool: str, arguments: list[str]) -> list[str]:
    """What runs one tool. initcheck has to see every kernel, or what torch's kernels write counts as never written.

    Driver calls that fail are not errors here: cuda-core asks for functions that a driver may not have.
    """
    own = {"initcheck": [], "memcheck": [*ONLY, "--report-api-errors", "no"]}.get(tool, ONLY)
    watched = [sys.executable, "-m", "tests.cuda.sanitize", "--watched", *arguments]
    return [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), *own, *watched]


def sanitize(sanitizer: str, tool: str, arguments: list[str]) -> tuple[bool, str]:
    """Whether all was well, and what to print."""
    done = subprocess.run(
        command(sanitizer, tool, arguments), capture_output=True, text=True, check=False,
        env=os.environ | ENVIRONMENT, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if "Host Frame" not in line]
    summary = next((line.strip("= ") for line in reversed(lines) if "SUMMARY" in line), "no summary")
    good = done.returncode == 0 and RIGHT in lines
    if good:
        return True, f"{tool}: {summary}"
    shown = lines[:60] + done.stderr.splitlines()[-15:]
    return False, "\n".join([f"{tool}: status {done.returncode}; {summary}", *shown])


RIGHT = f"{STEPS} steps agree with eager"


def watched(stress: bool, target: str = "cuda") -> None:
    """Under a tool: decode steps of a small model against eager's on the CPU, so that no kernel but ours computes."""
    import contextlib

    import torch
    import transformers

    from onelaunch.frontend.backend import backend
    from tests.cuda.stress import stressed
    from tests.support.configurations import BY_NAME

    def logits(place: str, model: torch.nn.Module, cache: transformers.StaticCache) -> list[torch.Tensor]:
        return [
            model(
                input_ids=ids.to(place), position_ids=at.to(place), past_key_values=cache, use_cache=True
            ).logits.cpu()
            for ids, at in inputs
        ]

    configuration = BY_NAME["Llama"]
    model = configuration.model(torch.bfloat16)
    prompt = torch.arange(2 * 6).reshape(2, 6)
    inputs = [(torch.tensor([[3 + n], [40 + n]]), torch.full((2, 1), 6 + n)) for n in range(STEPS)]
    with torch.no_grad(), stressed() if stress else contextlib.nullcontext():
        caches = [transformers.StaticCache(config=model.config, max_cache_len=64) for _ in range(2)]
        for cache in caches:
            model(prompt, past_key_values=cache, use_cache=True)
        want = logits("cpu", model, caches[0])
        model.to(target)
        for layer in caches[1].layers:
            vars(layer).update({k: v.to(target) for k, v in vars(layer).items() if isinstance(v, torch.Tensor)})
            layer.device = model.device
        settings = {"target": target, "fallback": "error", "cache": False, "workers": WORKERS}
        step = torch.compile(model, backend=backend, fullgraph=True, dynamic=False, options=settings)
        got = logits(target, step, caches[1])
    scale = float(torch.cat(want).abs().max())
    torch.testing.assert_close(torch.cat(got), torch.cat(want), rtol=0.05, atol=0.05 * scale)
    print(f"\n{RIGHT}")


def main() -> int:
    """Run the tools side by side."""
    parser = argparse.ArgumentParser(prog="python -m tests.cuda.sanitize", description=__doc__)
    parser.add_argument("--tools", default=",".join(TOOLS), help="which of them, with commas between")
    parser.add_argument("--stress", action="store_true", help="with random delays at waits and signals")
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watched:
        watched(given.stress)
        return 0
    sanitizer = find()
    if sanitizer is None:
        print("compute-sanitizer is not on PATH: it is part of the CUDA toolkit", file=sys.stderr)
        return 2
    arguments = ["--stress"] if given.stress else []
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        results = list(pool.map(lambda tool: sanitize(sanitizer, tool, arguments), given.tools.split(",")))
    print("\n".join(text for _, text in results))
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
