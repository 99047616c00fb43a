"""The `native` fixture: compiles the C++ drivers of these tests, once per source and flags."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CPU = HERE.parent.parent / "onelaunch" / "targets" / "cpu"
INCLUDE = CPU / "include"
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
FLAGS += ["-fopenmp-simd", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror"]


def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        pytest.skip("no C++ compiler on this machine")
    return found


class Native:
    """Builds shared libraries and executables from C++ sources in this folder."""

    folder = HERE
    include = INCLUDE
    flags = FLAGS

    @functools.cached_property
    def compiler(self) -> str:
        return compiler()

    @functools.cached_property
    def version(self) -> str:
        return subprocess.run([self.compiler, "--version"], capture_output=True, text=True, check=True).stdout

    def build(self, *sources: str | Path, flags: tuple[str, ...] = (), shared: bool = True) -> Path:
        paths = [HERE / source for source in sources]
        compile_flags = [*FLAGS, *flags]
        digest = hashlib.sha256(" ".join([self.version, *compile_flags, str(shared)]).encode())
        for path in [*paths, *sorted(INCLUDE.rglob("*.h")), *sorted(HERE.glob("*.h"))]:
            digest.update(str(path).encode())
            digest.update(path.read_bytes())
        folder = Path(tempfile.gettempdir()) / f"onelaunch-tests-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / (digest.hexdigest()[:24] + (".so" if shared else ""))
        if not target.exists():
            partial = target.with_suffix(f".{os.getpid()}")
            command = [self.compiler, *compile_flags, *(["-shared"] if shared else []), f"-I{INCLUDE}"]
            command += [*map(str, paths), "-o", str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            partial.rename(target)
        return target

    def library(self, *sources: str | Path, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.build(*sources, flags=flags)))


@pytest.fixture(scope="session")
def native() -> Native:
    return Native()
