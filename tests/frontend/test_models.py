"""Unmodified transformers models, in both forms in which users meet the backend."""

import copy

import pytest
import torch

from onelaunch.frontend import cached
from onelaunch.frontend import compiler

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def tiny(kind, **extra):
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **extra})
    config.pad_token_id = config.eos_token_id = None
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


MODELS = {
    "llama": {},
    "gemma2": {"sliding_window": 16, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


@pytest.mark.parametrize("kind", MODELS)
def test_direct(harness, kind):
    model = tiny(kind, **MODELS[kind])
    prompt = torch.randint(1, 101, (2, 5))
    step = harness.compile(model, dynamic=None)
    logits = []
    for call in (model, step):
        cache = transformers.StaticCache(config=model.config, max_cache_len=32)
        model(input_ids=prompt, past_key_values=cache, use_cache=True)
        outs, token = [], prompt[:, -1:]
        for _ in range(4):
            out = call(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            token = out[:, -1].argmax(-1, keepdim=True)
            outs.append(out)
        logits.append(torch.cat(outs, 1))
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    assert harness.launches == 4 and not harness.fallbacks and harness.torch_parts == 0
    last = harness.compilations[-1]
    assert last.record.wrapped is None and last.assembly.results is not None
    if not getattr(model.config, "sliding_window", None):  # those count steps in a Python integer
        assert last.assembly.run is harness.segments[-1]
    parameters = sum(1 for _ in model.parameters())
    assert len(harness.segments[-1].constants) == parameters


@pytest.mark.parametrize(("kind", "padded"), [("llama", False), ("gemma2", True)])
def test_generate(harness, monkeypatch, named_backend, kind, padded):
    monkeypatch.setattr(compiler, "_runtime", lambda: harness.make)
    monkeypatch.setattr(compiler, "_lowering_table", lambda: harness.refuse)
    model = tiny(kind, **MODELS[kind])
    prompt = torch.randint(1, 101, (2, 5))
    mask = torch.ones_like(prompt)
    if padded:
        mask[1, :2] = 0
    kwargs = {
        "attention_mask": mask,
        "max_new_tokens": 8,
        "min_new_tokens": 8,
        "do_sample": False,
        "cache_implementation": "static",
        "pad_token_id": 0,
    }
    expected = model.generate(prompt, disable_compile=True, **kwargs)
    config = transformers.CompileConfig(backend=named_backend, mode=None, options={"cache": False})
    config._compile_all_devices = True
    got = copy.deepcopy(model).generate(prompt, compile_config=config, **kwargs)
    assert torch.equal(got, expected)
    assert harness.launches == 7 and not harness.fallbacks


def test_mode_is_accepted(harness, monkeypatch, named_backend, caplog):
    monkeypatch.setattr(compiler, "_runtime", lambda: harness.make)
    monkeypatch.setattr(cached.Entry, "_key", lambda *args: None)
    with caplog.at_level("INFO", logger="onelaunch"):
        step = torch.compile(lambda x: x + 1, backend=named_backend, mode="reduce-overhead")
        assert step(torch.zeros(2)).sum() == 2
    assert "no meaning" in caplog.text


def test_prefill_stays_in_torch(harness):
    model = tiny("llama")
    prompt = torch.randint(1, 101, (1, 40))
    cache = transformers.StaticCache(config=model.config, max_cache_len=64)
    other = transformers.StaticCache(config=model.config, max_cache_len=64)
    step = harness.compile(model)
    got = step(input_ids=prompt, past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(got, model(input_ids=prompt, past_key_values=other, use_cache=True).logits)
    assert "40 rows" in harness.fallbacks[0].reason and harness.launches == 0
