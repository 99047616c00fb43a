"""Tables of the documentation, made from the JSON results: ``python -m benchmarks.tables [--check] [FILE...]``.

In a Markdown file, the text between ``<!-- results: NAME -->`` and ``<!-- end of results -->`` is replaced by the table
of ``benchmarks/results/NAME.json``. Without files, prints every result. ``--check`` changes nothing, and fails where a
file is not what it would be: no figure in the documentation is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import gpu_table
from benchmarks import vllm_serve_table
from benchmarks import vllm_table
from benchmarks.result import FOLDER
from benchmarks.result import HEADINGS
from benchmarks.result import cells

BLOCK = re.compile(r"(<!-- results: (?P<name>[\w.-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def markdown(result: dict[str, Any]) -> str:
    """A result as a Markdown table, followed by what it ran on."""
    if result.get("kind") == "gpu":
        return gpu_table.markdown(result)
    if result.get("kind") == "vllm":
        return vllm_table.markdown(result)
    if result.get("kind") == "vllm-serve":
        return vllm_serve_table.markdown(result)
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in result["rows"]]
    return "\n".join([*lines, "", *notes(result)]) + "\n"


def notes(result: dict[str, Any]) -> list[str]:
    """What the table does not hold: the roof, the overhead, batches, machine, versions, commit and command."""
    machine, settings = result["machine"], result["settings"]
    lines = []
    if (roof := result.get("roof")) is not None:
        lines.append(
            f"Reading the weights alone ({roof['weight_bytes'] / 1e6:.0f} MB), in the same rounds: "
            f"{roof['ms']['median']:.2f} ms at the median read bandwidth "
            f"({roof['bytes_per_second']['median'] / 1e9:.1f} GB/s), {roof['ms']['best']:.2f} ms at the best "
            f"({roof['bytes_per_second']['best'] / 1e9:.1f} GB/s)."
        )
    if (overhead := result.get("overhead")) is not None:
        lines.append(
            f"Outside the launch: {overhead['outside_us']:.0f} us a call. A backend that does nothing has "
            f"{overhead['nothing_us']:.0f} us of them; {overhead['ours_us']:.0f} us are ours."
        )
    if (batch := result.get("batch")) is not None:
        lines.append(f"Batch {batch['size']} over batch 1: {batch['ratio']:.2f} times the time.")
    if result.get("absent"):
        lines += [f"Not run: {name}: {reason}." for name, reason in result["absent"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines.append(
        f"{settings['model']}, {settings['dtype']}, context {settings['context']}, {machine['threads']} threads on "
        f"{machine['processor']} ({machine['cores']} cores); {versions}."
    )
    modified = " with changes" if result["modified"] else ""
    lines.append(f"Commit {result['commit']}{modified}: `{result['command']}`.")
    return lines


def load(name: str) -> dict[str, Any]:
    """The stored result called ``name``."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def fill(text: str) -> str:
    """``text`` with each marked block made anew."""
    return BLOCK.sub(lambda found: found.group(1) + markdown(load(found.group("name"))) + found.group(3), text)


def main(arguments: list[str] | None = None) -> int:
    """Print, fill or check; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.tables", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    if not given.files:
        for path in sorted(FOLDER.glob("*.json")):
            print(f"## {path.stem}\n\n{markdown(load(path.stem))}")
    stale = []
    for path in given.files:
        text = path.read_text(encoding="utf-8")
        made = fill(text)
        if made != text:
            stale.append(path)
            if not given.check:
                path.write_text(made, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'not what its results say' if given.check else 'filled'}", file=sys.stderr)
    return 1 if stale and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
