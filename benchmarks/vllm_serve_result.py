"""What two vLLM servers gave, as JSON: ratios, verdicts, and parts of several commands in one file; see ``vllm_serve``.

``parts``: by part and engine what was measured; beside it ``ratio`` (how many times faster than stock we are),
verdicts, and what the part was asked with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import vllm_parts
from benchmarks.vllm_client import Answer

PAIR = ("onelaunch", "stock")


def judge(parts: dict[str, Any], texts: dict[str, list[Answer]]) -> None:
    """Add ratios and verdicts where both servers have been asked; ``texts`` are those of the endurance."""
    for part in ("load", "burst"):
        found = parts.get(part, {})
        if all(name in found for name in PAIR):
            found["ratio"] = vllm_parts.ratios(found["onelaunch"], found["stock"])
            found["met"] = vllm_parts.met(found["ratio"]) if part == "burst" else None
    if len(texts) == len(PAIR) + 1:
        parts["endurance"]["agreement"] = vllm_parts.agreement(*(texts[name] for name in (*PAIR, "alone")))


def stamped(parts: dict[str, Any], facts: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The parts that were measured, each with its command, what it asked for and ``facts``; and the run."""
    from benchmarks.gpu_result import run_of

    run = run_of()
    asked = {name: value for name, value in vars(given).items() if isinstance(value, int | float)}
    more = {"command": run.pop("command"), "asked": asked, **facts}
    return {"run": run, "parts": {part: found | more for part, found in parts.items() if found}}


def right(parts: dict[str, Any]) -> bool:
    """Whether all requests of all parts were answered, the memory is flat and no text is wrong."""
    asked = [found[name] for found in parts.values() for name in PAIR if name in found]
    whole = all(found["answered"] == found["of"] for found in asked if "of" in found)
    flat = all(found.get("flat") is not False for found in asked)
    return whole and flat and bool(parts.get("endurance", {}).get("agreement", {"right": True})["right"])


def merged(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """``result``, with the parts that the file has of the same model, revision and machine."""
    if not path.exists():
        return result
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not result["parts"]:  # nothing was measured
        return before
    same = all(before[name] == result[name] for name in result if name not in ("parts", "run"))
    if not same or any(before["run"][name] != result["run"][name] for name in ("machine", "versions", "commit")):
        return result
    parts = before["parts"] | result["parts"]
    if all("startup" in one["parts"] for one in (before, result)):  # one started cold, the other with full caches
        for name in PAIR:
            first, later = (one["parts"]["startup"].get(name, {}) for one in (before, result))
            parts["startup"][name] = first | later
    return result | {"parts": parts}
