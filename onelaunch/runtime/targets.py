"""Which target a program runs on."""

from __future__ import annotations

import functools
import logging

from onelaunch.errors import CompilerError
from onelaunch.errors import OptionError
from onelaunch.targets.base import Target

log = logging.getLogger(__name__)

NAMES = ("auto", "cpu", "reference")


@functools.cache
def select(name: str = "auto") -> Target:
    """The target called ``name``. ``auto``: the CPU where there is a C++ compiler, otherwise the reference target,
    after a warning. Raises OptionError for an unknown name, CompilerError for ``cpu`` without a compiler.
    """
    if name not in NAMES:
        raise OptionError(f"unknown target {name!r}; accepted: {', '.join(NAMES)}")
    if name == "reference":
        return _reference()
    try:
        return _cpu()
    except CompilerError as error:
        if name == "cpu":
            raise
        log.warning("programs run on the slow reference target: %s", error)
        return _reference()


def _cpu() -> Target:
    from onelaunch.targets.cpu.target import CpuTarget

    target = CpuTarget()
    target.fingerprint()  # asks the compiler
    return target


def _reference() -> Target:
    from onelaunch.targets.reference.target import ReferenceTarget

    return ReferenceTarget()
