"""Running the command in this process, on a tiny model."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from onelaunch.cli import main
from tests.models.conftest import tiny_folder  # noqa: F401


@dataclass
class Outcome:
    """What the command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """What it printed, where it succeeded."""
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory) -> Path:
    """A disk cache for the whole session, so that the tiny model's step is compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(capfd, monkeypatch, shared_cache):
    """``command(*arguments, stdin="")`` runs it in this process, with the text on standard input."""
    monkeypatch.setenv("ONELAUNCH_CACHE", str(shared_cache))
    torch._dynamo.reset()

    def run(*arguments, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(status, captured.out, captured.err)

    yield run
    torch._dynamo.reset()
