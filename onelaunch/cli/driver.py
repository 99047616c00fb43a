"""What NVIDIA's driver says of itself and its GPUs, through NVML, which initialises no CUDA."""

from __future__ import annotations

import ctypes
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
DEVICES = Path("/dev")
_UINT, _INT = ctypes.c_uint, ctypes.c_int


class DriverError(Exception):
    """NVML is not there, or it refused a question."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver lists it, before CUDA_VISIBLE_DEVICES."""

    name: str
    capability: tuple[int, int]
    memory: int  # bytes


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver's own version and the newest CUDA that it runs."""

    version: str
    cuda: str
    gpus: tuple[Gpu, ...]

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        return asdict(self)


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def ask(name: str = LIBRARY) -> Driver:
    """Ask NVML. Raises DriverError where it cannot be loaded or refuses."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise DriverError(f"{name} cannot be loaded ({error})") from error
    try:
        return _ask(library)
    except AttributeError as error:  # another library of that name, or a very old one
        raise DriverError(f"{name} is not NVML as it has been since 2020: {error}") from error


def device_files(folder: Path = DEVICES) -> list[str]:
    """GPUs as device files: the kernel's module is loaded even if NVML is not installed."""
    return sorted(str(file) for file in folder.glob("nvidia[0-9]*"))


def _ask(library: ctypes.CDLL) -> Driver:
    def call(function: str, *arguments: object) -> None:
        status = getattr(library, function)(*arguments)
        if status != 0:
            library.nvmlErrorString.restype = ctypes.c_char_p
            raise DriverError(f"{function}: {library.nvmlErrorString(status).decode()}")

    call("nvmlInit_v2")
    try:
        text = ctypes.create_string_buffer(96)
        call("nvmlSystemGetDriverVersion", text, _UINT(96))
        version = text.value.decode()
        number = _INT()
        call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(number))
        count = _UINT()
        call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        gpus = []
        for index in range(count.value):
            handle, major, minor, memory = ctypes.c_void_p(), _INT(), _INT(), _Memory()
            call("nvmlDeviceGetHandleByIndex_v2", _UINT(index), ctypes.byref(handle))
            call("nvmlDeviceGetName", handle, text, _UINT(96))
            call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
            call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
            gpus.append(Gpu(text.value.decode(), (major.value, minor.value), memory.total))
        return Driver(version, f"{number.value // 1000}.{number.value % 1000 // 10}", tuple(gpus))
    finally:
        library.nvmlShutdown()
