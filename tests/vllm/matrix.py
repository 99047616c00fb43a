"""Measures the table in docs/vllm.md: `.venv-vllm/bin/python -m tests.vllm.matrix docs/vllm.md`.

Folders with other versions of vLLM (`pip install --no-deps --target FOLDER vllm==...`) may follow the page's name.

Each row is one engine in a process of its own, with small random weights: tokens against transformers', and launches
against the steps in which the scheduler asked for one token of every request.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.vllm import tiny
from tests.vllm.drive import ANOTHER
from tests.vllm.drive import environment

MODELS = ("qwen3", "llama", "gemma3")
RUNNERS = {"0": "V1", "1": "V2"}
SEAMS = ("model", "graph")
TOGETHER, COUNT = 5, 16  # sequences that come after the first has ended; tokens of each
BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"


def rows(folder: Path, versions: list[Path | None]) -> Iterator[str]:
    for version in versions:
        if version is not None:
            os.environ[ANOTHER] = str(version)
        yield from _rows(folder / str(len(list(folder.iterdir()))))


def _rows(folder: Path) -> Iterator[str]:
    for name in MODELS:
        place = folder / name
        model = getattr(tiny, name)(place)
        prompts = [[(7 * i + j * j) % 500 for j in range(3 + 9 * i)] for i in range(1 + TOGETHER)]
        wanted = {str(i): tiny.greedy(model, p, COUNT) for i, p in enumerate(prompts)}
        for seam in SEAMS:
            for runner, shown in RUNNERS.items():
                found = run(place, prompts, seam, runner, folder)
                tokens = "equal" if found["tokens"] == wanted else "**different**"
                launched = found["launches"] == found["decode"] > 0
                verdict = "one launch a step" if launched else "; ".join(found["refusals"]) or "**stock**"
                yield f"| {name} | {found['version']} | {shown} | {seam} | 1, then {TOGETHER} | {tokens} | {verdict} |"


def run(model: Path, prompts: list[list[int]], seam: str, runner: str, folder: Path) -> dict:
    engine = {
        "model": str(model), "dtype": "float32", "max_model_len": 256, "block_size": 16, "max_num_seqs": TOGETHER,
        "compilation_config": {"backend": "onelaunch"},
        "additional_config": {"onelaunch": {"seam": seam, **({"stock": "eager"} if seam == "graph" else {})}},
    }  # fmt: skip
    asked = [
        {"id": str(i), "prompt": p, "max_tokens": COUNT, "arrive": COUNT * 2 * (i > 0)} for i, p in enumerate(prompts)
    ]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("drive.py")],
        input=json.dumps({"engine": engine, "requests": asked}), env=environment(folder, runner),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="the page whose table is written anew")
    parser.add_argument("others", type=Path, nargs="*", help="folders with other versions of vLLM")
    given = parser.parse_args()
    page = given.page
    with tempfile.TemporaryDirectory() as folder:
        table = [
            "| model | vLLM | runner | seam | sequences | tokens | decode |",
            "|---|---|---|---|---|---|---|",
            *rows(Path(folder), [None, *given.others]),
        ]
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(table) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
