"""The command on a GPU: models are loaded where the target reads them."""

from __future__ import annotations

import json

import pytest
import torch

from onelaunch.runtime import targets
from tests.cli.conftest import command  # noqa: F401
from tests.cli.conftest import shared_cache  # noqa: F401
from tests.models.conftest import tiny_folder  # noqa: F401

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]


@pytest.mark.parametrize("target", ["cuda", "auto"])
def test_generate(command, tiny_folder, target):  # noqa: F811
    options = ["--raw", "--max-new-tokens", "8", "--target", target, "--compare", "--json"]
    outcome = command("generate", "hello there", "--model", tiny_folder, *options)
    said = outcome.json
    assert said["launches_per_token"] == 1 and said["programs"]["fallbacks"] == []
    assert said["compare"]["equal_given_same_tokens"] == said["tokens"] == 8
    assert torch.cuda.get_device_name() in outcome.err
    assert said["compile_seconds"]["cached"] > 0


def test_trace(command, tiny_folder, tmp_path):  # noqa: F811
    options = ["--model", tiny_folder, "--target", "cuda", "--steps", "3", "--out", tmp_path / "step", "--json"]
    said = command("trace", "hello", "--raw", *options).json
    assert said["machine"] == "cuda-sm90a" and said["workers"] == targets.select("cuda").machine().workers
    assert len(said["launches_us"]) == 3 and said["critical_path"]["steps"][0]["after"] == "launch"
    assert any(step["event"] for step in said["critical_path"]["steps"])
    tasks = [e for e in json.loads((tmp_path / "step.json").read_text())["traceEvents"] if e["ph"] == "X"]
    assert len([e for e in tasks if e["pid"] == 0 and e["cat"] != "wait"]) == sum(op["runs"] for op in said["ops"])


def test_doctor(command):  # noqa: F811
    said = command("doctor", "--json").json
    assert said["works"] and said["targets"]["cuda"]["works"], said["targets"]["cuda"]["reason"]
    assert said["auto"]["CUDA"] == "cuda"
    assert said["findings"]["gpu"]["devices"][0]["reason"] is None
