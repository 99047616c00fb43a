"""One decode step on a GPU beside its peers: GPU time by CUDA events over graph replays, with the verdict.

    python -m benchmarks.gpu_step [--shapes 135m,...] [--batch 1,...] [--context 178,...] [--peers onelaunch,...]

Models have their makers' configurations and random weights; all rows hold equally many positions. Two parts are timed:
``layers`` (embedding to final norm) and the whole ``step`` (with logits). ``--name`` adds the rows to a result file;
peers of a row may come from several commands, all on one machine. Run several commands at once to compile side by side:
they take turns to measure. Fails where our results are not right.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

import torch

from benchmarks import gpu_peers
from benchmarks import gpu_result
from benchmarks.configurations import SHAPES
from benchmarks.configurations import TITLES
from benchmarks.configurations import configuration
from benchmarks.gpu_model import Step
from benchmarks.gpu_model import random_model
from benchmarks.gpu_peers import IN_PROCESS
from benchmarks.gpu_peers import OPS
from benchmarks.gpu_peers import OURS
from benchmarks.gpu_peers import VLLM
from benchmarks.gpu_peers import Measured
from benchmarks.gpu_timing import read_bandwidth
from benchmarks.gpu_turns import alone
from benchmarks.gpu_turns import shared

PEERS = (*IN_PROCESS, VLLM)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and add to the result file; 1 where a row of ours is not right."""
    given = _parse(arguments)
    run = gpu_result.run_of()
    rows = []
    for shape in given.shapes:
        points = list(itertools.product(given.batch, given.context))
        vllm = gpu_peers.run_vllm(given.vllm, shape, points, given.layers) if VLLM in given.peers else {}
        own = [peer for peer in given.peers if peer != VLLM]
        with shared():
            model = random_model(configuration(shape, given.layers)) if own else None
        for point in points:
            rows.append(_row(shape, model, point, own, vllm.get(point), given))
            _print(rows[-1])
            if given.name:
                gpu_result.add(given.name, run, rows[-1:])
        del model
        torch.cuda.empty_cache()
    ours = [row["peers"][peer] for row in rows for peer in (OURS, OPS) if peer in row["peers"]]
    return 0 if all("failure" not in found and all(_verdicts(found)) for found in ours) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shapes", type=_among(SHAPES), default=["135m"], help=f"of {', '.join(SHAPES)}")
    add("--batch", type=_numbers, default=[1], help="rows")
    add("--context", type=_numbers, default=[178], help="positions in the cache of every row")
    add("--peers", type=_among(PEERS), default=[OURS, "eager"], help=f"of {', '.join(PEERS)}")
    add("--vllm", metavar="FOLDER", help="where vLLM's packages lie")
    add("--layers", type=int, help="only so many of the model's layers")
    add("--replays", type=int, default=100, help="timed (%(default)s)")
    add("--name", help="of the result file to add rows to")
    given = parser.parse_args(arguments)
    if VLLM in given.peers and given.vllm is None:
        parser.error(f"the peer {VLLM} needs --vllm FOLDER")
    return given


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _among(accepted: Any) -> Any:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(accepted):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; accepted: {', '.join(accepted)}")
        return found

    return names


def _row(
    shape: str, model: Any, point: tuple[int, int], own: list[str], vllm: Measured | None, given: argparse.Namespace
) -> dict[str, Any]:
    """A model at one batch and context, with what its peers gave."""
    batch, context = point
    row: dict[str, Any] = {"model": TITLES[shape], "layers": given.layers or SHAPES[shape]["num_hidden_layers"]}
    row |= {"batch": batch, "context": context, "peers": {}}
    if own:
        found, exact, sizes = measure(model, batch, context, own, given.replays)
        row |= sizes
        eager = found["eager"].results
        row["peers"] = {peer: gpu_result.entry(found[peer], exact, eager) for peer in own}
    if vllm is not None:
        row["peers"][VLLM] = gpu_result.entry(vllm, {}, {})
    return row


def measure(
    model: Any, batch: int, context: int, own: list[str], replays: int
) -> tuple[dict[str, Measured], dict[str, torch.Tensor], dict[str, Any]]:
    """Results and times of peers in this process (eager's results always); fp32's results; a step's bytes, and the
    read bandwidth meanwhile. Besides what is timed, fp32 comes alone, too: its memory is there for one at a time.
    """
    torch._dynamo.reset()
    with shared():
        step = Step(model, batch, context)
        prepared = {peer: gpu_peers.prepare(peer, step) for peer in dict.fromkeys(["eager", *own])}
    with alone():
        for peer in own:
            calls, made = prepared[peer]
            gpu_peers.measure(calls, step, made, replays)
        sizes = {"bytes": step.bytes, "bytes_per_second": round(read_bandwidth())}
        exact = step.exact()
        torch.cuda.empty_cache()
    return {peer: made for peer, (_, made) in prepared.items()}, exact, sizes


def _print(row: dict[str, Any]) -> None:
    where = f"{row['model']} ({row['layers']} layers), batch {row['batch']}, context {row['context']}"
    for peer, found in row["peers"].items():
        print(f"{where}: {peer}", *_said(row, found), sep="; ", flush=True)


def _said(row: dict[str, Any], found: dict[str, Any]) -> list[str]:
    said = []
    ours = row["peers"].get(OURS, {})
    for part in ("layers", "step"):
        if (times := found.get(part)) is None:
            continue
        text = f"{part} {times['us']:.1f} us ({times['low_us']:.1f} to {times['high_us']:.1f})"
        if "bytes" in row:
            text += f", {row['bytes'][part] / times['us'] * 1e6 / row['bytes_per_second']:.1%} of reading"
        if part in ours:
            text += f", {times['us'] / ours[part]['us']:.2f} of ours"
        if "error" in times:
            text += f", error {times['error']:.1e}, {times['of_eager']:.2f} of eager's"
        said.append(text + ("" if times.get("right", True) else ", NOT RIGHT"))
    said += [f"compiled in {found['compile_s']} s"] if "compile_s" in found else []
    return said + ([f"failed: {found['failure']}"] if "failure" in found else [])


def _verdicts(found: dict[str, Any]) -> list[bool]:
    return [times["right"] for times in found.values() if isinstance(times, dict) and "right" in times]


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
