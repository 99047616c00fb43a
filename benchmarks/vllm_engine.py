"""vLLM with and without ``-cc.backend=onelaunch``: ``python -m benchmarks.vllm_engine --shapes 1b --batch 1,8``.

Two engines, each in a process of its own, on the same prompts and random weights (those that transformers gives the
configuration). Prints GPU time of a decode replay and wall time of a decode step, ours, stock and the ratio, and judges
the tokens of the same runs: equal, or the first difference where stock itself is undecided. Undecided is a gap between
its two tokens of at most twice what a log-probability of stock differs by when the same request runs in another batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import vllm_where
from benchmarks.vllm_worker import STEPS

ENGINES: dict[str, dict[str, Any]] = {"stock": {}, "onelaunch": {"compilation_config": {"backend": "onelaunch"}}}
LEAST = 1e-3  # nats: log-probabilities are printed with less
PATIENCE = 1500.0  # seconds that an engine may take


def main(arguments: list[str] | None = None) -> int:
    """Measure every shape; 1 where a verdict is bad or nothing was launched."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm_engine", description=__doc__)
    parser.add_argument("--shapes", default="1b")
    parser.add_argument("--layers", type=int, help="fewer than the shape has")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--context", default="178,1074")
    parser.add_argument("--mixed", type=int, default=64, help="requests that come and go")
    parser.add_argument("--where", action="store_true", help="take the wall time of decode steps apart")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--vllm", type=Path, help="a folder that holds vLLM")
    parser.add_argument("--rows", type=int, help="batches up to which ours launches, beyond its default")
    parser.add_argument(
        "--together",
        type=int,
        metavar="GIB",
        help="start both engines at once, each with so much cache; they take turns",
    )
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    rows = []
    for shape in given.shapes.split(","):
        rows += measure(shape, given)
    print(table(rows))
    if given.where:
        print(vllm_where.table(rows))
    if given.output is not None:
        from benchmarks.gpu_result import run_of

        given.output.write_text(json.dumps({"kind": "vllm", "run": run_of(), "rows": rows}, indent=1) + "\n")
    return 0 if all(r["right"] and r["launches"] for r in rows) else 1


def measure(shape: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each batch and context, and one for the mixed requests."""
    points = [(b, c) for c in map(int, given.context.split(",")) for b in map(int, given.batch.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        weights(shape, given.layers, given.dtype, Path(folder))
        names = ("onelaunch", "stock")
        if given.together:
            started = [_start(n, folder, points, given) for n in names]
            ours, stock = (_result(n, p, folder) for n, p in zip(names, started, strict=True))
        else:
            ours, stock = (_result(n, _start(n, folder, points, given), folder) for n in names)
    noise = noise_of(stock)
    rows = []
    for batch, context in points:
        key = f"{batch}x{context}"
        pair = ours["points"][key], stock["points"][key]
        verdict = compare(*pair, noise)
        rows.append({
            "shape": shape, "batch": batch, "context": context, **_times(*pair), **verdict, "noise": noise,
            "launches": ours["launches"], "start_s": [ours["start_s"], stock["start_s"]], "vllm": stock["version"],
        })  # fmt: skip
        if given.where:
            rows[-1]["where"] = [p["where"] for p in pair]
    same = sum(a == b for a, b in zip(ours["mixed"], stock["mixed"], strict=True))
    print(f"{shape}: {same} of {len(stock['mixed'])} mixed requests equal; left to vLLM: {ours['stock']}")
    for line in ours["refusals"]:
        print(f"{shape}: refused: {line}")
    return rows


def weights(shape: str, layers: int | None, dtype: str, folder: Path) -> None:
    """A folder with the shape's configuration and weights as transformers initialises them."""
    import torch
    from transformers import AutoModelForCausalLM

    from benchmarks.configurations import configuration

    config = configuration(shape, layers)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _start(name: str, folder: str, points: list[tuple[int, int]], given: argparse.Namespace) -> subprocess.Popen[str]:
    """One engine in a process of its own, on its way; what it says goes to files."""
    longest, most = max(c for _, c in points) + 2 * STEPS, max(b for b, _ in points)
    engine = {
        "model": folder, "dtype": given.dtype, "max_model_len": longest, "max_num_seqs": max(most, 64), **ENGINES[name],
    }  # fmt: skip
    if given.together:  # what is free is not to be measured while the other starts
        engine["kv_cache_memory_bytes"] = given.together << 30
    if given.rows and name == "onelaunch":
        engine["additional_config"] = {"onelaunch": {"rows": given.rows}}
    environment = dict(os.environ)
    if given.vllm is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(given.vllm), environment.get("PYTHONPATH", "")])
    scenario = Path(folder, f"{name}.json")
    asked = {"points": points, "mixed": given.mixed, "again": name == "stock", "where": given.where}
    scenario.write_text(json.dumps({"engine": engine, **asked}))
    said, wrong = Path(folder, f"{name}.out"), Path(folder, f"{name}.err")
    with scenario.open() as stdin, said.open("w") as stdout, wrong.open("w") as stderr:
        command = [sys.executable, "-m", "benchmarks.vllm_worker"]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, text=True)


def _result(name: str, process: subprocess.Popen[str], folder: str) -> dict[str, Any]:
    """What an engine gave. Raises RuntimeError with its last words where it gave nothing."""
    try:
        status = process.wait(PATIENCE)
    finally:
        process.kill()
    if status != 0:
        raise RuntimeError(f"the {name} engine failed:\n{Path(folder, f'{name}.err').read_text()[-3000:]}")
    found: dict[str, Any] = json.loads(Path(folder, f"{name}.out").read_text().strip().splitlines()[-1])
    return found


def _times(ours: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    """Medians in microseconds, ours then stock's."""
    made = {}
    for part in ("gpu", "wall"):
        both = [p[part] and statistics.median(p[part]) * 1e6 for p in (ours, stock)]
        made[f"{part}_us"] = both if all(both) else None
    return made


def compare(ours: dict[str, Any], stock: dict[str, Any], noise: float) -> dict[str, Any]:
    """How many rows have equal tokens, and for the others whether stock was undecided where they part."""
    gaps = [gap for _, gap in partings(ours, stock)]
    right = all(gap <= 2 * max(noise, LEAST) for gap in gaps)
    of = len(stock["rows"])
    return {"equal": of - len(gaps), "of": of, "gap": max(gaps, default=None), "right": right}


def partings(ours: dict[str, Any], stock: dict[str, Any]) -> list[tuple[int, float]]:
    """For each row with other tokens the first step that differs, and by how much stock prefers its own token there."""
    found = []
    for a, b in zip(ours["rows"], stock["rows"], strict=True):
        at = parting(a["tokens"], b["tokens"])
        if at is not None:
            likely = {int(t): p for t, p in b["logprobs"][at]}
            found.append((at, likely[b["tokens"][at]] - likely.get(a["tokens"][at], -float("inf"))))
    return found


def parting(a: list[int], b: list[int]) -> int | None:
    """The first step at which two texts differ."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), None)


def noise_of(stock: dict[str, Any]) -> float:
    """The largest difference of a log-probability of stock between two batches, while the tokens are the same."""
    largest = 0.0
    for point in stock["points"].values():
        for a, b in zip(point["again"], point["rows"], strict=True):
            end = parting(a["tokens"], b["tokens"])
            for x, y in zip(a["logprobs"][:end], b["logprobs"][:end], strict=True):
                left, right = dict(map(tuple, x)), dict(map(tuple, y))
                largest = max(largest, *(abs(left[t] - right[t]) for t in left.keys() & right.keys()))
    return largest


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    lines = ["shape     batch  context    GPU ours/stock us   ratio   wall ours/stock us   ratio  equal  gap  right"]
    for r in rows:
        cells = []
        for part in ("gpu_us", "wall_us"):
            pair = r[part]
            cells.append(f"{pair[0]:9.0f} {pair[1]:9.0f} {pair[1] / pair[0]:6.2f}x" if pair else f"{'–':>27}")
        gap = "–" if r["gap"] is None else f"{r['gap']:.4f}"
        lines.append(
            f"{r['shape']:9} {r['batch']:5} {r['context']:8}  {cells[0]}  {cells[1]}  {r['equal']}/{r['of']}  {gap}  "
            f"{'yes' if r['right'] else 'NO'}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
