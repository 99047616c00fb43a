"""The generation loop against ``model.generate``, with any torch.compile backend for its step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Gemma3ForCausalLM
from transformers import Gemma3TextConfig
from transformers import MistralConfig
from transformers import MistralForCausalLM
from transformers import OPTConfig
from transformers import OPTForCausalLM

from onelaunch.errors import UserError
from onelaunch.models.agreement import compare_tokens
from onelaunch.models.decode_state import cache_capacity
from onelaunch.models.generation import Generator
from onelaunch.models.loaded import LoadedModel
from onelaunch.models.plain import generate_plain
from onelaunch.models.sampling import Sampler
from tests.models.tiny import tiny_model
from tests.models.tiny import tiny_tokenizer

PROMPTS = [[10, 20, 30, 40, 50], [7, 8], [100, 101, 102, 103, 104, 105, 106, 107, 108]]


def loaded(model=None, stop_ids=()) -> LoadedModel:
    model = tiny_model() if model is None else model
    return LoadedModel(model, tiny_tokenizer(), Path("tiny"), "tiny", "random", frozenset(stop_ids))


def sliding_model(window: int):
    torch.manual_seed(0)
    config = MistralConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=263, sliding_window=window, max_position_embeddings=256, initializer_range=0.2,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def mixed_model(window: int):
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=263, sliding_window=window, max_position_embeddings=256, initializer_range=0.2,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    return Gemma3ForCausalLM(config).eval()


def learned_positions_model():
    torch.manual_seed(0)
    config = OPTConfig(
        hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=263, word_embed_proj_dim=64,
        max_position_embeddings=256, init_std=0.2,
    )  # fmt: skip
    return OPTForCausalLM(config).eval()


MODELS = {
    "plain": tiny_model,
    "window": lambda: sliding_model(16),
    "window-wider-than-cache": lambda: sliding_model(200),
    "mixed-windows": lambda: mixed_model(16),
    "learned-positions": learned_positions_model,
}


@pytest.mark.parametrize(
    "prompts", [PROMPTS[:1], PROMPTS, [PROMPTS[0], PROMPTS[0][::-1]]], ids=["one", "padded", "even"]
)
@pytest.mark.parametrize("name", MODELS)
def test_tokens_equal_those_of_generate(name, prompts):
    model = loaded(MODELS[name]())
    ours = Generator(model, backend="eager").generate(prompts, 32)
    theirs = generate_plain(model, prompts, 32)
    assert [len(row) for row in ours.tokens] == [32] * len(prompts)
    assert str(compare_tokens(ours.tokens, theirs.tokens)) == f"yes, all {32 * len(prompts)}"


def test_another_prompt_gives_other_tokens():
    generator = Generator(loaded(), backend="eager")
    assert generator.generate(PROMPTS[:1], 8).tokens != generator.generate(PROMPTS[1:2], 8).tokens


def test_rows_stop_each_on_their_own():
    whole = Generator(loaded(), backend=None).generate(PROMPTS, 32).tokens
    stop = whole[1][3]
    model = loaded(stop_ids=[stop])
    seen = []
    ours = Generator(model, backend="eager").generate(
        PROMPTS, 32, on_token=lambda row, token: seen.append((row, token))
    )
    expected = [row[: row.index(stop)] if stop in row else row for row in whole]
    assert ours.tokens == expected
    assert ours.tokens == generate_plain(model, PROMPTS, 32).tokens
    assert len(ours.tokens[1]) < 4
    for row, tokens in enumerate(expected):
        assert [token for r, token in seen if r == row] == tokens
    assert ours.decode_tokens <= sum(len(row) for row in expected)


def test_sampling_repeats_with_the_seed_and_agrees_with_generate():
    model = loaded()
    first, second = (Generator(model, "eager").generate(PROMPTS, 16, Sampler(0.8, 0.9, seed=3)) for _ in range(2))
    assert first.tokens == second.tokens
    assert generate_plain(model, PROMPTS, 16, Sampler(0.8, 0.9, seed=3)).tokens == first.tokens
    assert Generator(model, "eager").generate(PROMPTS, 16, Sampler(0.8, 0.9, seed=4)).tokens != first.tokens


class CountingBackend:
    """Runs the graph as it is, and counts graphs and calls."""

    def __init__(self):
        self.graphs, self.calls = 0, 0

    def __call__(self, module, inputs):
        self.graphs += 1

        def run(*args):
            self.calls += 1
            return module.forward(*args)

        return run


def test_one_graph_serves_every_step_and_every_prompt_of_a_capacity():
    backend = CountingBackend()
    generator = Generator(loaded(), backend=backend)
    for prompts in (PROMPTS[:1], PROMPTS[1:2], PROMPTS[:1]):
        generator.generate(prompts, 20)
    assert (backend.graphs, backend.calls) == (1, 3 * 19)
    generator.generate(PROMPTS, 20)
    assert backend.graphs == 2


def test_a_sliding_model_needs_three_graphs():
    backend = CountingBackend()
    Generator(loaded(sliding_model(16)), backend=backend).generate(PROMPTS[:1], 40)
    assert backend.graphs == 3


def test_operators_are_counted_on_compiled_code_only():
    """With a backend that computes nothing in torch, what is left is the loop's own: sampling and counters."""

    def silent(module, inputs):
        logits = torch.zeros(1, 1, 263)
        return lambda *args: (logits,)

    counted = Generator(loaded(), backend=silent).generate(PROMPTS[:1], 8).operators
    assert counted == {"aten.argmax.default": 1, "aten.add_.Tensor": 1}
    whole = Generator(loaded(), backend=None).generate(PROMPTS[:1], 8).operators
    assert sum(whole.values()) > 100


def test_speed_leaves_out_the_steps_that_compile():
    result = Generator(loaded(), backend="eager").generate(PROMPTS[:1], 10)
    assert result.steps == 9
    assert result.decode_tokens == 7  # nine steps, one compiled and one counted
    assert result.build_seconds > 0
    assert result.tokens_per_second == pytest.approx(7 / result.decode_seconds)
    assert Generator(loaded(), backend="eager").generate(PROMPTS[:1], 1).tokens_per_second is None


@pytest.mark.parametrize(
    ("prompts", "new", "words"),
    [
        ([[1, 2]], 0, "max-new-tokens 0 is not accepted"),
        ([[1, 2]], -4, "max-new-tokens -4 is not accepted"),
        ([], 4, "the prompt is empty"),
        ([[1], []], 4, "the prompt is empty"),
        ([[1] * 250], 7, "a prompt of 250 tokens and 7 new ones do not fit: the model has 256 positions"),
    ],
)
def test_refused(prompts, new, words):
    with pytest.raises(UserError, match=words):
        Generator(loaded(), backend="eager").generate(prompts, new)


def test_the_last_position_can_be_used():
    ours = Generator(loaded(), backend="eager").generate([[1] * 250], 6)
    assert len(ours.tokens[0]) == 6


def test_capacities_are_few():
    assert [cache_capacity(n, 8192) for n in (1, 128, 129, 1000, 8000, 8192)] == [128, 128, 256, 1024, 8192, 8192]
    assert cache_capacity(100, 100) == 100
    assert cache_capacity(30, 100) == 100


def test_the_stored_generation_config_neither_changes_the_comparison_nor_is_changed():
    model = loaded()
    stored = model.model.generation_config
    stored.repetition_penalty = 5.0
    assert generate_plain(model, PROMPTS, 16).tokens == Generator(model, "eager").generate(PROMPTS, 16).tokens
    assert model.model.generation_config is stored
