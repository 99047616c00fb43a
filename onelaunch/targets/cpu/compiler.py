"""The system's C++ compiler: found once, asked for its version once, run in parallel on independent sources."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from onelaunch.errors import CompilerError
from onelaunch.targets.cpu.features import features

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
RUNTIME = HERE / "runtime.cpp"
NAMES = ("c++", "g++", "clang++")
FLAGS = (
    "-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fopenmp-simd", "-fno-math-errno",
    "-fno-trapping-math", "-ffp-contract=off", "-w",
)  # fmt: skip
TIMEOUT = 600  # seconds for one source


@functools.cache
def find() -> str:
    """The compiler: $CXX, or the first of c++, g++, clang++. Raises CompilerError where there is none."""
    wanted = os.environ.get("CXX")
    if wanted:
        path = shutil.which(wanted)
        if path is None:
            raise CompilerError(f"CXX={wanted} is not an executable; set CXX to a C++17 compiler or unset it")
        return path
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise CompilerError(
        f"no C++ compiler on PATH (looked for {', '.join(NAMES)}): install g++ or clang++, set CXX, "
        "or use target='reference'"
    )


@functools.cache
def version(compiler: str) -> str:
    """The first line of ``compiler --version``."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerError(f"{compiler} --version failed ({error}); set CXX to a C++17 compiler") from error
    return done.stdout.splitlines()[0] if done.stdout else "unknown"


@functools.cache
def library_hash() -> str:
    """A hash of the headers and the runtime's source."""
    digest = hashlib.sha256()
    for path in (*sorted(INCLUDE.rglob("*.h")), RUNTIME):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def fingerprint() -> str:
    """Everything besides a source that its binary depends on."""
    compiler = find()
    parts = [version(compiler), " ".join(FLAGS), library_hash(), " ".join(sorted(features()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def compile_all(sources: Sequence[str | Path], folder: Path) -> list[Path]:
    """Compiles each source (text, or a file) to a shared library in ``folder``, at once where there is more than one
    core; what is there already is not compiled again. Each library has a file beside it that names the CPU features
    it was built with.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(len(sources), os.cpu_count() or 1) or 1) as pool:
        return list(pool.map(lambda source: compile_one(source, folder), sources))


def compile_one(source: str | Path, folder: Path) -> Path:
    """The library of one source; see ``compile_all``."""
    text = source.read_text() if isinstance(source, Path) else source
    name = hashlib.sha256(f"{fingerprint()}\n{text}".encode()).hexdigest()[:32]
    target = folder / f"{name}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temporary:
        work = Path(temporary)
        built = _run(text, work)
        (work / "features.json").write_text(json.dumps(sorted(features())))
        # The list first: a library without its list is never loaded.
        (work / "features.json").replace(target.with_suffix(".json"))
        built.replace(target)
    with contextlib.suppress(OSError):
        (folder / f"{name}.cpp").write_text(text)  # for people
    return target


def _run(text: str, work: Path) -> Path:
    compiler = find()
    (work / "source.cpp").write_text(text)
    built = work / "library.so"
    command = [compiler, *FLAGS, f"-I{INCLUDE}", f"-I{HERE}", str(work / "source.cpp"), "-o", str(built)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"{compiler} took more than {TIMEOUT} s; use target='reference' instead") from error
    except OSError as error:
        raise CompilerError(f"{compiler} cannot be run ({error}); set CXX, or use target='reference'") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise CompilerError(
            f"{compiler} refused generated code ({lines[0] if lines else f'status {done.returncode}'}); "
            "this is a bug of onelaunch or of the compiler: target='reference' does without"
        )
    return built
