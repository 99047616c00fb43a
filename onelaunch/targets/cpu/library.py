"""Shared libraries: the runtime, of which a process has one, and the kernels of programs."""

from __future__ import annotations

import ctypes
import json
import threading
from pathlib import Path

from onelaunch.errors import CompilerError
from onelaunch.targets.cpu import compiler
from onelaunch.targets.cpu.features import features
from onelaunch.targets.cpu.tables import SIZES
from onelaunch.targets.cpu.tables import LaunchRecord
from onelaunch.targets.cpu.tables import Tables

_runtime: ctypes.CDLL | None = None
_lock = threading.Lock()


def load(path: Path) -> ctypes.CDLL:
    """Loads a library, if this CPU has every feature that the one that built it had."""
    try:
        built_with = set(json.loads(path.with_suffix(".json").read_text()))
        missing = built_with - features()
        if missing:
            raise CompilerError(f"{path} was built for a CPU with {', '.join(sorted(missing))}; delete it to rebuild")
        return ctypes.CDLL(str(path))
    except (OSError, ValueError) as error:
        raise CompilerError(f"{path} cannot be loaded ({error}); delete it to rebuild") from error


def runtime(path: Path | None = None) -> ctypes.CDLL:
    """The process's runtime; the first call names the library to take it from."""
    global _runtime  # noqa: PLW0603
    with _lock:
        if _runtime is None:
            assert path is not None, "the runtime is asked for before it is built"
            _runtime = _declare(load(path))
        return _runtime


def build(sources: list[str], folder: Path) -> list[ctypes.CDLL]:
    """Compiles (where needed) and loads kernels, and the runtime if it is not loaded yet."""
    if _runtime is None:
        first, *paths = compiler.compile_all([compiler.RUNTIME, *sources], folder)
        runtime(first)
    else:
        paths = compiler.compile_all(sources, folder)
    return [load(path) for path in paths]


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    library.onelaunch_size_of.argtypes = [ctypes.c_char_p]
    library.onelaunch_size_of.restype = ctypes.c_int64
    for name, size in SIZES.items():
        found = library.onelaunch_size_of(name.encode())
        assert found == size, f"{name} of task.h has {found} bytes, the tables have {size}"
    library.onelaunch_last_error.restype = ctypes.c_char_p
    library.onelaunch_create.argtypes = [ctypes.POINTER(Tables)]
    library.onelaunch_create.restype = ctypes.c_void_p
    library.onelaunch_destroy.argtypes = [ctypes.c_void_p]
    library.onelaunch_destroy.restype = None
    library.onelaunch_launch.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(LaunchRecord),
    ]  # fmt: skip
    library.onelaunch_launch.restype = ctypes.c_int32
    for name, kind in (("deadline", ctypes.c_int64), ("counters", ctypes.c_uint32), ("trace", ctypes.c_void_p)):
        setter = getattr(library, f"onelaunch_set_{name}")
        setter.argtypes, setter.restype = [ctypes.c_void_p, kind], None
    return library


def address(libraries: list[ctypes.CDLL], name: str) -> int:
    """The address of a function in whichever library has it; 0 where none has."""
    for library in libraries:
        try:
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        except AttributeError:
            continue
    return 0
