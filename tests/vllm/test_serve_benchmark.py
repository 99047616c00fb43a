"""The benchmark of servers as a command, on a tiny model: what it measures, and that its verdict can be bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vllm.drive import environment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
REQUESTS = "--prompt 32 --tokens 8 --load 6 --rate 8 --burst 4 --rounds 1 --endurance 8"


def measure(folder: Path, *options: str):
    """Exit status, result and what was printed."""
    env = environment(folder) | {"OMP_NUM_THREADS": "1"}
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    output = folder / "result.json"
    model = ["--shape", "135m", "--layers", "1", "--dtype", "float32"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vllm_serve", *model, *REQUESTS.split(), "--keep", str(folder / "kept"),
         "--output", str(output), *options],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert output.exists(), done.stderr[-6000:]
    return done.returncode, json.loads(output.read_text()), done.stdout + done.stderr


def test_both_servers(engine, tmp_path):
    status, found, said = measure(tmp_path, "--parts", "load,burst,endurance", "--together", "1")
    assert status == 0, said
    parts = found["parts"]
    for part, count in (("load", 6), ("burst", 4), ("endurance", 8)):
        assert parts[part]["launches"]["onelaunch"]["sizes"][:1] == [1]
        for name in ("onelaunch", "stock"):
            assert (parts[part][name]["answered"], parts[part][name]["of"]) == (count, count)
    assert parts["burst"]["ratio"]["tokens_s"] > 0
    assert parts["burst"]["onelaunch"]["most"] == 4
    agreement = parts["endurance"]["agreement"]
    assert agreement["right"]
    assert agreement["equal"] + len(agreement["partings"]) == agreement["of"] == 8
    assert min(parts["endurance"]["stock"]["memory"]["host_mib"]) > 100
    assert "| burst, 4 at once, 1 times | tokens a second |" in said

    status, found, said = measure(tmp_path, "--parts", "startup", "--engines", "onelaunch", "--limit", "3")
    assert status == 1
    assert "ended at the limit of 3 s" in said
    assert found["parts"].keys() == parts.keys()  # nothing new; what was there stays
