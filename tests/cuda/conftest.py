"""What these tests need, decided in one place: NVRTC (any machine may have it), or a GPU that programs run on.

Nothing here initialises CUDA while tests are collected.
"""

from __future__ import annotations

import functools

import pytest

from onelaunch.errors import CompilerError


@functools.cache
def without_nvrtc() -> str | None:
    from onelaunch.targets.cuda import compiler

    try:
        compiler.version()
    except CompilerError as error:
        return str(error)
    return None


@functools.cache
def without_gpu() -> str | None:
    from onelaunch.targets.cuda import device

    return device.reason_against() or without_nvrtc()


@pytest.fixture(scope="session")
def nvrtc():
    if (reason := without_nvrtc()) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def gpu():
    if (reason := without_gpu()) is not None:
        pytest.skip(f"needs a GPU: {reason}")
