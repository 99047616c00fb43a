"""The table of two vLLM engines: one line a model, batch and context; see ``benchmarks.tables``."""

from __future__ import annotations

from typing import Any

from benchmarks.configurations import TITLES

COLUMNS = (
    "model", "sequences", "context", "GPU us a step, ours", "vLLM's", "ratio", "wall us a step, ours", "vLLM's",
    "ratio", "equal texts", "largest gap where they part", "noise of vLLM", "right",
)  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """The table, and what it ran on."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in result["rows"]]
    run, first = result["run"], result["rows"][0]
    ours, stock = first["start_s"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    modified = " with changes" if run["modified"] else ""
    return "\n".join([
        *lines, "",
        f"Ready after {ours:.0f} s with us and {stock:.0f} s without, nothing cached by us.",
        f"{run['machine']['gpu']}, driver {run['machine']['driver']}; vLLM {first['vllm']}, {versions}.",
        f"Commit {run['commit']}{modified}, {run['date']}: `{run['command']}`.",
    ]) + "\n"  # fmt: skip


def _cells(row: dict[str, Any]) -> list[str]:
    found = [TITLES[row["shape"]], str(row["batch"]), str(row["context"])]
    for part in ("gpu_us", "wall_us"):
        times = row[part]
        found += [f"{times[0]:.0f}", f"{times[1]:.0f}", f"{times[1] / times[0]:.2f}"] if times else ["–"] * 3
    gap = "–" if row["gap"] is None else f"{row['gap']:.3f}"
    return [*found, f"{row['equal']} of {row['of']}", gap, f"{row['noise']:.3f}", "yes" if row["right"] else "NO"]
