"""``onelaunch doctor``: what it finds, its exit status, and that nothing broken on a machine breaks it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from onelaunch.cli import doctor
from onelaunch.cli import driver
from onelaunch.cli import probes
from onelaunch.cli import trial
from onelaunch.cli.driver import Driver
from onelaunch.cli.driver import DriverError
from onelaunch.cli.driver import Gpu
from onelaunch.cli.trial import Trial
from onelaunch.runtime import targets
from onelaunch.targets.cpu import compiler


@pytest.fixture(autouse=True)
def _forget():
    """What a process asks once is asked anew by each test."""

    def forget() -> None:
        for cached in (compiler.find, compiler.version, targets.select):
            cached.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def no_gpu():
    """No driver; and whoever asks CUDA anything fails the test."""

    def absent():
        raise DriverError("libnvidia-ml.so.1 cannot be loaded")

    def asked(*_):
        raise AssertionError("CUDA was asked although there is no GPU")

    with pytest.MonkeyPatch.context() as patch:  # of its own: tests of torch's compiler end with questions to CUDA
        patch.setattr(probes, "ask", absent)
        patch.setattr(probes, "device_files", list)
        for name in ("is_available", "init", "device_count", "get_device_capability", "current_device"):
            patch.setattr(torch.cuda, name, asked)
        yield


@pytest.fixture
def no_trials(monkeypatch):
    """Compiled targets work, without a compilation."""
    monkeypatch.setattr(trial, "attempt_apart", lambda name: Trial(None, 1.0, 10.0))


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_everything_on_this_machine(command):
    """Nothing is replaced here: the program is really compiled and run by a second process."""
    said = command("doctor", "--json").json
    assert said["works"] and said["targets"]["cpu"]["works"] and said["targets"]["reference"]["works"]
    assert said["targets"]["cpu"]["build_seconds"] > 0
    assert said["auto"]["CPU"] == "cpu"
    found = said["findings"]
    assert found["torch"]["version"] == torch.__version__
    assert Path(found["c++"]["path"]).is_file() and found["c++"]["version"]
    assert 1 <= found["cpu"]["workers"] <= found["cpu"]["logical"]
    assert found["cache"]["writable"] and found["cache"]["owner_only"]
    assert found["backends"]["names"]["mirage"]["ours"], found["backends"]["text"]
    assert {f["state"] for f in found.values()} <= {"ok", "absent", "broken"}


def test_without_a_gpu(command, no_gpu, no_trials):
    outcome = command("doctor")
    assert outcome.status == 0, outcome.err
    lines = {line[8:].split("  ")[0].strip(): line for line in outcome.out.splitlines()}
    assert lines["gpu"].startswith("absent") and "no NVIDIA GPU" in lines["gpu"]
    assert lines["target cuda"].startswith("absent")
    assert lines["driver"].startswith("absent") and "libnvidia-ml.so.1" in lines["driver"]
    assert "CUDA tensors" not in outcome.out


def test_without_a_compiler(command, monkeypatch, tmp_path, no_gpu):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = command("doctor", "--json")
    assert outcome.status == 1 and outcome.err == ""
    said = json.loads(outcome.out)
    assert not said["works"] and "no C++ compiler on PATH" in said["targets"]["cpu"]["reason"]
    assert said["targets"]["reference"]["works"] and said["auto"] == {"CPU": "reference"}
    assert "no compiled target works; reference is left" in command("doctor").out


def test_with_a_compiler_that_is_not_there(command, monkeypatch, no_gpu):
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    outcome = command("doctor")
    assert outcome.status == 1
    assert "broken  target cpu" in outcome.out and "CXX=/nonexistent/c++ is not an executable" in outcome.out


def test_with_a_compiler_that_tells_no_version(command, monkeypatch, tmp_path, no_gpu):
    broken = script(tmp_path / "cxx", "exit 3")
    monkeypatch.setenv("CXX", str(broken))
    outcome = command("doctor")
    assert outcome.status == 1 and f"{broken} --version failed" in outcome.out


def test_with_a_compiler_that_refuses_everything(command, monkeypatch, tmp_path, no_gpu):
    refusing = script(tmp_path / "cxx", '[ "$1" = --version ] && echo "cxx 1.0" && exit\necho "error: no" >&2; exit 1')
    monkeypatch.setenv("CXX", str(refusing))
    monkeypatch.setattr(trial, "attempt_apart", trial.attempt)
    outcome = command("doctor", "--json")
    assert outcome.status == 1
    said = json.loads(outcome.out)
    assert said["findings"]["c++"]["state"] == "ok" and said["findings"]["c++"]["version"] == "cxx 1.0"
    assert str(refusing) in said["targets"]["cpu"]["reason"] and "error: no" in said["targets"]["cpu"]["reason"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kill -SEGV $$", "ended by SIGSEGV"),
        ("echo 'no such module' >&2; exit 7", "failed with status 7: no such module"),
        ("exit 0", "failed with status 0: no output"),
        ("sleep 60", "not done after 0.2 s"),
    ],
)
def test_a_trial_that_takes_its_process_along(monkeypatch, tmp_path, text, words):
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "python", f"exec /bin/sh -c '{text}'"
                                                      if "'" not in text else text)))  # fmt: skip
    monkeypatch.setattr(trial, "TIMEOUT", 0.2 if "sleep" in text else 60)
    assert words in trial.attempt_apart("cpu").reason


def test_a_wrong_result_is_no_success(monkeypatch):
    wrong = trial.TEXT.replace("%x[i, j] + 1.0", "%x[i, j] + 2.0")
    monkeypatch.setattr(trial, "TEXT", wrong)
    assert "is right" in trial.attempt("reference").reason


def test_unusable_caches(command, monkeypatch, tmp_path, no_gpu, no_trials):
    def cache(folder: Path) -> tuple[str, str, bool]:
        monkeypatch.setenv("ONELAUNCH_CACHE", str(folder))
        outcome = command("doctor", "--json")
        assert outcome.status == 0, "a cache is not needed to run"
        found = json.loads(outcome.out)["findings"]["cache"]
        return found["state"], found["text"], found["writable"]

    (tmp_path / "file").write_text("")
    state, text, writable = cache(tmp_path / "file")
    assert (state, writable) == ("broken", False) and str(tmp_path / "file") in text
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    state, text, writable = cache(shared)
    assert (state, writable) == ("broken", False) and str(shared) in text and "mode 777" in text
    shared.chmod(0o755)
    state, text, writable = cache(shared)
    assert (state, writable) == ("ok", True) and "others may look into it (mode 755)" in text


def test_a_cache_on_a_full_disk(monkeypatch, tmp_path):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("ONELAUNCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probes.tempfile, "TemporaryFile", full)
    found = probes.cache()
    assert found.state == "broken" and "No space left on device" in found.text


def test_a_gpu_that_torch_cannot_use(command, monkeypatch, no_trials):
    gpu = Gpu("NVIDIA H200", (9, 0), 141 << 30)
    monkeypatch.setattr(probes, "ask", lambda: Driver("580.1", "13.0", (gpu,)))
    monkeypatch.setattr(trial, "attempt_apart", lambda name: Trial("no" if name == "cuda" else None, 1.0, 1.0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    said = command("doctor", "--json").json
    assert said["findings"]["driver"]["gpus"] == [{"name": "NVIDIA H200", "capability": [9, 0], "memory": 141 << 30}]
    assert "580.1, runs CUDA up to 13.0; NVIDIA H200 (141 GiB, 9.0)" in said["findings"]["driver"]["text"]
    assert said["findings"]["gpu"]["state"] == "broken" and "built without CUDA" in said["findings"]["gpu"]["text"]
    assert said["auto"]["CUDA"].startswith("torch, not compiled (torch finds no CUDA GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    said = command("doctor", "--json").json
    assert "CUDA_VISIBLE_DEVICES=-1" in said["findings"]["gpu"]["text"]


class Nvml:
    """NVML with one GPU. ``refuses``: the function that fails."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.open = refuses, 0
        self.nvmlErrorString = lambda status: b"Driver/library version mismatch"

    def __getattr__(self, name):
        def function(*arguments):
            if name == self.refuses:
                return 18
            self.open += {"nvmlInit_v2": 1, "nvmlShutdown": -1}.get(name, 0)
            texts = {"nvmlSystemGetDriverVersion": b"580.95.05", "nvmlDeviceGetName": b"NVIDIA H200"}
            numbers = {"nvmlSystemGetCudaDriverVersion_v2": [13010], "nvmlDeviceGetCount_v2": [1],
                       "nvmlDeviceGetCudaComputeCapability": [9, 0]}  # fmt: skip
            if name in texts:
                next(a for a in arguments if isinstance(a, ctypes.Array)).value = texts[name]
            references = [a._obj for a in arguments if hasattr(a, "_obj")]
            for place, value in zip(references, numbers.get(name, []), strict=False):
                place.value = value
            if name == "nvmlDeviceGetMemoryInfo":
                references[0].total = 1 << 37
            return 0

        return function


def test_what_the_driver_says(monkeypatch):
    library = Nvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert driver.ask() == Driver("580.95.05", "13.1", (Gpu("NVIDIA H200", (9, 0), 1 << 37),))
    assert library.open == 0


def test_a_driver_that_refuses(monkeypatch, tmp_path):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml("nvmlInit_v2"))
    monkeypatch.setattr(probes, "device_files", lambda: driver.device_files(tmp_path))
    assert probes.driver().state == "absent"
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    found = probes.driver()
    assert found.state == "broken" and "nvmlInit_v2: Driver/library version mismatch" in found.text
    assert str(tmp_path / "nvidia0") in found.text and "nvidiactl" not in found.text


def test_a_name_that_belongs_to_somebody_else(monkeypatch):
    from torch._dynamo.backends import registry

    def other(gm, inputs):
        return gm

    other._tags = ()
    monkeypatch.setitem(registry._COMPILER_FNS, "mirage", other)
    foreign = metadata.EntryPoint("mirage", "elsewhere.compiler:run", "torch_dynamo_backends")
    monkeypatch.setattr(probes.metadata, "entry_points", lambda group: [foreign])
    found = probes.backends()
    assert found.state == "broken" and "'mirage' is not ours; it belongs to elsewhere.compiler:run" in found.text
    assert found.details["names"]["onelaunch"]["ours"] and not found.details["names"]["mirage"]["ours"]


def test_a_probe_that_fails_is_a_finding():
    def fails():
        raise RuntimeError("no\nsuch thing")

    found = probes.guarded("part", fails)
    assert (found.name, found.state, found.text) == ("part", "broken", "RuntimeError: no such thing")


def test_without_any_extra(command, monkeypatch, no_gpu, no_trials):
    real = importlib.util.find_spec

    def find_spec(name, *rest):
        return None if name.split(".")[0] in ("rich", "transformers", "cuda") else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    outcome = command("doctor")
    assert outcome.status == 0
    for extra in ("models", "cli", "cuda"):
        assert f"pip install 'onelaunch[{extra}]'" in outcome.out


def test_without_torch():
    """A process in which torch cannot be imported: still a table, no traceback."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from onelaunch.cli import trial; trial.attempt_apart = lambda name: trial.attempt(name)\n"
        "from onelaunch.cli import main; sys.exit(main(['doctor', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    said = json.loads(done.stdout)
    assert said["findings"]["torch"]["state"] == "broken" and "pip install torch" in said["findings"]["torch"]["text"]
    assert not any(t["works"] for t in said["targets"].values())


def test_a_table_at_a_terminal(capsys, monkeypatch, no_gpu, no_trials):
    found = doctor.diagnose()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    doctor.show(found)
    table = capsys.readouterr().out
    assert "✓" in table and "–" in table and "target reference" in table
