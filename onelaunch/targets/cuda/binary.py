"""A binary in the context of one GPU, and its kernels, through NVIDIA's driver."""

from __future__ import annotations

from typing import Any

import torch

from onelaunch.errors import LaunchError


class Binary:
    """A cubin that has been loaded; it must live as long as its functions."""

    def __init__(self, cubin: bytes, index: int) -> None:
        from cuda.core import ObjectCode

        torch.cuda.current_stream(index)  # torch makes the context
        self.index = index
        self._object = ObjectCode.from_cubin(cubin)

    def function(self, name: str, threads: int, shared: int) -> Function:
        """A kernel, to be launched with blocks of so many threads and bytes of dynamic shared memory."""
        from cuda.bindings import driver

        kernel = self._object.get_kernel(name)
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _call(driver.cuKernelSetAttribute, attribute, shared, kernel.handle, driver.CUdevice(self.index))
        return Function(_call(driver.cuKernelGetFunction, kernel.handle), threads, shared)


class Function:
    """See ``Binary.function``."""

    def __init__(self, handle: Any, threads: int, shared: int) -> None:
        from cuda.bindings import driver

        self._driver, self._handle = driver, handle
        self._threads, self._shared = threads, shared

    def resident(self) -> int:
        """Blocks that a multiprocessor holds at once."""
        found: int = _call(
            self._driver.cuOccupancyMaxActiveBlocksPerMultiprocessor, self._handle, self._threads, self._shared
        )
        return found

    def launch_together(self, blocks: int, stream: int, arguments: int) -> None:
        """A cooperative launch: all blocks are resident at once."""
        _call(
            self._driver.cuLaunchCooperativeKernel, self._handle, blocks, 1, 1, self._threads, 1, 1, self._shared,
            self._driver.CUstream(stream), arguments,
        )  # fmt: skip

    def prepared(self, blocks: int, overlaps: bool) -> Any:
        """What ``launch`` takes; ``overlaps``: it may begin before the launch before it in the stream has ended."""
        driver = self._driver
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = self._threads, 1, 1
        config.sharedMemBytes = self._shared
        if overlaps:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            config.attrs, config.numAttrs = [attribute], 1
        return config

    def launch(self, config: Any, stream: int, arguments: int) -> None:
        """A launch as it was prepared."""
        config.hStream = self._driver.CUstream(stream)
        _call(self._driver.cuLaunchKernelEx, config, self._handle, arguments, 0)


def _call(function: Any, *arguments: Any) -> Any:
    status, *results = function(*arguments)
    if int(status) != 0:
        raise LaunchError(f"{function.__name__} failed: {status.name}")
    return results[0] if results else None
