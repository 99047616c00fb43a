"""Tests with the real vLLM run in an environment that has it (`make test`); where it is missing they are skipped."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vllm import tiny
from tests.vllm.drive import environment

DRIVER = Path(__file__).parent / "drive.py"


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("vllm") is None:
        skip = pytest.mark.skip(reason="vLLM is not installed; `make test` runs these where it is")
        for item in items:
            if Path(__file__).parent in item.path.parents and "engine" in item.fixturenames:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Models by name: the folder, and the model as transformers has it."""
    found = {}

    def get(name: str):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            found[name] = (folder, getattr(tiny, name)(folder))
        return found[name]

    return get


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """Runs a scenario (see drive.py) in a fresh process; programs are cached for the session."""
    folder = tmp_path_factory.mktemp("caches")

    def run(model: Path, requests: list[dict], *, runner: str = "0", corrupt: int | None = None, sizes=(), **options):
        settings = {
            "model": str(model), "dtype": "float32", "max_model_len": 256, "block_size": 16, "max_num_seqs": 4,
            "compilation_config": {"backend": "onelaunch"}, **options,
        }  # fmt: skip
        scenario = {"engine": settings, "requests": requests, "corrupt": corrupt, "sizes": list(sizes)}
        done = subprocess.run(
            [sys.executable, DRIVER], input=json.dumps(scenario), env=environment(folder, runner),
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-6000:]
        return {**json.loads(done.stdout.strip().splitlines()[-1]), "log": done.stdout + done.stderr}

    return run
