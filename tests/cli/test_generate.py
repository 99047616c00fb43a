"""``onelaunch generate`` on a tiny model: the answer, the table, and the same as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from onelaunch.models.plain import generate_plain
from onelaunch.models.source import load_model


@pytest.fixture
def tiny(tiny_folder):
    """Arguments for a short generation on the reference target, which needs no compiler."""
    return ["--model", tiny_folder, "--target", "reference", "--max-new-tokens", "8", "--no-cached-start"]


def plain(folder, *prompts: str) -> list[list[int]]:
    model = load_model(folder)
    return generate_plain(model, [model.tokenizer(text).input_ids for text in prompts], 8).tokens


def test_json_says_what_happened(command, tiny, tiny_folder):
    outcome = command("generate", "hello there", "--raw", "--json", "--compare", *tiny)
    assert outcome.status == 0, outcome.err
    said = outcome.json
    (answer,) = said["answers"]
    assert [answer["tokens"]] == plain(tiny_folder, "hello there")
    assert said["tokens"] == len(answer["tokens"]) == 8
    assert said["decode_steps"] == 7
    assert said["launches_per_token"] == 1
    assert said["programs"]["launches"] == 7
    assert said["programs"]["fallbacks"] == []
    assert said["programs"]["tasks"] > 0
    assert said["programs"]["weight_bytes"] > 100_000
    assert (said["compile_seconds"]["cold"] or said["compile_seconds"]["cached"]) > 0
    assert said["compare"]["tokens_agree"]
    assert said["compare"]["equal_given_same_tokens"] == 8
    assert said["model"]["weights"] == "float32 as stored"


def test_text_and_table(command, tiny, tiny_folder):
    outcome = command("generate", "--prompt", "hello there", "--raw", "--compare", *tiny)
    assert outcome.status == 0, outcome.err
    text, table = outcome.out.rsplit("\n\n", 1)
    model = load_model(tiny_folder)
    assert text == model.tokenizer.decode(plain(tiny_folder, "hello there")[0])
    rows = dict(line.split("  ", 1) for line in table.strip().splitlines() if not line.startswith(" "))
    rows = {label: value.strip() for label, value in rows.items()}
    assert rows["tokens"] == "8"
    assert rows["launches per token"] == "1"
    assert rows["tokens agree"] == "yes, all 8"
    assert float(rows["tokens/s"]) > 0
    assert (rows["compile time, cold"] + rows["compile time, cached"]).strip("–").endswith(" s")
    assert {"tasks", "events", "weights per token", "ratio", "torch operators per token, outside"} <= set(rows)


def test_a_chat_on_standard_input(command, tiny):
    first = command("generate", "--json", *tiny, stdin="hello").json
    chat = [{"role": "user", "content": "hello"}]
    assert command("generate", "--json", *tiny, stdin=json.dumps(chat)).json["answers"] == first["answers"]
    longer = [*chat, {"role": "assistant", "content": "oh"}, {"role": "user", "content": "hello"}]
    second = command("generate", "--json", *tiny, stdin=json.dumps(longer)).json
    assert second["answers"][0]["prompt_tokens"] > first["answers"][0]["prompt_tokens"]


def test_a_conversation_at_the_terminal(command, tiny, monkeypatch):
    lines = iter(["hello", "and then", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    monkeypatch.setattr("onelaunch.cli.generate.at_a_terminal", lambda: True)
    outcome = command("generate", *tiny)
    assert outcome.status == 0, outcome.err
    assert "Chat with the model" in outcome.err
    assert outcome.out.count("launches per token") == 1


def test_a_batch_is_decoded_together(command, tiny, tiny_folder, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("hello there\n\nthe quick brown fox\n", encoding="utf-8")
    said = command("generate", "--batch", path, "--raw", "--json", "--compare", *tiny).json
    assert [answer["tokens"] for answer in said["answers"]] == plain(tiny_folder, "hello there", "the quick brown fox")
    assert said["decode_steps"] == 7
    assert said["launches_per_token"] == 1
    assert said["compare"]["tokens_agree"]
    shown = command("generate", "--batch", path, "--raw", *tiny).out
    assert "> hello there\n" in shown
    assert "> the quick brown fox\n" in shown
    assert "16 in 2 rows" in shown


def test_sampling_follows_the_seed(command, tiny):
    def tokens(seed: int) -> list[int]:
        arguments = ["--temperature", "1.5", "--top-p", "0.95", "--seed", str(seed), "--raw", "--json"]
        return command("generate", "hello", *arguments, *tiny).json["answers"][0]["tokens"]

    assert tokens(1) == tokens(1) != tokens(2)


def test_one_token_needs_no_program(command, tiny):
    arguments = [*tiny, "--max-new-tokens", "1"]
    said = command("generate", "hello", "--raw", "--json", *arguments).json
    assert said["tokens"] == 1
    assert said["programs"] is None
    assert said["launches_per_token"] is None
    assert "–" in command("generate", "hello", "--raw", *arguments).out


def test_cold_and_cached_starts_are_measured(tiny, tmp_path):
    """In fresh processes, as a user meets it: the first compiles, the second that it starts finds the cache warm."""
    arguments = [str(argument) for argument in tiny if argument != "--no-cached-start"]
    done = subprocess.run(
        [sys.executable, "-m", "onelaunch.cli", "generate", "hello", "--raw", "--json", *arguments],
        env=os.environ | {"ONELAUNCH_CACHE": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds = json.loads(done.stdout)["compile_seconds"]
    assert 0 < seconds["cached"] < seconds["cold"]
    assert "Compiling the decode step" in done.stderr
