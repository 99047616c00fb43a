"""Which GPUs are accepted, and what is said of the others. torch is told what it sees; no GPU is needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from onelaunch.errors import CompilerError
from onelaunch.targets.cuda import architecture
from onelaunch.targets.cuda import device
from onelaunch.targets.cuda.emit import generate
from onelaunch.targets.cuda.target import CudaTarget
from tests import programs as P


@pytest.fixture
def sees(monkeypatch):
    def sees(capability: tuple[int, int], name: str = "A card", processors: int = 100) -> None:
        monkeypatch.delenv(device.ALLOWED, raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=None: name)
        monkeypatch.setattr(device, "processors", lambda index=None: processors)

    return sees


def test_the_tested_one(sees):
    sees((9, 0))
    assert device.reason_against() is None
    assert CudaTarget().machine() == dataclasses.replace(architecture.TESTED.machine(100), name="cuda-sm90a")


def test_an_untested_one_needs_the_option(sees, monkeypatch, tmp_path):
    sees((12, 0), "GeForce RTX 5090", 170)
    assert device.reason_against() == (
        "GeForce RTX 5090 has compute capability 12.0, for which programs compile but were never run; "
        "ONELAUNCH_UNTESTED_GPU=1 allows it"
    )
    with pytest.raises(CompilerError, match=r"'cuda' is not available: .*ONELAUNCH_UNTESTED_GPU=1 allows it"):
        CudaTarget().build(P.mlp(), tmp_path)
    monkeypatch.setenv("ONELAUNCH_UNTESTED_GPU", "1")
    assert device.reason_against() is None
    machine = CudaTarget().machine()
    assert (machine.name, machine.workers, machine.bandwidth) == ("cuda-sm120a", 170, pytest.approx(1792.0))


def test_others_are_refused_with_any_option(sees, monkeypatch):
    sees((8, 0), "NVIDIA A100")
    monkeypatch.setenv("ONELAUNCH_UNTESTED_GPU", "1")
    assert device.reason_against() == ("NVIDIA A100 has compute capability 8.0; programs are made for 9.0, 10.0, 12.0")


def test_kernels_that_need_more_than_an_architecture_has():
    small = dataclasses.replace(architecture.TESTED, shared=64 * 1024)
    with pytest.raises(CompilerError, match=r"bytes of shared memory for its kernels; sm_90a leaves"):
        generate(P.mlp(), small)


def test_a_smaller_memory_gives_a_shorter_ring():
    largest, smallest = (
        generate(P.mlp(), a).shape.stages for a in (architecture.TESTED, architecture.ARCHITECTURES[2])
    )
    assert smallest < largest


def test_the_table_in_the_documentation_is_this_one():
    page = (Path(__file__).parents[2] / "docs" / "gpus.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if "`sm_" in line and line.startswith("|")]
    assert rows == [
        [
            ".".join(map(str, a.capability)), f"`{a.name}`", a.card, f"{a.shared // 1024} KB",
            f"{a.bandwidth:,.0f} GB/s, {'measured' if a.tested else 'data sheet'}",
            "tested" if a.tested else "compiled as a check, never run",
        ]
        for a in architecture.ARCHITECTURES
    ]  # fmt: skip
