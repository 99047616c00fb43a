"""Which target is chosen, and what is said about it."""

from __future__ import annotations

import logging

import pytest

from onelaunch.errors import CompilerError
from onelaunch.errors import OptionError
from onelaunch.runtime import targets


@pytest.fixture(autouse=True)
def forget():
    targets.select.cache_clear()
    yield
    targets.select.cache_clear()


def no_compiler():
    raise CompilerError("no C++ compiler on PATH")


def test_by_name():
    assert targets.select("reference").name == "reference"
    with pytest.raises(OptionError, match="unknown target 'gpu'; accepted: auto, cpu, cuda, reference"):
        targets.select("gpu")


@pytest.mark.parametrize("name", ["auto", "cpu", "reference"])
def test_launches_of_single_ops_are_for_gpus(name):
    with pytest.raises(OptionError, match=f"'launch' is 'graph' with target '{name}'; accepted: 'one', because only"):
        targets.select(name, "graph")


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(targets, "_cpu", no_compiler)
    with caplog.at_level(logging.WARNING):
        assert targets.select("auto").name == "reference"
        assert targets.select("auto").name == "reference"
    assert caplog.messages == ["programs run on the slow reference target: no C++ compiler on PATH"]
    with pytest.raises(CompilerError, match="compiler on PATH"):
        targets.select("cpu")
