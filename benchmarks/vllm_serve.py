"""``vllm serve`` with and without ``-cc.backend=onelaunch``: ``python -m benchmarks.vllm_serve --shape 1b``.

Two servers with the same weights, asked the same by clients over loopback, in one go. Parts: ``startup``, seconds until
a server answers, with empty and with full caches; ``load``, random arrivals; ``burst``, many requests at once;
``endurance``, requests of all lengths that come and go, with the memory, and every text compared with the same request
by itself on stock vLLM. Ratios are how many times faster than stock we are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import vllm_models
from benchmarks import vllm_parts
from benchmarks import vllm_serve_table
from benchmarks.vllm_client import Answer
from benchmarks.vllm_plan import Lengths
from benchmarks.vllm_serve_result import judge
from benchmarks.vllm_serve_result import merged
from benchmarks.vllm_serve_result import right
from benchmarks.vllm_serve_result import stamped
from benchmarks.vllm_server import Server

PARTS = ("startup", "load", "burst", "endurance")
ENGINES: dict[str, list[str]] = {"onelaunch": ["-cc.backend=onelaunch"], "stock": []}
MOST = 64  # sequences that a server runs at once


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, print; 1 where requests stayed unanswered, texts are wrong or nothing was launched."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # servers are ended on the way out
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(given, given.keep or Path(temporary))
        try:
            asyncio.run(run.measure())
        except TimeoutError:
            run.unfinished = f"ended at the limit of {given.limit:.0f} s"
        except RuntimeError as error:  # what was measured before is still of use
            run.unfinished = str(error)
    if run.unfinished is not None:
        print(run.unfinished, file=sys.stderr)
    judge(run.parts, run.texts)
    result = {
        "kind": "vllm-serve", "model": vllm_models.title(given.shape), "layers": given.layers, "dtype": given.dtype,
        "vllm": run.version, **stamped(run.parts, {"launches": run.launches, "unfinished": run.unfinished}, given),
    }  # fmt: skip
    if given.output is not None:
        given.output.write_text(json.dumps(merged(given.output, result), indent=1) + "\n", encoding="utf-8")
    print(vllm_serve_table.markdown(result))
    launched = all(found["sizes"] for name, found in run.launches.items() if name == "onelaunch")
    return 0 if right(run.parts) and launched and run.unfinished is None else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options, with ``parts`` and ``engines`` as lists."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm_serve", description=__doc__)
    parser.add_argument("--shape", default="1b", help=f"of benchmarks.configurations, or {vllm_models.PACKAGED}")
    parser.add_argument("--layers", type=int, help="fewer than the shape has")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the longest prompt")
    parser.add_argument("--tokens", type=int, default=128, help="of the longest answer")
    parser.add_argument("--load", type=int, default=128, help="requests of the load")
    parser.add_argument("--rate", type=float, default=8.0, help="its arrivals a second")
    parser.add_argument("--clients", type=int, default=8, help="its requests that run at once, at most")
    parser.add_argument("--burst", type=int, default=64, help="requests that come at once")
    parser.add_argument("--rounds", type=int, default=3, help="how often they come")
    parser.add_argument("--endurance", type=int, default=256, help="requests that come and go")
    parser.add_argument("--hang", type=float, default=120.0, help="seconds that a part may take on a server")
    parser.add_argument("--limit", type=float, default=1500.0, help="seconds after which the command ends")
    parser.add_argument("--rows", type=int, help="batches up to which ours launches, beyond its default")
    parser.add_argument("--together", type=int, metavar="GIB", help="both servers up, each with so much cache")
    parser.add_argument("--vllm", type=Path, help="a folder that holds vLLM")
    parser.add_argument("--keep", type=Path, help="a folder for model and caches, for later commands")
    parser.add_argument("--output", type=Path, help="a JSON file for the results; parts that it has stay in it")
    given = parser.parse_args(arguments)
    for name, known in (("parts", PARTS), ("engines", tuple(ENGINES))):
        chosen = getattr(given, name).split(",")
        if set(chosen) - set(known):
            parser.error(f"--{name} {getattr(given, name)}: accepted: {', '.join(known)}")
        setattr(given, name, [k for k in known if k in chosen])
    return given


class Run:
    """One measurement, and what it has found so far: by part and engine."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given = given
        self.folder = folder
        self.end: float = time.perf_counter() + given.limit
        self.parts: dict[str, dict[str, Any]] = {part: {} for part in given.parts}
        self.launches: dict[str, Any] = {}
        self.texts: dict[str, list[Answer]] = {}
        self.version = ""
        self.unfinished: str | None = None

    async def measure(self) -> None:
        """All parts. Raises TimeoutError at the limit."""
        given = self.given
        self.model = vllm_models.folder(given.shape, given.layers, given.dtype, self.folder)
        self.lengths = Lengths(vllm_models.vocabulary(self.model), given.prompt, given.tokens)
        for names in [given.engines] if given.together else [[name] for name in given.engines]:
            for name in names:
                if "startup" in given.parts and (server := self._server(name)).cold:
                    with server:
                        await self._ready(server, together=False)
            with contextlib.ExitStack() as stack:
                servers = [stack.enter_context(self._server(name)) for name in names]
                await asyncio.gather(*(self._ready(server, together=len(names) > 1) for server in servers))
                if given.parts != ["startup"]:
                    for server in servers:
                        await vllm_parts.warm(server, self.lengths, self._until())
                for part in (p for p in given.parts if p != "startup"):
                    for server in servers:
                        self._say(f"{part}, {server.name}")
                        await self._part(part, server)

    async def _part(self, part: str, server: Server) -> None:
        given, until = self.given, self._until(self.given.hang)
        if part == "endurance":
            found, answers, alone = await vllm_parts.endurance(
                server, self.lengths, given.endurance, until, alone=server.name == "stock"
            )
            self.texts |= {server.name: answers} | ({"alone": alone} if alone else {})
        else:
            asked = (given.load, given.rate, given.clients) if part == "load" else (given.burst, given.rounds)
            found = await getattr(vllm_parts, part)(server, self.lengths, *asked, until)
        self.parts[part][server.name] = found
        self.launches[server.name] = server.launches()

    async def _ready(self, server: Server, *, together: bool) -> None:
        found = await server.ready(self._until())
        self.version = server.version
        kind = "cold" if server.cold else "cached"
        self._say(f"{server.name} answers, {kind}: {found['first_s']:.1f} s")
        if "startup" in self.parts:
            self.parts["startup"].setdefault(server.name, {})[kind] = found | {"together": together}

    def _server(self, name: str) -> Server:
        given = self.given
        options = [
            str(self.model), "--dtype", given.dtype, "--seed", "0", "--max-num-seqs", str(MOST),
            "--max-model-len", str(given.prompt + given.tokens), *ENGINES[name],
        ]  # fmt: skip
        if given.together:  # what is free is not to be measured while the other starts
            options += ["--kv-cache-memory-bytes", str(given.together << 30)]
        if given.rows and name == "onelaunch":
            options += ["--additional-config", json.dumps({"onelaunch": {"rows": given.rows}})]
        return Server(name, self.folder / f"{name}-{self.model.name}", options, given.vllm)

    def _until(self, patience: float = float("inf")) -> float:
        """The moment at which to give up: after so many seconds, or at the limit."""
        now = time.perf_counter()
        if now >= self.end:
            raise TimeoutError
        return min(now + patience, self.end)

    def _say(self, what: str) -> None:
        print(f"{self.given.limit - (self.end - time.perf_counter()):6.1f} s  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
