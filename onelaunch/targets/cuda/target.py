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
from onelaunch.targets.cuda.image import Image
from onelaunch.targets.cuda.image import image_of
from onelaunch.targets.cuda.image import read_image
from onelaunch.targets.cuda.loaded import Loaded
from onelaunch.targets.cuda.loaded_ops import LoadedOps
from onelaunch.targets.cuda.ops import OpSource
from onelaunch.targets.cuda.ops import generate as generate_ops
from onelaunch.targets.cuda.ops import tables_of
from onelaunch.targets.cuda.records import Tables

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
        return self._finish(program, source, compiler.build(source.text(), folder, architecture))

    def begin(self, program: Program) -> Callable[[Path], CudaExecutable]:
        """As ``build``, but NVRTC compiles in a thread of its own, also for several programs at once; and the folder is
        one that ``load`` takes.
        """
        source, architecture = self._generate(program)
        text = source.text()
        begun = compiler.begin(text, architecture)

        def finish(folder: Path) -> CudaExecutable:
            cubin = compiler.build(text, folder, architecture, begun)
            return self._finish(program, source, cubin, folder)

        return finish

    def load(self, program: Program, folder: Path) -> CudaExecutable:
        """See ``onelaunch.targets.base.Target``. Raises OSError or ValueError where the folder does not hold it."""
        if self.launch == "graph":  # which op runs where is read off the tasks
            return self.build(program, folder)
        self._refuse_without_gpu()
        return self._of_image(program, read_image(folder), compiler.binary_in(folder))

    def _refuse_without_gpu(self) -> None:
        if (reason := device.reason_against()) is not None:
            raise CompilerError(f"target 'cuda' is not available: {reason}; use target='cpu'")

    def _generate(self, program: Program) -> tuple[Source, str]:
        """The source, and the architecture that it is for."""
        self._refuse_without_gpu()
        architecture = device.architecture_of()
        return (generate_ops if self.launch == "graph" else generate)(program, architecture), architecture.name

    def _finish(self, program: Program, source: Source, cubin: bytes, folder: Path | None = None) -> CudaExecutable:
        """``folder``: where the image goes, too."""
        if isinstance(source, OpSource):
            image = image_of(source, tables_of(program, source))
            return CudaExecutable(program, lambda index: LoadedOps(program, source, image, cubin, index))
        image = image_of(source, Tables(program, source.shape, source.flow))
        if folder is not None:
            image.write(folder)
        return self._of_image(program, image, cubin)

    def _of_image(self, program: Program, image: Image, cubin: bytes) -> CudaExecutable:
        return CudaExecutable(program, lambda index: Loaded(program, image, cubin, index))
