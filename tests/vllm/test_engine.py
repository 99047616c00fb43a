"""The real engine on a CPU: tokens are transformers', every uniform decode step is one launch, and nothing else is."""

from __future__ import annotations

import random

import pytest

from tests.vllm.tiny import greedy

LENGTHS = [(3, 0), (41, 0), (7, 2), (1, 5), (70, 6), (5, 30)]  # of prompts, and before which step they arrive


def requests(vocabulary: int = 500, count: int = 18, lengths=LENGTHS) -> list[dict]:
    """Requests of different lengths that arrive at different times."""
    generator = random.Random(3)
    return [
        {"id": str(i), "prompt": [generator.randrange(vocabulary) for _ in range(n)], "arrive": at, "max_tokens": count}
        for i, (n, at) in enumerate(lengths)
    ]


def wanted(model, asked: list[dict]) -> dict[str, list[int]]:
    return {r["id"]: greedy(model, r["prompt"], r["max_tokens"]) for r in asked}


def assert_launched(found: dict) -> None:
    """Each uniform decode step was one launch, and everything else was vLLM's own."""
    assert found["refusals"] == []
    assert found["decode"] > 20
    assert found["launches"] == found["decode"]
    assert sum(found["stock"].values()) == found["other"] + found["stock"].get("profiling", 0)
    assert set(found["stock"]) <= {"prefill", "profiling"}


@pytest.mark.parametrize("runner", ["0", "1"], ids=["V1", "V2"])
def test_requests_that_come_and_go(engine, made, runner):
    """More requests than slots, prompts in chunks, a prompt that was seen before, both model runners."""
    folder, model = made("qwen3")
    asked = requests()
    asked.append({**asked[4], "id": "again", "arrive": 45})
    found = engine(folder, asked, runner=runner, max_num_seqs=3, max_num_batched_tokens=32, enable_chunked_prefill=True)
    assert found["tokens"] == wanted(model, asked)
    assert_launched(found)
    assert (".gpu." in found["runner"] or found["runner"].endswith(".cpu.model_runner")) == (runner == "1"), found[
        "runner"
    ]


def test_a_corrupted_slot_is_seen(engine, made):
    """The positive control: one slot of one layer is written over, and the tokens are others."""
    folder, model = made("qwen3")
    asked = requests(lengths=[(20, 0)])
    found = engine(folder, asked, corrupt=4, enable_prefix_caching=False)
    tokens, right = found["tokens"]["0"], wanted(model, asked)["0"]
    assert tokens[:4] == right[:4]
    assert tokens != right


def test_programs_of_all_captured_sizes_are_made_together(engine, made):
    """One request alone, and yet there are programs for more."""
    folder, model = made("qwen3")
    asked = requests(lengths=[(9, 0)], count=24)
    found = engine(folder, asked, sizes=(4, 2, 1))
    assert {p.partition("@")[2].partition(",")[0] for p in found["programs"]} == {"8", "4", "2", "1"}, found["programs"]
    assert found["tokens"] == wanted(model, asked)
    assert_launched(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_other_models(engine, made, name):
    folder, model = made(name)
    asked = requests(lengths=[(3, 0), (33, 0), (9, 4)], count=24)
    found = engine(folder, asked)
    assert found["tokens"] == wanted(model, asked)
    assert_launched(found)


@pytest.mark.slow
def test_preemption_and_abort(engine, made):
    """A cache too small for all: requests lose their blocks and begin again; one is abandoned on its way."""
    folder, model = made("llama")
    asked = requests(lengths=[(40, 0), (40, 0), (40, 0)], count=40)
    asked.append({"id": "gone", "prompt": [1, 2, 3], "arrive": 3, "max_tokens": 60, "abort": 12})
    found = engine(folder, asked, num_gpu_blocks_override=11, max_model_len=128, enable_prefix_caching=False)
    assert found["preempted"] > 0
    right = wanted(model, asked)
    gone = found["tokens"].pop("gone")
    assert 0 < len(gone) < 60
    assert gone == right.pop("gone")[: len(gone)]
    assert found["tokens"] == right
    assert_launched(found)


@pytest.mark.slow
def test_sampling(engine, made):
    """Tokens drawn at a temperature: not the greedy ones, and launched all the same."""
    folder, model = made("llama")
    asked = [{**r, "temperature": 1.5} for r in requests(lengths=[(5, 0), (9, 0)], count=24)]
    found = engine(folder, asked)
    assert all(len(t) == 24 for t in found["tokens"].values())
    assert found["tokens"] != wanted(model, asked)
    assert_launched(found)
