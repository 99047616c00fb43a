"""The probes of ``onelaunch doctor``: each looks at one part of the machine, changes nothing, and never raises."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import onelaunch
from onelaunch.cli.driver import DriverError
from onelaunch.cli.driver import ask
from onelaunch.cli.driver import device_files
from onelaunch.cli.finding import Finding
from onelaunch.cli.finding import State
from onelaunch.errors import CompilerError

Probe = Callable[[], Finding]
NAMES = ("onelaunch", "mirage")  # of the backend
# What generated code gains from, by the kernel's names.
VECTORS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve",
)  # fmt: skip


def guarded(name: str, probe: Probe) -> Finding:
    """What the probe finds; where it fails itself, that is what was found."""
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 a broken machine breaks anything, and saying so is the purpose
        return Finding(name, State.BROKEN, f"{type(error).__name__}: {' '.join(str(error).split())}")


def itself() -> Finding:
    """The package, the interpreter, the system."""
    details = {
        "version": onelaunch.__version__, "python": platform.python_version(), "executable": sys.executable,
        "system": platform.system(), "machine": platform.machine(),
    }  # fmt: skip
    text = f"{onelaunch.__version__}, Python {details['python']}, {details['system']} {details['machine']}"
    if sys.platform != "linux":
        return Finding("onelaunch", State.BROKEN, f"{text}: only Linux is supported", details)
    return Finding("onelaunch", State.OK, text, details)


def torch() -> Finding:
    """torch, and the CUDA it was built for."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", State.BROKEN, f"cannot be imported ({error}): pip install torch")
    cuda = torch.version.cuda
    built = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    details = {"version": str(torch.__version__), "cuda": cuda, "threads": torch.get_num_threads()}
    return Finding("torch", State.OK, f"{torch.__version__}, {built}", details)


def package(name: str, extra: str) -> Finding:
    """A package that only some commands need; it is not imported."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = None
    if version is None or importlib.util.find_spec(name) is None:
        return Finding(name, State.ABSENT, f"not installed: pip install 'onelaunch[{extra}]'", {"version": None})
    return Finding(name, State.OK, version, {"version": version})


def driver() -> Finding:
    """NVIDIA's driver and every GPU that it sees."""
    try:
        found = ask()
    except DriverError as error:
        files = device_files()
        if files:
            return Finding("driver", State.BROKEN, f"{', '.join(files)} exist, but {error}", {"gpus": []})
        return Finding("driver", State.ABSENT, f"no NVIDIA driver: {error}", {"gpus": []})
    gpus = ", ".join(f"{g.name} ({g.memory / 2**30:.0f} GiB, {g.capability[0]}.{g.capability[1]})" for g in found.gpus)
    text = f"{found.version}, runs CUDA up to {found.cuda}; {gpus or 'no GPU'}"
    return Finding("driver", State.OK if found.gpus else State.ABSENT, text, found.as_json())


def has_gpu(driver: Finding) -> bool:
    """Whether torch may be asked: without a GPU, CUDA is left alone."""
    return bool(driver.details.get("gpus")) or bool(device_files())


def gpu(driver: Finding) -> Finding:
    """The GPUs that torch sees, and whether programs are made for them."""
    if not has_gpu(driver):
        return Finding("gpu", State.ABSENT, "no NVIDIA GPU", {"devices": []})
    import torch

    from onelaunch.targets.cuda import device

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        why = "it is built without CUDA" if torch.version.cuda is None else "CUDA cannot be initialised"
        if torch.version.cuda is not None and visible is not None:
            why = f"CUDA_VISIBLE_DEVICES={visible}"
        return Finding("gpu", State.BROKEN, f"torch {torch.__version__} sees no GPU: {why}", {"devices": []})
    devices = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        devices.append({
            "name": torch.cuda.get_device_name(index), "capability": [major, minor],
            "processors": device.processors(index), "reason": device.reason_against(index),
        })  # fmt: skip
    shown = "; ".join(
        f"cuda:{n} {d['name']}, {d['processors']} processors, " + (str(d["reason"] or "supported"))
        for n, d in enumerate(devices)
    )
    usable = any(d["reason"] is None for d in devices)
    return Finding("gpu", State.OK if usable else State.BROKEN, shown, {"devices": devices, "visible": visible})


def nvrtc() -> Finding:
    """cuda-core and NVRTC, with the trial's source really compiled; that needs no GPU."""
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return Finding("nvrtc", State.ABSENT, "cuda-core is not installed: pip install 'onelaunch[cuda]'")
    from onelaunch.cli.trial import program
    from onelaunch.targets.cuda import compiler
    from onelaunch.targets.cuda.architecture import TESTED
    from onelaunch.targets.cuda.emit import source

    try:
        version = compiler.version()
    except CompilerError as error:
        return Finding("nvrtc", State.ABSENT, str(error))
    details = {"version": version, "architecture": TESTED.name}
    try:
        code, _ = compiler.compile_source(source(program()))
    except CompilerError as error:
        return Finding("nvrtc", State.BROKEN, f"{version}: {error}", details)
    text = f"{version}; a tiny program compiles for {TESTED.name} ({len(code):,} bytes)"
    return Finding("nvrtc", State.OK, text, details)


def compiler() -> Finding:
    """The C++ compiler that the CPU target would take. Whether it compiles anything is for the target's trial."""
    from onelaunch.targets.cpu import compiler

    details = {"CXX": os.environ.get("CXX"), "path": None, "version": None}
    try:
        details["path"] = path = compiler.find()
        details["version"] = version = compiler.version(path)
    except CompilerError as error:
        return Finding("c++", State.BROKEN, str(error), details)
    return Finding("c++", State.OK, f"{path}: {version}", details)


def cpu() -> Finding:
    """Cores that programs get, and vector instructions that generated code uses."""
    from onelaunch.targets.cpu.features import cores
    from onelaunch.targets.cpu.features import features

    found = [name for name in VECTORS if name in features()]
    every = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    details = {"workers": cores(), "allowed": allowed, "logical": every, "vectors": found, "model": _cpu_name()}
    text = (
        f"{details['model']}: {cores()} workers by default, {allowed} of {every} logical CPUs allowed; "
        f"{' '.join(found) or 'no vector instructions known here'}"
    )
    return Finding("cpu", State.OK, text, details)


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def cache() -> Finding:
    """The disk cache as a compilation would find it: a file is really written, and removed."""
    from onelaunch.program.cache import LIMIT
    from onelaunch.program.cache import Cache
    from onelaunch.program.cache import examine

    folder, reason = examine()
    if folder is not None and reason is None:
        try:
            with tempfile.TemporaryFile(dir=folder) as stream:
                stream.write(bytes(4096))
        except OSError as error:
            reason = str(error)
    details: dict[str, object] = {"folder": None if folder is None else str(folder), "writable": reason is None}
    if folder is None or reason is not None:
        text = f"{folder or 'no folder'}: {reason}; programs are compiled again by every process"
        return Finding("cache", State.BROKEN, text, details)
    entries = Cache(folder).entries()
    size, mode = sum(size for _, size, _ in entries), folder.stat().st_mode & 0o777
    details |= {
        "entries": len(entries), "bytes": size, "limit": LIMIT, "free": shutil.disk_usage(folder).free,
        "mode": f"{mode:o}", "owner_only": mode & 0o077 == 0,
    }  # fmt: skip
    access = "its owner only" if mode & 0o077 == 0 else f"others may look into it (mode {mode:o})"
    text = f"{folder}: {len(entries)} entries, {size / 1e6:,.1f} MB of {LIMIT / 1e9:,.1f} GB; writable; {access}"
    return Finding("cache", State.OK, text, details)


def backends() -> Finding:
    """Whether torch finds the backend by its names, and who owns a name that is not ours."""
    import torch._dynamo

    points = metadata.entry_points(group="torch_dynamo_backends")
    listed = torch._dynamo.list_backends(exclude_tags=None)
    found = {}
    problems = []
    for name in NAMES:
        owners = [f"{p.value} of {p.dist.name if p.dist else 'an unknown package'}" for p in points if p.name == name]
        ours = name in listed and _is_ours(name)
        found[name] = {"listed": name in listed, "ours": ours, "entry_points": owners}
        if name not in listed:
            problems.append(f"torch does not list {name!r}: the package is not installed with its entry points")
        elif not ours:
            problems.append(f"{name!r} is not ours; it belongs to {', '.join(owners) or 'code that registered it'}")
    details = {"names": found}
    if problems:
        remedy = "torch.compile(f, backend=onelaunch.backend) works without a name"
        return Finding("backends", State.BROKEN, "; ".join([*problems, remedy]), details)
    return Finding("backends", State.OK, f"torch.compile finds {' and '.join(NAMES)}", details)


def _is_ours(name: str) -> bool:
    """What torch would really call by this name."""
    from torch._dynamo.backends.registry import lookup_backend

    from onelaunch.frontend.backend import backend

    try:
        return lookup_backend(name) is backend
    except Exception:  # noqa: BLE001 somebody else's entry point, which may be broken in any way
        return False
