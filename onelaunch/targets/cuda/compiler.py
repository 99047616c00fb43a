"""NVRTC, through NVIDIA's ``cuda-core``: found when it is first needed, never when onelaunch is imported."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onelaunch.errors import CompilerError
from onelaunch.targets.cuda.architecture import TESTED

INCLUDE = Path(__file__).parent / "include"
STANDARD = "c++17"
EVEN_REGISTERS = "ONELAUNCH_EVEN_REGISTERS"  # barrier.cuh
SOURCE, BINARY, ORIGIN = "program.cu", "program.cubin", "program.json"
_REMEDY = "install onelaunch[cuda], or use another target"


@functools.cache
def version() -> str:
    """Versions of cuda-core and NVRTC. Raises CompilerError where either cannot be loaded."""
    try:
        import cuda.core
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise CompilerError(f"target 'cuda' needs NVIDIA's Python packages ({error}): {_REMEDY}") from error
    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except (OSError, RuntimeError) as error:
        raise CompilerError(f"NVRTC cannot be loaded ({str(error).splitlines()[0]}): {_REMEDY}") from error
    if int(status) != 0:
        raise CompilerError(f"NVRTC does not tell its version (status {int(status)}): {_REMEDY}")
    return f"cuda-core {cuda.core.__version__}, NVRTC {major}.{minor}"


@functools.cache
def library_hash() -> str:
    """A hash of the headers."""
    digest = hashlib.sha256()
    for path in sorted(INCLUDE.rglob("*.cuh")):
        digest.update(f"{path.relative_to(INCLUDE)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(architecture: str = TESTED.name) -> str:
    """Everything besides a source that its binary depends on."""
    return f"{architecture} {STANDARD} {version()} {library_hash()}"


def begin(source: str, architecture: str = TESTED.name) -> Callable[[], bytes]:
    """Starts to compile ``source`` in a thread of its own; what is returned waits for it, and gives the cubin or raises
    what ``compile_source`` does.
    """
    thread = ThreadPoolExecutor(1, "onelaunch-nvrtc")
    made = thread.submit(compile_source, source, architecture)
    thread.shutdown(wait=False)
    return lambda: made.result()[0]


def build(
    source: str, folder: Path, architecture: str = TESTED.name, begun: Callable[[], bytes] | None = None
) -> bytes:
    """The cubin of ``source``; one found in ``folder`` is reused if it was made from the same source, the same way.
    ``begun``: what ``begin`` has returned for the same source.
    """
    origin = json.dumps({"source": hashlib.sha256(source.encode()).hexdigest(), "compiler": fingerprint(architecture)})
    binary, made_from = folder / BINARY, folder / ORIGIN
    if binary.is_file() and made_from.is_file() and made_from.read_text() == origin:
        return binary.read_bytes()
    code = begun() if begun is not None else compile_source(source, architecture)[0]
    (folder / SOURCE).write_text(source)
    binary.write_bytes(code)
    made_from.write_text(origin)
    return code


def binary_in(folder: Path) -> bytes:
    """The cubin that ``build`` has left in ``folder``. Raises OSError where there is none."""
    return (folder / BINARY).read_bytes()


def compile_source(source: str, architecture: str = TESTED.name) -> tuple[bytes, str]:
    """(cubin, what ptxas says of registers, stack and spills). Raises CompilerError with the first lines of the log."""
    version()
    try:
        return _compile(source, architecture, [])
    except CompilerError as error:
        # Rare: ptxas finds no allocation for warps of different register counts, and does for even ones.
        if "Register allocation failed" not in str(error):
            raise
    return _compile(source, architecture, [EVEN_REGISTERS])


def _compile(source: str, architecture: str, macros: list[str]) -> tuple[bytes, str]:
    from cuda.core import Program
    from cuda.core import ProgramOptions

    options = ProgramOptions(
        arch=architecture, std=STANDARD, include_path=str(INCLUDE), ptxas_options=["-v"], name="program",
        define_macro=macros or None,
    )  # fmt: skip
    with tempfile.TemporaryFile("w+") as log:
        try:
            code = Program(source, "c++", options).compile("cubin", logs=log).code
        except Exception as error:  # cuda-core's own errors have no public base
            log.seek(0)
            lines = [line for line in f"{log.read()}\n{error}".splitlines() if "error" in line or "fatal" in line]
            raise CompilerError(f"NVRTC refused the generated source: {'; '.join(lines[:3]) or error}") from error
        log.seek(0)
        return bytes(code), log.read()
