"""The CUDA target: generated CUDA C++, compiled by NVRTC, run as one cooperative launch, or as one launch an op."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onelaunch.errors import CompilerError
from onelaunch.errors import OptionError
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program
from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda import device
from onelaunch.targets.cuda.emit import Source
from onelaunch.targets.cuda.emit import generate
from onelaunch.targets.cuda.executable import CudaExecutable
from onelaunch.targets.cuda.loaded import Loaded
from onelaunch.targets.cuda.loaded_ops import LoadedOps
from onelaunch.targets.cuda.ops import generate as generate_ops

MOST_WORKERS = 1024


class CudaTarget:
    """See ``onelaunch.targets.base.Target``. ``launch``: "one", or "graph" for one launch an op."""

    name = "cuda"

    def __init__(self, launch: str = "one") -> None:
        self.launch = launch

    def machine(self, workers: int | None = None) -> Machine:
        """The current GPU (without one: the tested card) with ``workers`` blocks, by default one a multiprocessor."""
        if workers is not None and not 1 <= workers <= MOST_WORKERS:
            raise OptionError(
                f"workers={workers} is not accepted: give 1 to {MOST_WORKERS}, or None for one a processor"
            )
        architecture = device.architecture_of()
        if workers is None:
            workers = device.processors() if device.reason_against() is None else architecture.processors
        return architecture.machine(workers)

    def fingerprint(self) -> str:
        """Architecture, compiler and its version, headers."""
        return compiler.fingerprint(device.architecture_of().name)

    def build(self, program: Program, folder: Path) -> CudaExecutable:
        """Generate, compile and load; a binary found in ``folder`` is reused if it is of the same source.

        Raises CompilerError where no GPU can run the program, or NVRTC is absent.
        """
        source, architecture = self._generate(program)
        return self._load(program, source, compiler.build(source.text(), folder, architecture))

    def begin(self, program: Program) -> Callable[[Path], CudaExecutable]:
        """As ``build``, but NVRTC compiles in a thread of its own, also for several programs at once."""
        source, architecture = self._generate(program)
        text = source.text()
        begun = compiler.begin(text, architecture)
        return lambda folder: self._load(program, source, compiler.build(text, folder, architecture, begun))

    def _generate(self, program: Program) -> tuple[Source, str]:
        """The source, and the architecture that it is for."""
        if (reason := device.reason_against()) is not None:
            raise CompilerError(f"target 'cuda' is not available: {reason}; use target='cpu'")
        architecture = device.architecture_of()
        return (generate_ops if self.launch == "graph" else generate)(program, architecture), architecture.name

    def _load(self, program: Program, source: Source, cubin: bytes) -> CudaExecutable:
        return CudaExecutable(program, source, cubin, LoadedOps if self.launch == "graph" else Loaded)
