"""The parts of the benchmarks that a wrong table would come from: turns, verdicts, overhead, tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import result
from benchmarks import tables
from benchmarks.overhead import measure_overhead
from benchmarks.overhead import nothing
from benchmarks.rounds import Timing
from benchmarks.rounds import run_rounds
from benchmarks.torch_peers import TorchPeer
from benchmarks.verdict import judge
from tests.models.tiny import tiny_model

CONTEXT = [[5, 6, 7, 8, 9, 10, 11, 12]]
FORCED = list(range(20, 52))


class Logged:
    """A peer that only writes down what is asked of it."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def rewind(self):
        self.log.append((self.name, "rewind"))

    def step(self):
        self.log.append((self.name, "step"))


def test_turns_rotate_and_warm_up_is_not_counted():
    log = []
    timings = run_rounds([Logged("a", log), Logged("b", log)], rounds=2, steps=3)
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 6, "b": 6}
    assert [name for name, what in log if what == "rewind"] == ["a", "b", "b", "a"]
    assert len([1 for _, what in log if what == "step"]) == 4 * (3 + 2)


def test_percentiles():
    timing = Timing(tuple(float(n) for n in range(1, 101)))
    assert (timing.median, timing.percentile(0.1), timing.percentile(0.9)) == (50.5, 11.0, 91.0)


@pytest.fixture(scope="module")
def logits():
    half = tiny_model(torch.bfloat16)
    exact = tiny_model(torch.bfloat16).float()
    return {
        "reference": TorchPeer("fp32", exact, CONTEXT, None).logits_along(FORCED),
        "eager": TorchPeer("eager", half, CONTEXT, None).logits_along(FORCED),
        "compiled": TorchPeer("compiled", half, CONTEXT, "eager").logits_along(FORCED),
    }


def test_logits_are_those_of_the_whole_sequence(logits):
    ids = torch.tensor([CONTEXT[0] + FORCED])
    with torch.no_grad():
        whole = tiny_model(torch.bfloat16).float()(ids).logits[0, len(CONTEXT[0]) :]
    torch.testing.assert_close(logits["reference"], whole, rtol=1e-4, atol=1e-4)


def test_a_right_peer_is_right(logits):
    verdict = judge(logits["compiled"], logits["reference"], logits["eager"])
    assert verdict.right
    assert 0 < verdict.error < 0.1
    assert judge(logits["eager"], logits["reference"], logits["eager"]).of_eager == 1


def test_a_wrong_weight_is_seen(logits):
    wrong = tiny_model(torch.bfloat16)
    with torch.no_grad():
        wrong.model.layers[1].mlp.up_proj.weight[3] *= -1
    assert not judge(
        TorchPeer("wrong", wrong, CONTEXT, None).logits_along(FORCED), logits["reference"], logits["eager"]
    ).right


def test_a_wrong_cache_slot_is_seen(logits):
    peer = TorchPeer("wrong", tiny_model(torch.bfloat16), CONTEXT, None)
    peer._state.cache.layers[0].values[0, :, 3] *= -1
    assert not judge(peer.logits_along(FORCED), logits["reference"], logits["eager"]).right


def test_rewinding_repeats(logits):
    peer = TorchPeer("eager", tiny_model(torch.bfloat16), CONTEXT, None)
    for _ in range(5):
        peer.step()
    assert torch.equal(peer.logits_along(FORCED), logits["eager"])


def test_overhead_of_doing_nothing_over_nothing_is_small():
    model = tiny_model()
    peers = [TorchPeer("nothing", model, CONTEXT, nothing) for _ in range(2)]
    overhead = measure_overhead(peers[0].step, peers[1].step, calls=30)
    assert 0 < overhead.of_nothing < 0.05
    assert abs(overhead.ours) < overhead.of_nothing


def stored(folder, right=True):
    row = result.Row("onelaunch", 1, 7.5, 7.4, 7.9, 180, 1.0, 0.004, 1.02, 0.984, right)
    host = {
        "machine": {"processor": "A CPU", "cores": 2, "features": [], "threads": 2, "system": "Linux"},
        "versions": {"python": "3.11"},
        "commit": "abc",
        "modified": False,
        "command": "python -m benchmarks.decode",
    }
    settings = {"model": "m", "dtype": "bfloat16", "context": 64}
    return result.save("sample", host, settings, [row], {"absent": {"llama.cpp": "not installed"}})


def test_documents_are_filled_from_results_and_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(result, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(tables, "FOLDER", tmp_path / "results")
    path = stored(tmp_path)
    document = tmp_path / "speed.md"
    document.write_text("before\n<!-- results: sample -->\n<!-- end of results -->\nafter\n")
    assert tables.main([str(document), "--check"]) == 1
    assert tables.main([str(document)]) == 0
    text = document.read_text()
    assert "| onelaunch | 1 | 7.50 | 7.40–7.90 | 1.00 | 4.0e-03 | 1.02 | 98.4% | yes |" in text
    assert "Not run: llama.cpp: not installed." in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert tables.main([str(document), "--check"]) == 0
    content = json.loads(path.read_text())
    content["rows"][0]["right"] = False
    path.write_text(json.dumps(content))
    assert tables.main([str(document), "--check"]) == 1


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md", "docs/vllm.md"])
def test_the_documentation_says_what_the_results_say(page):
    assert tables.main(["--check", str(Path(tables.__file__).parent.parent / page)]) == 0
