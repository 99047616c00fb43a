"""Which target a program runs on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable

import torch

from onelaunch.errors import CompilerError
from onelaunch.errors import OptionError
from onelaunch.targets.base import Target

log = logging.getLogger(__name__)

NAMES = ("auto", "cpu", "cuda", "reference")


@functools.cache
def select(name: str = "auto", launch: str = "one") -> Target:
    """The target called ``name``, which runs programs as ``launch`` says. ``auto``: the CPU where there is a C++
    compiler, otherwise the reference target, after a warning (arguments on a GPU make it ``cuda`` before: ``resolve``).
    Raises OptionError for an unknown name, or one that ``launch`` is not for, CompilerError for ``cpu`` and ``cuda``
    without a compiler.
    """
    if name not in NAMES:
        raise OptionError(f"unknown target {name!r}; accepted: {', '.join(NAMES)}")
    if name == "cuda":
        return _cuda(launch)
    if launch != "one":
        raise OptionError(
            f"option 'launch' is {launch!r} with target {name!r}; accepted: 'one', because only target 'cuda' has "
            f"launches of single ops"
        )
    if name == "reference":
        return _reference()
    try:
        return _cpu()
    except CompilerError as error:
        if name == "cpu":
            raise
        log.warning("programs run on the slow reference target: %s", error)
        return _reference()


def resolve(name: str, tensors: Iterable[object]) -> tuple[str, str | None]:
    """The name that ``auto`` stands for with these arguments, and why it is not ``cuda`` where one is on a GPU."""
    found = next((t for t in tensors if isinstance(t, torch.Tensor) and t.device.type == "cuda"), None)
    if name != "auto" or found is None:
        return name, None
    reason = reason_against_cuda(found.device.index)
    return ("cuda", None) if reason is None else (name, reason)


def reason_against_cuda(index: int | None = None) -> str | None:
    """Why ``auto`` leaves arguments on this GPU (None: the current one) to torch; None: it compiles for it."""
    from onelaunch.targets.cuda import compiler
    from onelaunch.targets.cuda import device

    reason = device.reason_against(index)
    if reason is None:
        try:
            compiler.version()
        except CompilerError as error:
            reason = str(error)
    return reason


def _cuda(launch: str) -> Target:
    from onelaunch.targets.cuda.target import CudaTarget

    target = CudaTarget(launch)
    target.fingerprint()  # asks NVRTC
    return target


def _cpu() -> Target:
    from onelaunch.targets.cpu.target import CpuTarget

    target = CpuTarget()
    target.fingerprint()  # asks the compiler
    return target


def _reference() -> Target:
    from onelaunch.targets.reference.target import ReferenceTarget

    return ReferenceTarget()
