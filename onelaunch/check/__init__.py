"""The check: an independent certificate that a program can neither deadlock nor race (docs/protocols.md)."""

from __future__ import annotations

import sys
import types
from typing import Any

from onelaunch.check.certificate import Certificate
from onelaunch.check.certificate import check

__all__ = ["Certificate", "check"]


class _CallablePackage(types.ModuleType):
    """``onelaunch.check`` names this package and, for users, the function: calling the one calls the other."""

    def __call__(self, *args: Any, **kwargs: Any) -> Certificate:
        return check(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
