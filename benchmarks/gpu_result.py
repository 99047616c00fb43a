"""Results of the GPU benchmark: rows that are added to one JSON file, measured on different days.

A row is one model at one batch and context, and holds its peers. Each peer says which run measured it; all peers of a
row were measured on one machine since it was started, or the older ones are dropped.
"""

from __future__ import annotations

import fcntl
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import host
from benchmarks import result
from benchmarks.gpu_peers import Measured
from benchmarks.rounds import Timing
from benchmarks.verdict import judge

PACKAGES = ("onelaunch", "torch", "transformers", "triton", "cuda-core")
KEY = ("model", "layers", "batch", "context")


def run_of() -> dict[str, Any]:
    """What a reader needs to place the numbers of one run."""
    versions = {name: version for name in PACKAGES if (version := host.version(name))}
    return {
        "machine": _machine(),
        "versions": versions | {"cuda": torch.version.cuda},
        "commit": host.commit(),
        "modified": host.modified(),
        "command": host.command(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def entry(made: Measured, exact: dict[str, torch.Tensor], eager: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A peer of a row: by part, times in microseconds and the verdict against fp32."""
    found: dict[str, Any] = {}
    for part, timing in made.timings.items():
        found[part] = _times(timing)
        if part in made.results and part in exact:
            verdict = judge(made.results[part], exact[part], eager[part])
            found[part] |= {"error": verdict.error, "of_eager": verdict.of_eager, "right": verdict.right}
    if made.compile_seconds:
        found["compile_s"] = round(made.compile_seconds, 1)
    if made.version:
        found["version"] = made.version
    if made.failure:
        found["failure"] = made.failure
    return found


def add(name: str, run: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Merge ``rows`` of ``run`` into ``results/<name>.json``; several processes may do so at once."""
    result.FOLDER.mkdir(exist_ok=True)
    path = result.FOLDER / f"{name}.json"
    with (Path(tempfile.gettempdir()) / f"onelaunch-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored: dict[str, Any] = {"name": name, "kind": "gpu", "runs": [], "rows": []}
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
        merged = merge(stored, run, rows)
        made = path.with_suffix(".new")
        made.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        made.replace(path)
    return path


def merge(stored: dict[str, Any], run: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """``stored`` with ``rows``; a peer measured anew replaces what it had, and runs that no peer names are dropped."""
    runs = [*stored["runs"], run]
    kept = {_key(row): row for row in stored["rows"]}
    for row in rows:
        before = kept.get(_key(row), {"peers": {}})
        peers = {
            peer: found
            for peer, found in before["peers"].items()
            if runs[found["run"]]["machine"] == run["machine"]
        }  # fmt: skip
        new = {peer: found | {"run": len(runs) - 1} for peer, found in row["peers"].items()}
        kept[_key(row)] = {name: value for name, value in (before | row).items() if name != "peers"}
        kept[_key(row)]["peers"] = peers | new
    ordered = [kept[key] for key in sorted(kept)]
    used = sorted({found["run"] for row in ordered for found in row["peers"].values()})
    for row in ordered:
        for found in row["peers"].values():
            found["run"] = used.index(found["run"])
    return stored | {"runs": [runs[number] for number in used], "rows": ordered}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _times(timing: Timing) -> dict[str, Any]:
    quantiles = {"us": timing.median, "low_us": timing.percentile(0.1), "high_us": timing.percentile(0.9)}
    return {name: round(seconds * 1e6, 2) for name, seconds in quantiles.items()} | {"replays": len(timing.seconds)}


def _machine() -> dict[str, Any]:
    """The GPU, its driver, and which start of which machine it is."""
    driver = re.search(r"  (\d+\.[\d.]+)  ", _text("/proc/driver/nvidia/version"))
    found = {"gpu": "none", "driver": driver[1] if driver else "unknown"}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "multiprocessors": properties.multi_processor_count}
    return found | {"start": _text("/proc/sys/kernel/random/boot_id")[:8]}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
