"""The parts of the GPU benchmark that need no GPU: results and verdicts, merged rows, tables, turns."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from benchmarks import gpu_grid
from benchmarks import gpu_peers
from benchmarks import gpu_result
from benchmarks import gpu_step
from benchmarks import gpu_table
from benchmarks import gpu_turns
from benchmarks import result
from benchmarks.configurations import SHAPES
from benchmarks.configurations import TITLES
from benchmarks.configurations import configuration
from benchmarks.gpu_model import Step
from benchmarks.gpu_model import random_model
from benchmarks.rounds import Timing

QUICK = Timing((1e-4, 2e-4, 3e-4))


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def model():
    config = configuration("135m", layers=2)
    config.vocab_size = 1009
    return random_model(config, "cpu")


def test_configurations_are_those_of_their_makers():
    assert set(TITLES) == set(SHAPES)
    llama = configuration("1b")
    assert llama.rope_parameters["rope_type"] == "llama3"
    assert llama.rope_parameters["factor"] == 32.0
    assert (llama.num_hidden_layers, configuration("8b", layers=3).num_hidden_layers) == (16, 3)
    counts = {name: sum(p.numel() for p in _meta(name).parameters()) / 1e9 for name in ("135m", "8b", "llama-8b")}
    assert counts == pytest.approx({"135m": 0.1345, "8b": 8.191, "llama-8b": 8.030}, abs=1e-3)


def _meta(name):
    import transformers

    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(configuration(name), dtype=torch.bfloat16)


@pytest.mark.parametrize("batch", [1, 10])
def test_results_sizes_and_verdicts(model, batch, monkeypatch):
    monkeypatch.setattr(gpu_peers, "time_replays", lambda call, rewind, replays: QUICK)
    monkeypatch.setattr(gpu_step, "read_bandwidth", lambda: 4e12)
    before = [p.clone() for p in model.parameters()]
    found, exact, sizes = gpu_step.measure(model, batch, 30, ["eager"], 3)
    size = sizes["bytes"]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    entry = gpu_result.entry(found["eager"], exact, found["eager"].results)
    assert entry["step"]["right"] and entry["layers"]["right"] and 1e-3 < entry["step"]["error"] < 0.05
    assert entry["step"]["us"] == 200
    rows = min(batch, 4) * 8
    assert exact["step"].shape == (rows, 1009) and exact["layers"].shape == (rows, 576)
    weights = 2 * sum(p.numel() for p in model.parameters())
    cached = batch * 30 * 2 * 3 * 64 * 2 * 2
    assert size["step"] == weights + cached + batch * 576 * 2
    assert size["step"] - size["layers"] == 2 * 1009 * 576


def test_a_damaged_cache_slot_is_not_right(model):
    step = Step(model, 3, 30)
    with torch.no_grad():
        eager = gpu_peers.prepare("eager", step)[1]
        exact = step.exact()
        step.cache.layers[0].values[:, :, 5] += 1
        wrong = gpu_peers.prepare("eager", step)[1]
    wrong.timings = {"step": QUICK}
    assert not gpu_result.entry(wrong, exact, eager.results)["step"]["right"]


def test_rows_of_a_batch_are_decoded_as_they_are_alone(model):
    """Cached rows repeat: row 9 of ten holds what row 1 of three holds, and is fed its own tokens."""
    few, many = Step(model, 3, 20), Step(model, 10, 20)
    torch.testing.assert_close(few.cache.layers[1].keys[1], many.cache.layers[1].keys[9])
    many._tokens[:, 9] = few._tokens[:, 1]
    with torch.no_grad():
        torch.testing.assert_close(few.run(model)[1], many.run(model)[9], rtol=0.05, atol=0.05)


def test_a_peer_that_fails_says_why(model, monkeypatch):
    def refuse(*args, **named):
        raise ValueError("no such thing\nat all")

    monkeypatch.setattr(gpu_peers, "calls_of", lambda name, step, target: {"step": refuse})
    _, made = gpu_peers.prepare("Inductor", Step(model, 1, 10))
    assert gpu_result.entry(made, {}, {}) == {"failure": "ValueError: no such thing"}


def test_vllm_that_is_not_there_says_why(tmp_path):
    found = gpu_peers.run_vllm(str(tmp_path), "135m", [(1, 178), (4, 178)], None)
    assert set(found) == {(1, 178), (4, 178)}
    assert all("Error" in made.failure and not made.timings for made in found.values())


def run(start="a", command="one"):
    return {
        "machine": {"gpu": "A GPU", "driver": "1.2", "start": start},
        "versions": {"torch": "2.11"},
        "commit": "abc",
        "modified": False,
        "command": command,
        "date": "2026-01-01",
    }


def row(batch, **peers):
    return {"model": "M", "layers": 2, "batch": batch, "context": 178, "peers": peers}


OURS = {
    "layers": {"us": 50.0, "error": 0.01, "of_eager": 0.5, "right": True},
    "step": {"us": 100.0, "error": 0.01, "of_eager": 0.6, "right": True},
}


def test_peers_of_one_machine_come_together_and_others_are_dropped():
    empty = {"name": "n", "kind": "gpu", "runs": [], "rows": []}
    one = gpu_result.merge(empty, run(), [row(1, onelaunch=OURS), row(2, onelaunch=OURS)])
    both = gpu_result.merge(one, run(command="two"), [row(1, vLLM={"layers": {"us": 75.0}})])
    assert set(both["rows"][0]["peers"]) == {"onelaunch", "vLLM"}
    assert [r["command"] for r in both["runs"]] == ["one", "two"]
    later = gpu_result.merge(both, run("b", "three"), [row(1, onelaunch=OURS)])
    assert set(later["rows"][0]["peers"]) == {"onelaunch"}
    assert [r["command"] for r in later["runs"]] == ["one", "three"]
    assert later["runs"][later["rows"][0]["peers"]["onelaunch"]["run"]]["command"] == "three"


def test_the_file_and_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(result, "FOLDER", tmp_path)
    peers = {"onelaunch": OURS, "vLLM": {"layers": {"us": 75.0}}, "Inductor": {"failure": "no"}}
    sizes = {"bytes": {"layers": 10**8, "step": 2 * 10**8}, "bytes_per_second": 4e12}
    path = gpu_result.add("sample", run(), [row(1, **peers) | sizes])
    text = gpu_table.markdown(json.loads(path.read_text()))
    assert "| M | 1 | 178 | 50 | 50% | 75 | 1.50 | 100 | 50% | – | – | – | – | – | – | 0.60 | yes |" in text
    assert "- M, batch 1, context 178, Inductor: no" in text
    assert "Read bandwidth beside these rows: 4,000 to 4,000 GB/s." in text
    assert "A GPU (driver 1.2); torch 2.11. Commit abc: `one`." in text
    wrong = OURS | {"step": OURS["step"] | {"right": False}}
    gpu_result.add("sample", run(), [row(1, onelaunch=wrong)])
    assert "| NO |" in gpu_table.markdown(json.loads(path.read_text()))


def test_options():
    given = gpu_step._parse(["--shapes", "8b,1b", "--batch", "1,32", "--peers", "onelaunch,Inductor"])
    assert (given.shapes, given.batch, given.context) == (["8b", "1b"], [1, 32], [178])
    for wrong in (["--shapes", "7b"], ["--peers", "vLLM"]):
        with pytest.raises(SystemExit):
            gpu_step._parse(wrong)


def test_the_grid_has_every_row_once_and_fits_the_gpu():
    own, theirs = [], []
    for job in gpu_grid.jobs():
        points = [(job.shape, b, c) for b in job.batches for c in job.contexts]
        (theirs if job.peers == ("vLLM",) else own).extend(points)
        assert job.bytes < (139 << 30) - gpu_grid.FP32
    assert len(own) == len(set(own)) == 2 * 18 + 4 * 4
    assert sorted(own) == sorted(theirs)


def test_the_grid_runs_what_is_missing_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(result, "FOLDER", tmp_path)
    monkeypatch.setattr(gpu_grid.Job, "command", lambda job, given: ["sh", "-c", f"test {job.batches[0]} != 8"])
    full = {peer: {} for peer in ("onelaunch", "op by op", "eager", "Inductor", "vLLM")}
    gpu_result.add("sample", run(), [row(1, **full) | {"model": "Qwen3-8B"}, row(2, **full) | {"model": "Qwen3-8B"}])
    stored = gpu_grid._stored("sample")
    one, two, eight = (gpu_grid.Job("8b", (n,), (178,), ("onelaunch",)) for n in (1, 4, 8))
    assert (one.done(stored), two.done(stored)) == (True, False)
    waiting = [two, eight]
    assert gpu_grid._run(waiting, None, 1 << 40, time.monotonic() + 20) == 1
    assert waiting == []
    assert gpu_grid._run([two], None, 1 << 40, 0) == 0


def test_those_that_measure_are_alone_and_go_before_those_that_prepare(tmp_path, monkeypatch):
    """One prepares, two wait to measure, one comes later to prepare: threads, each with files of its own."""
    monkeypatch.setattr(gpu_turns, "FOLDER", tmp_path)
    log, first = [], threading.Event()

    def take(name, turn, seconds):
        with turn():
            log.append(f"{name}+")
            if name == "a":
                first.wait(10)
            time.sleep(seconds)
            log.append(f"{name}-")

    threads = [
        threading.Thread(target=take, args=given)
        for given in (("a", gpu_turns.shared, 0), ("b", gpu_turns.alone, 0.1), ("c", gpu_turns.alone, 0.1),
                      ("d", gpu_turns.shared, 0))
    ]  # fmt: skip
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    first.set()
    for thread in threads:
        thread.join(10)
    assert log[:2] == ["a+", "a-"] and log[-2:] == ["d+", "d-"]
    assert log[2:6] in (["b+", "b-", "c+", "c-"], ["c+", "c-", "b+", "b-"])
