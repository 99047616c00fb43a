"""What is asked of vLLM servers, and what is made of their answers: no server, no vLLM."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import time

import pytest

from benchmarks import vllm_parts
from benchmarks import vllm_plan
from benchmarks import vllm_serve
from benchmarks import vllm_serve_result
from benchmarks import vllm_serve_table
from benchmarks import vllm_server
from benchmarks.vllm_client import Answer
from benchmarks.vllm_client import Driven
from benchmarks.vllm_client import take
from benchmarks.vllm_plan import Lengths
from benchmarks.vllm_plan import Request
from benchmarks.vllm_server import Server
from benchmarks.vllm_where import REST
from benchmarks.vllm_where import STEP
from benchmarks.vllm_where import Where

LENGTHS = Lengths(vocabulary=1000, prompt=64, tokens=16)


def test_arrivals_are_random_and_the_same_again():
    asked = vllm_plan.load(LENGTHS, 2000, 8.0, 0)
    gaps = [b.at - a.at for a, b in itertools.pairwise(asked)]
    assert statistics.mean(gaps) == pytest.approx(1 / 8, rel=0.1)
    assert statistics.stdev(gaps) == pytest.approx(1 / 8, rel=0.15)  # as of a Poisson process
    assert asked == vllm_plan.load(LENGTHS, 2000, 8.0, 0)
    assert asked != vllm_plan.load(LENGTHS, 2000, 8.0, 1)
    assert {len(r.prompt) for r in asked} == set(range(8, 65))
    assert {r.tokens for r in asked} == set(range(2, 17))


def test_a_burst_comes_at_once():
    asked = vllm_plan.burst(LENGTHS, 64, 0)
    assert {(r.at, r.tokens) for r in asked} == {(0.0, 16)}
    assert min(len(r.prompt) for r in asked) >= 32


def test_groups_of_all_sizes():
    asked = vllm_plan.groups(LENGTHS, 254, 0)
    sizes = sorted(sum(r.at == at for r in asked) for at in {r.at for r in asked})
    assert sizes == sorted(2 * vllm_plan.SIZES)
    assert len(vllm_plan.groups(LENGTHS, 5, 0)) == 5
    assert all(1 <= len(r.prompt) <= 64 and 1 <= r.tokens <= 16 for r in asked)


def answer(tokens, arrived, due=0.0, likely=(), failure=None):
    return Answer(Request([1], len(tokens)), due, list(tokens), list(arrived), list(likely), failure)


def test_tokens_that_come_together_share_their_time():
    assert vllm_parts.between([1.0, 1.5, 2.5, 2.5]) == [0.5, 0.5, 0.5]
    assert vllm_parts.between([1.0, 1.0, 2.0]) == [1.0]  # nothing is known of a second token in the first event


def test_times_of_a_part():
    done = [answer([1, 2], [i + 0.1, i + 0.3], due=i) for i in range(9)]
    slow = answer([1, 2], [10.0, 12.0], due=9.0)
    lost = answer([], [], failure="no end")
    found = vllm_parts.times([Driven([*done, slow, lost], 3, 10.0)])
    assert (found["answered"], found["of"], found["most"], found["failures"]) == (10, 11, 3, ["no end"])
    assert found["first_ms"] == pytest.approx([100, 1000])
    assert found["token_ms"] == pytest.approx([200, 2000])
    assert found["tokens_s"] == pytest.approx(2.0)
    nothing = vllm_parts.times([Driven([lost], 1, 1.0)])
    assert vllm_parts.ratios(found, nothing) == {"first_ms": None, "token_ms": None, "tokens_s": None}


@pytest.mark.parametrize(("factor", "met"), [(1.02, True), (1.05, False)])
def test_the_bar_of_a_burst(factor, met):
    stock = {"first_ms": [100.0, 200.0], "token_ms": [2.0, 3.0], "tokens_s": 1000.0}
    ours = {"first_ms": [100.0 * factor, 200.0], "token_ms": [1.0, 3.0], "tokens_s": 1000.0}
    ratio = vllm_parts.ratios(ours, stock)
    assert ratio["token_ms"] == [2.0, 1.0]
    assert vllm_parts.met(ratio) is met


def text(tokens, other, gap):
    """Every token ahead of ``other`` by ``gap``."""
    return answer(tokens, [1.0] * len(tokens), likely=[[(t, -0.5), (other, -0.5 - gap)] for t in tokens])


@pytest.mark.parametrize(("gap", "right"), [(0.01, True), (0.5, False)])
def test_texts_are_judged_by_the_noise_of_stock(gap, right):
    alone = [text([5, 6, 7], 8, gap), text([1, 2], 3, 1.0), text([4], 3, 1.0)]
    stock = [text([5, 6, 7], 8, gap + 0.01), text([1, 2], 3, 1.0), text([4], 3, 1.0)]
    ours = [text([5, 8, 7], 6, gap), text([1, 2], 3, 1.0), answer([], [], failure="no end")]
    found = vllm_parts.agreement(ours, stock, alone)
    assert found["partings"] == [(1, pytest.approx(gap))]
    assert (found["equal"], found["of"], found["stock_equal"], found["right"]) == (1, 2, 2, right)
    assert found["noise"] == pytest.approx(0.01)


def test_a_stream_of_events():
    found = answer([], [])
    logprobs = {"top_logprobs": [{"token_id:7": -0.1, "token_id:9": -2.5}]}
    events = [{"choices": [{"token_ids": [7], "logprobs": logprobs}]}, {"choices": [{"token_ids": [8, 9]}]}]
    for i, event in enumerate(events):
        take(found, b"data: " + json.dumps(event).encode() + b"\n", float(i))
    take(found, b"data: [DONE]\n", 9.0)
    take(found, b"\n", 9.0)
    assert (found.tokens, found.arrived, found.likely) == ([7, 8, 9], [0.0, 1.0, 1.0], [[(7, -0.1), (9, -2.5)]])
    with pytest.raises(ValueError, match="too long"):
        take(found, b'data: {"error": "too long"}\n', 1.0)


def test_what_a_log_says():
    log = (
        "M: decode steps of 1 token are one launch (6.1 s, cache miss)\nM: decode steps of 2 tokens are one launch\n"
        "M: decode steps are left to vLLM: LoRA\n"
    )
    assert vllm_server.launches(log) == {"sizes": [1, 2], "refusals": ["LoRA"]}


@pytest.mark.parametrize("failure", [None, TimeoutError])
def test_a_server_is_ended_with_its_processes(tmp_path, monkeypatch, failure):
    """A ``vllm`` that starts another process and does not care for signals."""
    package = tmp_path / "found" / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    (package / "main.py").write_text(
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600'])\nprint('started', flush=True)\ntime.sleep(600)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vllm_server, "END", 0.5)
    server = Server("stock", tmp_path / "server", [], tmp_path / "found")
    with contextlib.suppress(TimeoutError), server:
        while "started" not in server.said():
            time.sleep(0.05)
        assert vllm_server.resident(server.process.pid) > 0
        if failure is not None:
            raise failure
    assert vllm_server.resident(server.process.pid) == 0
    assert server.environment()["VLLM_CACHE_ROOT"].startswith(str(server.folder))


def test_memory_of_a_group():
    assert vllm_server.resident(os.getpgid(0)) > 1 << 20


def made(**parts):
    """A result as it is written."""
    given = vllm_serve.parse(["--shape", "135m", "--limit", "60"])
    facts = {"launches": {"onelaunch": {"sizes": [1], "refusals": []}}, "unfinished": None}
    stamped = vllm_serve_result.stamped(parts, facts, given)
    return {"kind": "vllm-serve", "model": "M", "layers": None, "dtype": "bfloat16", "vllm": "0.32.0", **stamped}


def start(seconds):
    return {"healthy_s": seconds, "first_s": seconds + 1, "together": False}


def times(factor=1.0):
    found = {"first_ms": [10 * factor, 20.0], "token_ms": [1.0, 2.0], "tokens_s": 100.0}
    return found | {"answered": 2, "of": 2, "failures": [], "most": 2, "seconds": 1.0}


def test_parts_of_several_commands(tmp_path):
    """Starts are kept by kind, other parts are replaced, and another model begins anew."""
    path = tmp_path / "result.json"
    cold = made(startup={"onelaunch": {"cold": start(100)}}, burst={"stock": times()})
    assert vllm_serve_result.merged(path, cold) == cold
    path.write_text(json.dumps(cold))
    cached = made(startup={"onelaunch": {"cached": start(50)}, "stock": {"cached": start(30)}})
    found = vllm_serve_result.merged(path, cached)["parts"]
    assert found["startup"]["onelaunch"] == {"cold": start(100), "cached": start(50)}
    assert found["burst"]["stock"] == times()
    other = cached | {"model": "N"}
    assert vllm_serve_result.merged(path, other) == other


def test_the_table():
    parts = {
        "startup": {"onelaunch": {"cold": start(100)}, "stock": {"cold": start(50), "cached": start(30)}},
        "load": {"onelaunch": times()},
        "burst": {"onelaunch": times(2.0), "stock": times()},
    }
    vllm_serve_result.judge(parts, {})
    assert vllm_serve_result.right(parts)
    found = vllm_serve_table.markdown(made(**parts))
    assert "| startup | s to the first answer, cold | 101.00 | 51.00 | 0.50 | – |" in found
    assert "| startup | s to the first answer, cached | – | 31.00 | – | – |" in found
    assert "ms to the first token, median | 20.00 | 10.00 | 0.50 | NO |" in found
    assert "ms to the first token, median | 10.00 | – | – | – |" in found
    assert "Numbers of sequences that have a launch: 1." in found


def test_what_is_not_right():
    lost = times() | {"answered": 1}
    assert not vllm_serve_result.right({"load": {"stock": lost}})
    assert not vllm_serve_result.right({"endurance": {"stock": times() | {"flat": False}}})
    assert not vllm_serve_result.right({"endurance": {"agreement": {"right": False}}})


def test_parts_of_a_step():
    """A part's time is without the parts that it calls, and what is not asked for is not timed."""
    where = Where()
    inner = where._timed("forward", lambda: time.sleep(0.03))
    outer = where._timed("inputs", lambda: (time.sleep(0.01), inner()))
    outer()
    where.step(lambda: None)
    _, took = where.step(lambda: (outer(), time.sleep(0.02)))
    (_, step) = where.steps
    assert step["forward"] == pytest.approx(0.03, abs=0.008)
    assert step["inputs"] == pytest.approx(0.01, abs=0.008)
    assert step[REST] == pytest.approx(0.02, abs=0.008)
    assert sum(s for name, s in step.items() if name != STEP) == pytest.approx(took) == step[STEP]


def test_options_that_do_not_exist(capsys):
    with pytest.raises(SystemExit):
        vllm_serve.parse(["--parts", "load,speed"])
    assert "accepted: startup, load, burst, endurance" in capsys.readouterr().err
    assert vllm_serve.parse(["--engines", "stock"]).engines == ["stock"]
