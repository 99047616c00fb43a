"""One decode step against its peers, in turns, with a verdict on each: ``python -m benchmarks.decode``."""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import torch

from benchmarks import host
from benchmarks import llama_peer
from benchmarks import result
from benchmarks.bandwidth import BYTES
from benchmarks.bandwidth import ReadPeer
from benchmarks.overhead import Overhead
from benchmarks.overhead import measure_overhead
from benchmarks.overhead import nothing
from benchmarks.rounds import Timing
from benchmarks.rounds import run_rounds
from benchmarks.tables import load
from benchmarks.tables import notes
from benchmarks.text import PASSAGE
from benchmarks.torch_peers import TorchPeer
from benchmarks.verdict import judge
from onelaunch.models.decode_step import BACKEND
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.source import load_model

MODELS = Path(__file__).parent.parent / ".models"  # llama.cpp's file; not in version control
OURS = "onelaunch"
ABSENT_PEERS = ("llama.cpp", "inductor")


@dataclass
class Bench:
    """The peers of one model, and what is fed to them."""

    loaded: LoadedModel
    context: list[list[int]]
    forced: list[int]
    peers: list[Any] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self.loaded.model


def main(arguments: list[str] | None = None) -> int:
    """Run, print the table, write the result; fails where a peer of ours computes something else."""
    given = _parse(arguments)
    torch.set_num_threads(given.threads)
    bench = _prepare(given)
    timings = run_rounds([*bench.peers, ReadPeer()], given.rounds, given.steps, _progress)
    rows = _rows(bench, timings)
    more = _more(bench, timings, _overhead(bench, given), given)
    settings = {
        "model": bench.loaded.name,
        "dtype": str(bench.model.dtype).removeprefix("torch."),
        "context": given.context,
        "rounds": given.rounds,
        "steps": given.steps,
        "forced_tokens": len(bench.forced),
    }
    path = result.save(given.name, host.describe(given.threads), settings, rows, more)
    _print(path)
    return 0 if all(row.right is not False for row in rows if row.peer.startswith(OURS)) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    add = parser.add_argument
    add("--model", help="a .gguf file or a folder; default: the packaged model")
    add("--name", default="decode-cpu", help="of the result file (%(default)s)")
    add("--threads", type=int, default=2, help="for every peer (%(default)s)")
    add("--context", type=int, default=64, help="tokens in the cache at the first timed step (%(default)s)")
    add("--rounds", type=int, default=15, help="turns of each peer (%(default)s)")
    add("--steps", type=int, default=12, help="timed steps of a turn (%(default)s)")
    add("--forced", type=int, default=64, help="tokens fed to judge the results (%(default)s)")
    add("--batch", type=int, default=4, help="rows of the larger batch (%(default)s)")
    add("--without", nargs="*", default=[], choices=ABSENT_PEERS, help="peers to leave out")
    return parser.parse_args(arguments)


def _prepare(given: argparse.Namespace) -> Bench:
    loaded = load_model(given.model)
    ids = loaded.tokenizer(PASSAGE, add_special_tokens=False).input_ids
    context = [ids[shift : shift + given.context] for shift in range(given.batch)]
    bench = Bench(loaded, context, ids[given.context : given.context + given.forced])
    options = {"workers": given.threads, "fallback": "error"}
    _add(bench, TorchPeer, OURS, bench.model, context[:1], BACKEND, options)
    _add(bench, TorchPeer, f"{OURS}, batch {given.batch}", bench.model, context, BACKEND, options)
    _add(bench, TorchPeer, "eager", bench.model, context[:1], None)
    if "inductor" not in given.without:
        _add(bench, TorchPeer, "Inductor", bench.model, context[:1], "inductor")
    if "llama.cpp" not in given.without:
        _add_llama(bench, given)
    return bench


def _add(bench: Bench, kind: Any, *arguments: Any) -> None:
    print(f"preparing {arguments[0] if isinstance(arguments[0], str) else kind.name}", file=sys.stderr)
    bench.peers.append(kind(*arguments))


def _add_llama(bench: Bench, given: argparse.Namespace) -> None:
    reason = llama_peer.available()
    if reason is None and bench.loaded.path.suffix != ".gguf":
        reason = "it reads GGUF files only"
    if reason is not None:
        bench.absent[llama_peer.LlamaPeer.name] = reason
        return
    path = llama_peer.bf16_file(bench.loaded.path, MODELS, given.threads)
    _add(bench, llama_peer.LlamaPeer, path, bench.context[0], given.threads)


def _progress(done: int, total: int) -> None:
    print(f"\rround {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _rows(bench: Bench, timings: dict[str, Timing]) -> list[result.Row]:
    print("judging results against fp32", file=sys.stderr)
    exact = TorchPeer("fp32", copy.deepcopy(bench.model).float(), bench.context[:1], None)
    reference = exact.logits_along(bench.forced)
    logits = {peer.name: peer.logits_along(bench.forced) for peer in bench.peers}
    return [
        result.make_row(
            peer.name,
            peer.batch,
            timings[peer.name],
            timings[OURS],
            judge(logits[peer.name], reference, logits["eager"]),
        )
        for peer in bench.peers
    ]


def _overhead(bench: Bench, given: argparse.Namespace) -> Overhead:
    empty = TorchPeer("nothing", bench.model, bench.context[:1], nothing)
    ours = bench.peers[0]
    ours.rewind()
    measured = measure_overhead(ours.step, empty.step, min(100, given.rounds * given.steps))
    ours.rewind()
    return measured


def _more(bench: Bench, timings: dict[str, Timing], overhead: Overhead, given: argparse.Namespace) -> dict[str, Any]:
    # Tied weights are one parameter, read once for the embedding of one token and once, whole, for the logits.
    weight_bytes = sum(p.numel() * p.element_size() for p in bench.model.parameters())
    read = timings[ReadPeer.name]
    best, median = BYTES / min(read.seconds), BYTES / read.median
    larger = timings[bench.peers[1].name].median / timings[OURS].median
    return {
        "roof": {
            "weight_bytes": weight_bytes,
            "bytes_per_second": {"best": best, "median": median},
            "ms": {"best": weight_bytes / best * 1e3, "median": weight_bytes / median * 1e3},
        },
        "overhead": {
            "outside_us": overhead.outside * 1e6,
            "nothing_us": overhead.of_nothing * 1e6,
            "ours_us": overhead.ours * 1e6,
        },
        "batch": {"size": given.batch, "ratio": larger},
        "absent": bench.absent,
    }


def _print(path: Path) -> None:
    stored = load(path.stem)
    table = [list(result.HEADINGS), *(result.cells(row) for row in stored["rows"])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        right = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print(first.ljust(widths[0]), *right, sep="  ")
    print("", *notes(stored), f"Written to {path}", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
