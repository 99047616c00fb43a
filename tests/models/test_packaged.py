"""The packaged default model: real weights, a real tokenizer, and a sensible answer."""

from __future__ import annotations

import json
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch

from onelaunch.models.build import ModelLoadError
from onelaunch.models.generation import Generator
from onelaunch.models.gguf_header import GgufHeader
from onelaunch.models.gguf_reader import TensorList
from onelaunch.models.packaged import packaged_model
from onelaunch.models.source import load_model

pytestmark = pytest.mark.packaged


@pytest.fixture(scope="module")
def packaged():
    try:
        packaged_model()
    except ModelLoadError as absent:
        pytest.skip(str(absent))
    return load_model()


def test_what_it_says_of_itself(packaged):
    assert packaged.weights == "210 Q4_1, 61 F32, 1 Q8_0 tensors dequantised to bfloat16"
    assert packaged.limit == 8192
    assert packaged.tokenizer.convert_ids_to_tokens(list(packaged.stop_ids)) == ["<|im_end|>"]
    assert packaged.model.config.tie_word_embeddings


def test_tensors_are_those_the_gguf_package_dequantises(packaged):
    """Both kinds of quantisation, and the rows of the query projection that the format interleaves."""
    tensors = {tensor.name: tensor for tensor in TensorList(GgufHeader.read(packaged.path), None)}
    config, layer = packaged.model.config, packaged.model.model.layers[7]

    def expected(name: str) -> np.ndarray:
        return gguf.dequantize(tensors[name].data, tensors[name].tensor_type)

    def same(parameter: torch.Tensor, values: np.ndarray) -> bool:
        return torch.equal(parameter, torch.from_numpy(values.copy()).bfloat16())

    assert same(packaged.model.model.embed_tokens.weight, expected("token_embd.weight"))
    assert same(layer.mlp.down_proj.weight, expected("blk.7.ffn_down.weight"))
    assert same(layer.input_layernorm.weight, expected("blk.7.attn_norm.weight"))
    for parameter, name, heads in (
        (layer.self_attn.q_proj.weight, "blk.7.attn_q.weight", config.num_attention_heads),
        (layer.self_attn.k_proj.weight, "blk.7.attn_k.weight", config.num_key_value_heads),
    ):
        rows = expected(name)
        halves = rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
        assert same(parameter, halves)
        assert not same(parameter, rows)


def test_tokens_of_hard_text(packaged):
    """Ids as llama.cpp gives them for the same file."""
    encode = packaged.tokenizer.encode
    assert encode("a  12 b345", add_special_tokens=False) == [81, 256, 33, 34, 278, 35, 36, 37]
    assert encode("<|im_start|>user\nhi<|im_end|>", add_special_tokens=False) == [1, 4093, 198, 6004, 2]
    for text in ["naïve 🦊 你好 — “quotes”", "\t\ttabs  and   spaces \r\n", "I'll we've DON'T it's"]:
        assert packaged.tokenizer.decode(encode(text, add_special_tokens=False)) == text


def test_it_answers_sensibly_in_bfloat16(packaged):
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = packaged.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    result = Generator(packaged, backend=None).generate([prompt], 24)
    assert "Paris" in packaged.tokenizer.decode(result.tokens[0])


def test_the_command_on_real_weights(packaged):
    """The main job, in a process of its own: one launch a token, nothing left to torch, the plain model's choices."""
    arguments = ["What is the capital of France?", "--max-new-tokens", "24", "--json", "--compare", "--no-cached-start"]
    done = subprocess.run(
        [sys.executable, "-m", "onelaunch.cli", "generate", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "Paris" in said["answers"][0]["text"]
    assert said["launches_per_token"] == 1
    assert said["programs"]["fallbacks"] == []
    assert said["programs"]["weight_bytes"] == sum(p.numel() * 2 for p in packaged.model.parameters())
    assert said["compare"]["equal_given_same_tokens"] >= said["tokens"] - 1  # bf16 may decide one near tie otherwise
    assert sum(said["operators_per_token"].values()) <= 3
    assert "dequantised to bfloat16" in done.stderr
