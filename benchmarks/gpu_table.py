"""The table of a GPU result: one line a model, batch and context; see ``benchmarks.tables``."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_peers import OPS
from benchmarks.gpu_peers import OURS
from benchmarks.gpu_peers import VLLM

COLUMNS = (
    "model", "batch", "context", "layers us", "share", VLLM, "of ours", "step us", "share", OPS, "of ours",
    "Inductor", "of ours", "eager", "of ours", "of eager's error", "right",
)  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """The table, what did not run and why, and what it ran on."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in result["rows"]]
    failures = [
        f"- {row['model']}, batch {row['batch']}, context {row['context']}, {peer}: {found['failure']}"
        for row in result["rows"]
        for peer, found in row["peers"].items()
        if "failure" in found
    ]
    lines += ["", "Did not run:", "", *failures] if failures else []
    rates = [row["bytes_per_second"] / 1e9 for row in result["rows"] if "bytes_per_second" in row]
    lines += ["", f"Read bandwidth beside these rows: {min(rates):,.0f} to {max(rates):,.0f} GB/s."] if rates else []
    return "\n".join([*lines, "", *_runs(result["runs"])]) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    peers = row["peers"]
    found = [row["model"], str(row["batch"]), str(row["context"])]
    for part, others in (("layers", (VLLM,)), ("step", (OPS, "Inductor", "eager"))):
        ours = _time(peers.get(OURS), part)
        found += [_number(ours), _share(row, part, ours)]
        for other in others:
            time = _time(peers.get(other), part)
            found += [_number(time), f"{time / ours:.2f}" if time and ours else "–"]
    parts = [part for part in peers.get(OURS, {}).values() if isinstance(part, dict) and "right" in part]
    worst = max((part["of_eager"] for part in parts), default=None)
    right = "–" if worst is None else "yes" if all(part["right"] for part in parts) else "NO"
    return [*found, "–" if worst is None else f"{worst:.2f}", right]


def _time(found: dict[str, Any] | None, part: str) -> float | None:
    return found[part]["us"] if found is not None and part in found else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _share(row: dict[str, Any], part: str, time: float | None) -> str:
    if time is None:
        return "–"
    rate: float = row["bytes"][part] / time * 1e6
    return f"{rate / row['bytes_per_second']:.0%}"


def _runs(runs: list[dict[str, Any]]) -> list[str]:
    """One item a run: machine, versions, commit and command."""
    lines = []
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        modified = " with changes" if run["modified"] else ""
        lines.append(
            f"- {run['date']}, {run['machine']['gpu']} (driver {run['machine']['driver']}); "
            f"{versions}. Commit {run['commit']}{modified}: `{run['command']}`."
        )
    return lines
