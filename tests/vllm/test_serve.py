"""A real `vllm serve` with one flag, driven by OpenAI's client: several processes, streaming, a client that leaves."""

from __future__ import annotations

import concurrent.futures
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.vllm.drive import environment
from tests.vllm.tiny import greedy

pytestmark = pytest.mark.slow
START = 240  # seconds, on two slow cores


@pytest.fixture(scope="module")
def server(engine, made, tmp_path_factory):
    """A client, the model, and a function that ends the server and gives its log."""
    import openai

    folder, model = made("qwen3")
    place = tmp_path_factory.mktemp("serve")
    env = environment(place)
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = place / "log"
    command = [
        Path(sys.executable).with_name("vllm"), "serve", folder, "--served-model-name", "tiny", "--port", port,
        "--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", 256, "--max-num-seqs", 4, "--block-size", 16,
        "--skip-tokenizer-init", "-cc.backend=onelaunch",
    ]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(list(map(str, command)), env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(process, port, log)
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none"), model, lambda: _end(process, log)
    finally:
        process.kill()
        process.wait()


def _wait(process, port, log) -> None:
    limit = time.monotonic() + START
    while time.monotonic() < limit:
        assert process.poll() is None, log.read_text()[-6000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-6000:])


def _end(process, log) -> str:
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    return log.read_text()


def ask(client, prompt, count, **options):
    extra = {"ignore_eos": True, "return_token_ids": True}
    return client.completions.create(
        model="tiny", prompt=prompt, max_tokens=count, temperature=0, extra_body=extra, **options
    )


def test_clients(server):
    client, model, end = server
    prompts = [[1, 2, 3], [7] * 40, [5, 9], [11, 12, 13, 14], [200, 3], [8] * 20]
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        found = list(pool.map(lambda p: ask(client, p, 16).choices[0].token_ids, prompts))
    assert found == [greedy(model, p, 16) for p in prompts]

    streamed = [t for part in ask(client, [4, 5, 6], 16, stream=True) for c in part.choices for t in c.token_ids or []]
    assert streamed == greedy(model, [4, 5, 6], 16)

    leaving = ask(client, [3, 2, 1], 200, stream=True)
    next(iter(leaving))
    leaving.close()
    assert ask(client, [9, 8], 8).choices[0].token_ids == greedy(model, [9, 8], 8)

    log = end()
    assert re.search(r"decode steps of \d+ tokens? are one launch", log), log[-6000:]
    assert re.search(r"launches: \d\d+", log), log[-6000:]
