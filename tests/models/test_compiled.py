"""Generation with the decode step as a program: the same tokens as ``model.generate``, one launch and no operators."""

from __future__ import annotations

import pytest

from onelaunch.cli.programs import programs_used
from onelaunch.cli.programs import snapshot
from onelaunch.errors import CompilerError
from onelaunch.errors import OptionError
from onelaunch.models.generation import Generator
from onelaunch.models.plain import generate_plain
from onelaunch.models.sampling import Sampler
from onelaunch.runtime.targets import select
from tests.models.test_generation import PROMPTS
from tests.models.test_generation import loaded

OWN_OPERATORS = {"aten.argmax.default", "aten.add_.Tensor", "aten.index_fill_.int_Scalar"}  # of the loop, not the step


@pytest.fixture(params=["reference", "cpu"])
def target(request):
    try:
        select(request.param)
    except CompilerError as absent:
        pytest.skip(str(absent))
    return request.param


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["one", "padded"])
def test_tokens_launches_and_operators(target, prompts):
    model, before = loaded(), snapshot()
    ours = Generator(model, options={"target": target, "fallback": "error"}).generate(prompts, 16)
    assert ours.tokens == generate_plain(model, prompts, 16).tokens
    used = programs_used(before)
    assert used is not None
    assert used.launches == ours.steps == 15
    assert used.fallbacks == ()
    # The reference target computes with torch itself; the CPU target only allocates what it returns.
    if target == "cpu":
        assert set(ours.operators) - OWN_OPERATORS == {"aten.empty_strided.default"}
        assert sum(ours.operators.values()) <= 4


def test_each_new_generation_binds_its_own_cache(target):
    """The second generation has other cache tensors at other addresses; the first one's results must not leak in."""
    model = loaded()
    generator = Generator(model, options={"target": target})
    first, second, again = (generator.generate([prompt], 12).tokens for prompt in (PROMPTS[0], PROMPTS[2], PROMPTS[0]))
    assert first == again == generate_plain(model, PROMPTS[:1], 12).tokens
    assert second == generate_plain(model, PROMPTS[2:], 12).tokens


def test_sampling(target):
    model = loaded()
    ours = Generator(model, options={"target": target}).generate(PROMPTS, 12, Sampler(0.8, 0.9, seed=5))
    assert ours.tokens == generate_plain(model, PROMPTS, 12, Sampler(0.8, 0.9, seed=5)).tokens


def test_a_damaged_weight_changes_the_tokens(target):
    """The control: tokens that agree would mean nothing if they agreed with a damaged model too."""
    import torch

    model, damaged = loaded(), loaded()
    with torch.no_grad():
        damaged.model.model.layers[1].self_attn.v_proj.weight[5] *= -3
    ours = Generator(damaged, options={"target": target}).generate(PROMPTS, 16)
    assert ours.tokens != generate_plain(model, PROMPTS, 16).tokens


def test_what_the_backend_refuses_is_a_plain_error():
    with pytest.raises(OptionError, match="'quantum'"):
        Generator(loaded(), options={"target": "quantum"}).generate(PROMPTS[:1], 4)
