"""GPU time by events over graph replays, and the read bandwidth that it is compared with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.rounds import Timing

HEAD_START = 2_000_000  # clock cycles, about 1 ms: the GPU waits while the host enqueues what is timed
BYTES = 4 << 30  # read by one bandwidth measurement; far beyond any cache


def time_replays(call: Callable[[], Any], rewind: Callable[[], None], replays: int) -> Timing:
    """Capture ``call`` once it has run, and replay it; ``rewind`` runs before each replay and is not timed.

    The launch of the graph is not timed either: the GPU is kept waiting until it has been enqueued.
    """
    for _ in range(2):
        rewind()
        call()
    rewind()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return time_calls(graph.replay, rewind, replays)


def time_calls(call: Callable[[], Any], rewind: Callable[[], None], calls: int) -> Timing:
    """GPU time of each of ``calls`` enqueued calls, after three more."""
    pairs = []
    for _ in range(calls + 3):
        rewind()
        torch.cuda._sleep(HEAD_START)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        pairs.append((begin, end))
    rewind()
    torch.cuda.synchronize()
    return Timing(tuple(begin.elapsed_time(end) / 1e3 for begin, end in pairs[3:]))


def read_bandwidth(calls: int = 20) -> float:
    """Bytes a second (median) at which this GPU copies memory into its multiprocessors' shared memory."""
    data = torch.empty(BYTES // 4, dtype=torch.int32, device="cuda").random_()
    kernel = _Reader()
    timing = time_calls(lambda: kernel.launch(data), lambda: None, calls)
    return BYTES / timing.median


class _Reader:
    """The kernel of ``gpu_read.cu``: two blocks a multiprocessor, each reading a share of the data."""

    def __init__(self) -> None:
        from cuda.bindings import driver
        from cuda.core import Program
        from cuda.core import ProgramOptions

        major, minor = torch.cuda.get_device_capability()
        options = ProgramOptions(arch=f"sm_{major}{minor}a", std="c++17")
        source = Path(__file__).with_name("gpu_read.cu").read_text(encoding="utf-8")
        self._code = Program(source, "c++", options).compile("cubin")
        kernel = self._code.get_kernel("read")
        self._driver = driver
        self._function = self._call(driver.cuKernelGetFunction, kernel.handle)
        self._blocks = 2 * torch.cuda.get_device_properties(0).multi_processor_count

    def launch(self, data: torch.Tensor) -> None:
        """Read ``data`` once, on the current stream."""
        values = (ctypes.c_void_p(data.data_ptr()), ctypes.c_uint64(data.nbytes))
        addresses = (ctypes.c_void_p * 2)(*(ctypes.addressof(value) for value in values))
        stream = self._driver.CUstream(torch.cuda.current_stream().cuda_stream)
        grid, block = (self._blocks, 1, 1), (32, 1, 1)
        self._call(
            self._driver.cuLaunchKernel, self._function, *grid, *block, 0, stream, ctypes.addressof(addresses), 0
        )

    def _call(self, function: Any, *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if int(status) != 0:
            raise RuntimeError(f"{function.__name__} failed: {status.name}")
        return results[0] if results else None
