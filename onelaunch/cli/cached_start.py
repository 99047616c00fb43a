"""How long compilation takes with a warm disk cache, measured where it counts: in another process.

Run as a module it loads the model, makes one decode step of the given shape, and prints what the backend reports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 600  # seconds; a cold start of a large model on a slow machine


@dataclass(frozen=True, slots=True)
class CachedStart:
    """What a second process needed: the backend's part, and the first decode step whole (Dynamo's tracing included)."""

    compile_seconds: float
    cached: bool
    first_step_seconds: float


def measure_cached_start(
    model: Path, target: str, prompt_lengths: list[int], max_new_tokens: int
) -> CachedStart | None:
    """Start a process that compiles the same decode step again; None if it did not end well."""
    request = {"model": str(model), "target": target, "lengths": prompt_lengths, "max_new_tokens": max_new_tokens}
    command = [sys.executable, "-m", "onelaunch.cli.cached_start", json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        return CachedStart(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return None


def _start(request: str) -> CachedStart:
    """In the second process: one decode step, which has to build its program."""
    os.environ["TQDM_DISABLE"] = "1"  # nobody watches
    from onelaunch.cli.place import load
    from onelaunch.cli.programs import programs_used
    from onelaunch.models.generation import Generator

    asked = json.loads(request)
    loaded = load(asked["model"], asked["target"])
    prompts = [[loaded.pad_id] * length for length in asked["lengths"]]
    seconds = Generator(loaded, options={"target": asked["target"]}).warm_up(prompts, asked["max_new_tokens"])
    used = programs_used({})
    if used is None:
        raise SystemExit("no program was launched")
    return CachedStart(used.compile_seconds, used.cached, seconds)


if __name__ == "__main__":
    print(json.dumps(asdict(_start(sys.argv[1]))))
