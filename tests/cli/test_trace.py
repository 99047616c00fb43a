"""``onelaunch trace``: on a saved program and on a model, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch

import onelaunch
from onelaunch.cli import trace
from onelaunch.errors import UserError
from tests.cli.test_refusals import refused
from tests.program.programs import two_ops


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onelaunch.save(two_ops(), tmp_path / "program.txt")
    return tmp_path / "program.txt"


def test_a_saved_program(command, file, tmp_path):
    outcome = command("trace", "--program", file, "--target", "cpu", "--steps", "3", "--out", tmp_path / "step.svg")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["op", "kind", "runs", "total", "us", "waiting", "us", "wall", "us", "bytes", "GB/s"]
    runs = {line[:14].strip(): int(line[14:].split()[0]) for line in lines[1:5]}
    assert runs == {"rows add": 2, "linear up_proj": 2, "rows counter": 1, "all": 5}
    assert "critical path: " in outcome.out and "of 3 recorded" in outcome.out
    written = json.loads((tmp_path / "step.json").read_text())
    tasks = [e for e in written["traceEvents"] if e["ph"] == "X" and e["pid"] == 0 and e["cat"] != "wait"]
    assert sorted(e["args"]["task"] for e in tasks) == [0, 1, 2, 3, 4]
    assert ET.parse(tmp_path / "step.svg").getroot().tag.endswith("svg")
    assert str(tmp_path / "step.json") in outcome.out and str(tmp_path / "step.svg") in outcome.out


def test_a_model(command, tiny_folder, tmp_path):
    options = ["--model", tiny_folder, "--target", "cpu", "--steps", "4", "--out", tmp_path / "step", "--json"]
    said = command("trace", "hello", "--raw", *options).json
    assert len(said["launches_us"]) == 4 and sorted(said["launches_us"])[1] == said["launch_us"]
    assert said["launches_us"][said["shown"]] == said["launch_us"]
    path = said["critical_path"]
    assert path["run_us"] + path["gap_us"] == pytest.approx(said["launch_us"])
    assert path["tasks"] == len(path["steps"]) and path["steps"][0]["after"] == "launch"
    assert any(op["kind"] == "linear" and op["weight_bytes"] > 0 for op in said["ops"])
    assert said["total"]["weights"] > 100_000
    written = json.loads((tmp_path / "step.json").read_text())
    tasks = [e for e in written["traceEvents"] if e["ph"] == "X" and e["pid"] == 0 and e["cat"] != "wait"]
    assert len(tasks) == sum(op["runs"] for op in said["ops"])
    assert {e["tid"] for e in tasks} == set(range(said["workers"]))


def test_what_is_refused(command, file, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(command("trace", "--steps", "0"), "steps 0", "from 1 up")
    refused(command("trace", "--target", "tpu"), "'tpu'", "cuda")
    refused(command("trace", "x", "--prompt", "y"), "one of PROMPT, --prompt and --batch")
    refused(command("trace", ""), "the prompt is empty")
    refused(command("trace", "x", "--program", file), "--program takes no model and no prompt")
    refused(command("trace", "x", "--target", "cuda"), "--target cuda is not available: torch finds no CUDA GPU")
    refused(command("trace", "--program", tmp_path / "none"), str(tmp_path / "none"), "No such file")
    refused(command("trace", "--program", file, "--target", "reference"), "records no times", "cpu, cuda")
    refused(command("trace", "--program", file, "--out", tmp_path / "absent" / "x"), str(tmp_path / "absent"), "folder")
    refused(command("trace", "x", "--model", "/nonexistent/model"), "/nonexistent/model", "accepted: a .gguf file")
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(UserError, match=r"cannot be written to .*taken.json: Is a directory"):
        trace._write(tmp_path / "taken.json", "{}")
