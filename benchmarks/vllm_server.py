"""A ``vllm serve`` process for ``vllm_serve``: started with caches of its own, timed until it answers, ended surely."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from typing import Self

from benchmarks.vllm_client import drive
from benchmarks.vllm_plan import Request

ENVIRONMENT = {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
CACHES = (
    "ONELAUNCH_CACHE", "VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH", "FLASHINFER_WORKSPACE_BASE",
)  # fmt: skip
END = 15.0  # seconds that a server may take to end by itself


class Server:
    """Context manager around one server. Its log and caches are in ``folder``; ``cold``: nothing was cached there."""

    def __init__(self, name: str, folder: Path, options: list[str], vllm: Path | None = None) -> None:
        self.name = name
        self.folder = folder
        self.options = options
        self.vllm = vllm
        self.once = folder / "was-ready"
        self.cold = not self.once.exists()
        self.log = folder / "log"

    def __enter__(self) -> Self:
        if self.cold:  # what a start that did not end left there
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *self.options, "--host", "127.0.0.1",
            "--port", str(port), "--served-model-name", "model", "--disable-uvicorn-access-log",
        ]  # fmt: skip
        self.began = time.perf_counter()
        with self.log.open("w") as log:  # a group, not a session: who ends this program's session ends the server too
            self.process = subprocess.Popen(
                command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        return self

    def __exit__(self, *failure: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if failure[0] is None:
                self.process.terminate()
                self.process.wait(END)
        with contextlib.suppress(ProcessLookupError):  # the engine is a process of the same group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        until = time.perf_counter() + END
        while resident(self.process.pid) and time.perf_counter() < until:  # the next server needs their memory
            time.sleep(0.05)

    def environment(self) -> dict[str, str]:
        """This process's, with caches of the server's own."""
        made = os.environ | ENVIRONMENT | {name: str(self.folder / name.lower()) for name in CACHES}
        if self.vllm is not None:
            made["PYTHONPATH"] = os.pathsep.join([str(self.vllm), os.environ.get("PYTHONPATH", "")])
        return made

    async def ready(self, until: float) -> dict[str, Any]:
        """Wait until it answers. Returns seconds since its start until it was healthy and until its first answer.

        Raises RuntimeError with its last words where it ends, TimeoutError where it does not by ``until``.
        """
        import aiohttp

        async with asyncio.timeout(until - time.perf_counter()), aiohttp.ClientSession(self.url) as session:
            while not await self._healthy(session):
                await asyncio.sleep(0.1)
            healthy = time.perf_counter() - self.began
            async with session.get("/version") as response:
                self.version = str((await response.json())["version"])
            first = await drive(self.url, [Request([1] * 8, 2)], 1, until)
        if (failure := first.answers[0].failure) is not None:
            raise RuntimeError(f"the {self.name} server does not answer: {failure}\n{self.said()}")
        self.once.touch()
        return {"healthy_s": healthy, "first_s": time.perf_counter() - self.began}

    async def _healthy(self, session: Any) -> bool:
        import aiohttp

        if self.process.poll() is not None:
            raise RuntimeError(f"the {self.name} server ended:\n{self.said()}")
        try:
            async with session.get("/health") as response:
                return bool(response.status == 200)
        except aiohttp.ClientError:
            return False

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def launches(self) -> dict[str, Any]:
        """What its log says of launches."""
        return launches(self.log.read_text(errors="replace"))

    def memory(self) -> dict[str, float | None]:
        """MiB in use: of the GPU, by all processes; of the host, by this server's."""
        import torch

        used = None
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            used = (total - free) / 2**20
        return {"gpu_mib": used, "host_mib": resident(self.process.pid) / 2**20}


def launches(log: str) -> dict[str, Any]:
    """From a server's log: numbers of sequences that have a launch, and why others have none.

    Launches are not counted: replays of a CUDA graph that holds one pass no code of ours.
    """
    sizes = {int(size) for size in re.findall(r"decode steps of (\d+) tokens? are one launch", log)}
    return {"sizes": sorted(sizes), "refusals": re.findall(r"decode steps are left to vLLM: (.*)", log)}


def resident(group: int) -> int:
    """Bytes of memory of all processes of a process group."""
    pages = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(process.name)) == group:
                pages += int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
