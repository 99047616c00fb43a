"""Every kind of nest on the GPU: the tests that the CPU target's kernels have, run by the CUDA target."""

from __future__ import annotations

import functools
import inspect
import itertools

import pytest

from tests.cpu import codegen_run
from tests.cpu import test_codegen_attend
from tests.cpu import test_codegen_linear
from tests.cpu import test_codegen_nests
from tests.cuda import on_gpu

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]
# What only means something on a CPU.
LEFT_OUT = {"test_an_index_outside_the_table_is_an_error"}


def _cases():
    for module in (test_codegen_nests, test_codegen_linear, test_codegen_attend):
        for name, test in vars(module).items():
            if not name.startswith("test_") or name in LEFT_OUT or not inspect.isfunction(test):
                continue
            for values in _parameters(test):
                label = "-".join(map(str, values.values()))
                yield pytest.param(functools.partial(test, **values), id=f"{name}-{label}")


def _parameters(test):
    """Every combination that the test's marks ask for."""
    axes = []
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            names, rows = mark.args
            names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
            axes.append([dict(zip(names, row if len(names) > 1 else [row], strict=True)) for row in rows])
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*axes)]


@pytest.mark.parametrize("case", list(_cases()))
def test_as_on_the_cpu(case, monkeypatch):
    monkeypatch.setattr(codegen_run, "launch", on_gpu.launch)
    monkeypatch.setattr(test_codegen_linear, "LIMIT", 2e-6)  # tensor cores cut sums off where others round
    monkeypatch.setattr(codegen_run, "expect", lambda *_: None)  # which fast path is taken is the CPU target's matter
    case()
