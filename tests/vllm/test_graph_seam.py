"""The seam through torch.compile: launches as in the other seam, vLLM's cache, settings that are respected."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.vllm.drive import environment
from tests.vllm.test_engine import assert_launched
from tests.vllm.test_engine import requests
from tests.vllm.test_engine import wanted


@pytest.mark.parametrize("stock", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_launches_and_a_second_start_from_the_cache(engine, made, stock):
    folder, model = made("qwen3")
    asked = requests(lengths=[(3, 0), (41, 0), (7, 2)], count=24)
    options = {"additional_config": {"onelaunch": {"seam": "graph", "stock": stock}}}
    found = engine(folder, asked, **options)
    assert found["tokens"] == wanted(model, asked)
    assert_launched(found)
    assert "saved AOT compiled function" in found["log"]
    again = engine(folder, asked, **options)
    assert "Directly load AOT compilation" in again["log"]
    assert again["tokens"] == found["tokens"]
    assert_launched(again)


def test_a_corrupted_slot_is_seen(engine, made, monkeypatch):
    """The positive control: what a launch reads is what vLLM keeps. And: layers' names as constants in the graph."""
    monkeypatch.setenv("VLLM_USE_LAYERNAME", "0")
    folder, model = made("qwen3")
    asked = requests(lengths=[(20, 0)], count=24)
    options = {"additional_config": {"onelaunch": {"seam": "graph", "stock": "eager"}}}
    found = engine(folder, asked, corrupt=4, enable_prefix_caching=False, **options)
    assert_launched(found)
    assert found["tokens"] != wanted(model, asked)


def test_what_is_refused_runs_as_stock(engine, made):
    """An option that the compiler does not know: said once, and decode steps are vLLM's too."""
    folder, model = made("qwen3")
    asked = requests(lengths=[(3, 0), (9, 0)], count=8)
    found = engine(folder, asked, additional_config={"onelaunch": {"seam": "graph", "stock": "eager", "unheard": 1}})
    assert found["tokens"] == wanted(model, asked)
    assert found["launches"] == 0
    assert len(found["refusals"]) == 1
    assert "unheard" in found["refusals"][0]


def test_torchs_own_mode(engine, made):
    """Dynamo keeps its guards, and traces again until sizes vary: what it traces with fixed sizes is stock."""
    folder, model = made("qwen3")
    asked = requests(lengths=[(3, 0), (9, 0)], count=8)
    found = engine(
        folder, asked, runner="1", compilation_config={"backend": "onelaunch", "mode": 1},
        additional_config={"onelaunch": {"seam": "graph", "stock": "eager"}},
    )  # fmt: skip
    assert found["tokens"] == wanted(model, asked)
    assert 0 < found["launches"] <= found["decode"]
    assert all(reason == "a graph whose number of tokens is fixed" for reason in found["refusals"])


CONFIGURE = """
import json, sys, types
from vllm.config import CompilationConfig, CompilationMode
from onelaunch.integrations.vllm import backend

def result(case):
    mode = case.pop("mode", None)
    eager, own = case.pop("enforce_eager", False), case.pop("own", {})
    made = CompilationConfig(backend="onelaunch", **case)
    made.mode = None if mode is None else CompilationMode(mode)
    model = types.SimpleNamespace(enforce_eager=eager)
    config = types.SimpleNamespace(compilation_config=made, model_config=model, additional_config={"onelaunch": own})
    try:
        backend.configure(config)
    except ValueError as error:
        return str(error)
    graphs = getattr(made.cudagraph_mode, "name", None)
    return [int(made.mode), made.backend.rpartition(".")[2], made.custom_ops, made.ir_enable_torch_wrap, graphs]

print(json.dumps([result(case) for case in json.load(sys.stdin)]))
"""


def test_what_the_user_set_stays(engine, tmp_path):
    ours = "of_current_config"
    accepted = "accepted: 2 (DYNAMO_TRACE_ONCE), 1 (STOCK_TORCH_COMPILE), or none set"
    cases = [
        ({}, [2, ours, ["none"], True, "FULL_DECODE_ONLY"]),
        (
            {"mode": 1, "custom_ops": ["all"], "ir_enable_torch_wrap": False, "cudagraph_mode": "NONE"},
            [1, ours, ["all"], False, "NONE"],
        ),
        ({"custom_ops": ["+rms_norm"]}, [2, ours, ["+rms_norm", "none"], True, "FULL_DECODE_ONLY"]),
        ({"mode": 0, "enforce_eager": True}, [0, "inductor", [], None, None]),
        ({"mode": 3}, f"compilation mode 3 (VLLM_COMPILE) with the seam graph of onelaunch; {accepted}"),
        ({"mode": 0}, f"compilation mode 0 (NONE) with the seam graph of onelaunch; {accepted}"),
        (
            {"own": {"stock": "quick"}},
            "additional_config['onelaunch']['stock'] is 'quick'; accepted: inductor, eager",
        ),
    ]
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURE], input=json.dumps([case for case, _ in cases]), env=environment(tmp_path),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [result for _, result in cases]
