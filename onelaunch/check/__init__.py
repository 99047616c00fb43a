"""The check: an independent certificate that a program can neither deadlock nor race (docs/protocols.md)."""

from __future__ import annotations

from onelaunch.check.certificate import Certificate
from onelaunch.check.certificate import check

__all__ = ["Certificate", "check"]
