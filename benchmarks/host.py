"""What a measurement ran on: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("onelaunch", "torch", "transformers", "llama-cpp-python")
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")


def describe(threads: int) -> dict[str, Any]:
    """Everything a reader needs to place a number: processor, features, versions, commit, command."""
    return {
        "machine": {
            "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "features": [flag for flag in VECTOR_FLAGS if flag in _cpuinfo("flags").split()],
            "threads": threads,
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
        },
        "versions": {"python": platform.python_version()} | {name: v for name in PACKAGES if (v := version(name))},
        "commit": commit(),
        "modified": modified(),
        "command": command(),
    }


def commit() -> str:
    """The commit that this folder is at; where the folder is a bare copy, what BENCH_COMMIT says."""
    return _git("rev-parse", "--short=12", "HEAD") or os.environ.get("BENCH_COMMIT", "unknown")


def modified() -> bool:
    """Whether the code differs from the commit. Results do not count: a run adds to them."""
    return bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)benchmarks/results"))


def command() -> str:
    """This process's command, without the places of others' files."""
    words = ["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    for option, stands_for in (("--vllm", "FOLDER"), ("--keep", "FOLDER"), ("--model", "MODEL")):
        if option in words[:-1]:
            words[words.index(option) + 1] = stands_for
    return shlex.join(words)


def version(name: str) -> str | None:
    """Of an installed package; None: there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()
