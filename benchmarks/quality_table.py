"""The table of ``benchmarks.quality`` results: ``python -m benchmarks.quality_table [--check] FILE...``.

In a Markdown file, the text between ``<!-- quality: NAME -->`` and ``<!-- end of quality -->`` is replaced by the table
of ``benchmarks/results/NAME.json``. ``--check`` changes nothing, and fails where a file is not what it would be.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
BLOCK = re.compile(r"(<!-- quality: (?P<name>[\w.-]+) -->\n).*?(<!-- end of quality -->)", re.DOTALL)


def markdown(result: dict[str, Any]) -> str:
    """A result as a Markdown table, followed by what it ran on."""
    nll, kl, machine, versions = result["nll"], result["kl to fp32"], result["machine"], result["versions"]
    lines = [
        "| | onelaunch | eager bf16 | ratio | limit |",
        "|---|---:|---:|---:|---:|",
        f"| negative log-likelihood | {nll['onelaunch']:.5f} | {nll['eager bf16']:.5f} | {nll['ratio']:.5f} | ±0.5 % |",
        f"| divergence to fp32 | {kl['onelaunch']:.1e} | {kl['eager bf16']:.1e} | {kl['ratio']:.2f} | 1.2 |",
        "",
        *_greedy(result.get("greedy", [])),
        f"Verdict: {result['verdict']}. {result['tokens']} tokens, {result['model']}, {result['weights']}; target "
        f"{result['target']}, {_where(machine)}; torch {versions['torch']}.",
        f"Commit {result['commit']}: `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def _where(machine: dict[str, Any]) -> str:
    return str(machine.get("gpu") or f"{machine['threads']} threads on {machine['cpu']}")


def _greedy(texts: list[dict[str, Any]]) -> list[str]:
    """One line on greedy text, where there is some."""
    if not texts:
        return []
    said = [f"{text['equal']} of {text['tokens']}" for text in texts]
    wrong = sum(not text["explained"] for text in texts)
    rest = "fp32 explains every first difference" if wrong == 0 else f"{wrong} first differences are unexplained"
    return [f"Greedy tokens equal to eager's, for each prompt: {', '.join(said)}; {rest}.", ""]


def fill(text: str) -> str:
    """``text`` with each marked block made anew."""

    def block(found: re.Match[str]) -> str:
        result = json.loads((FOLDER / f"{found.group('name')}.json").read_text(encoding="utf-8"))
        return found.group(1) + markdown(result) + found.group(3)

    return BLOCK.sub(block, text)


def main(arguments: list[str] | None = None) -> int:
    """Fill or check; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality_table", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    stale = [path for path in given.files if fill(path.read_text(encoding="utf-8")) != path.read_text(encoding="utf-8")]
    for path in stale:
        if not given.check:
            path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{path}: {'not what its results say' if given.check else 'filled'}", file=sys.stderr)
    return 1 if stale and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
