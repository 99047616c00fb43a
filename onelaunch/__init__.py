"""onelaunch compiles a model's decode step into one launch.

``torch.compile(f, backend="onelaunch")`` needs no import of this package. What is exported here is loaded on first use:
importing the package initialises no device and imports neither torch nor any model library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onelaunch import errors
    from onelaunch.check import check
    from onelaunch.frontend.backend import backend
    from onelaunch.frontend.explain import Explanation
    from onelaunch.frontend.explain import explain
    from onelaunch.frontend.stats import ProgramStats
    from onelaunch.frontend.stats import last_programs
    from onelaunch.program.draw import draw
    from onelaunch.program.file import load
    from onelaunch.program.file import save
    from onelaunch.program.program import Program
    from onelaunch.runtime.run import run

__version__ = "0.1.0"

__all__ = [
    "Explanation", "Program", "ProgramStats", "__version__", "backend", "check", "draw", "errors", "explain",
    "last_programs", "load", "run", "save",
]  # fmt: skip

# Name -> (module, attribute); no attribute: the module itself.
_LAZY = {
    "Explanation": ("onelaunch.frontend.explain", "Explanation"),
    "Program": ("onelaunch.program.program", "Program"),
    "ProgramStats": ("onelaunch.frontend.stats", "ProgramStats"),
    "backend": ("onelaunch.frontend.backend", "backend"),
    "check": ("onelaunch.check", ""),  # a package that can be called like its function
    "draw": ("onelaunch.program.draw", "draw"),
    "errors": ("onelaunch.errors", ""),
    "explain": ("onelaunch.frontend.explain", "explain"),
    "last_programs": ("onelaunch.frontend.stats", "last_programs"),
    "load": ("onelaunch.program.file", "load"),
    "run": ("onelaunch.runtime.run", "run"),
    "save": ("onelaunch.program.file", "save"),
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'onelaunch' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    loaded = importlib.import_module(module)
    value = getattr(loaded, attribute) if attribute else loaded
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
